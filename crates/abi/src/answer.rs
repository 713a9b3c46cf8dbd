//! What the kernel asks the agent to answer.

use crate::Address;

/// A TCP segment to no connection of this host: its sender is to be told so by a reset.
pub const ANSWER_FORGOTTEN: u8 = 0;
/// A packet that begins a conversation that the policy does not admit: its sender is to be told so, of TCP by a
/// reset, of UDP by an ICMP error.
pub const ANSWER_REJECTED: u8 = 1;

/// A packet that was dropped, whose sender is to be told so.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerRequest {
    /// When it came, ns since boot (`CLOCK_BOOTTIME`).
    pub time: u64,
    /// Its source address.
    pub source: Address,
    /// Its destination address.
    pub destination: Address,
    /// Of a TCP segment what the reset bears, host byte order: its acknowledgement number if it is
    /// [`ANSWER_FORGOTTEN`], its sequence number if it is [`ANSWER_REJECTED`]. Of UDP 0.
    pub number: u32,
    /// Its source's port, host byte order.
    pub source_port: u16,
    /// Its destination's port, host byte order.
    pub destination_port: u16,
    /// [`ANSWER_FORGOTTEN`] or [`ANSWER_REJECTED`].
    pub kind: u8,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// Which way it went: [`super::Direction::index`]. This host's own address is its destination if that is
    /// ingress, its source if it is egress.
    pub direction: u8,
    /// Zero.
    pub reserved: [u8; 5],
}
const _: () = assert!(size_of::<AnswerRequest>() == 56);
