//! Flows: tracked two-way conversations.

use super::Address;

/// The tuple of the packet that started the flow, its zone and its direction.
///
/// A packet is looked up by its own tuple (it goes the way that the flow was started) or, as
/// a reply, by its tuple reversed and the opposite direction. So a flow that an overlay peer
/// started is never continued by an exchange, and one that was started inward is never
/// confused with one that was started outward.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Who started the flow.
    pub initiator: Address,
    /// The other end.
    pub responder: Address,
    /// The initiator's port, host byte order; the identifier of an ICMP echo; 0 for protocols without ports.
    pub initiator_port: u16,
    /// The responder's port, host byte order; 0 for protocols without ports.
    pub responder_port: u16,
    /// The interface's zone.
    pub zone: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// The direction of the initiator's packets: [`super::Direction::index`].
    pub direction: u8,
}
const _: () = assert!(size_of::<FlowKey>() == 40);

/// What is known of a flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowValue {
    /// When it was created, ns of the flow clock.
    pub created: u64,
    /// When its last packet was seen, ns of the flow clock. The only field written through a
    /// pointer: an LRU map may hand the element to another key meanwhile.
    pub last_seen: u64,
    /// The generation that last admitted it.
    pub generation: u32,
    /// The rule that last admitted it.
    pub rule: u32,
    /// A [`FlowState`].
    pub state: u8,
    /// `FLOW_` bits.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 6],
}
const _: () = assert!(size_of::<FlowValue>() == 32);

/// Flag of a flow: no rule admitted it, audit mode let it pass.
pub const FLOW_AUDIT: u8 = 1;
/// Flag of a flow: its initiator sent a TCP FIN.
pub const FLOW_FIN_INITIATOR: u8 = 1 << 1;
/// Flag of a flow: its responder sent a TCP FIN.
pub const FLOW_FIN_RESPONDER: u8 = 1 << 2;

/// States of a flow; each has its timeout.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// TCP: a SYN was seen, no SYN-ACK yet.
    TcpSyn = 0,
    /// TCP: the SYN-ACK was seen.
    TcpEstablished = 1,
    /// TCP: a FIN or RST was seen.
    TcpClosing = 2,
    /// UDP and protocols without states: no reply yet.
    UdpUnreplied = 3,
    /// UDP and protocols without states: a reply was seen.
    UdpReplied = 4,
    /// ICMP or ICMPv6 echo.
    Echo = 5,
    /// SCTP: an INIT was seen, no INIT ACK yet.
    SctpInit = 6,
    /// SCTP: the INIT ACK was seen.
    SctpEstablished = 7,
    /// SCTP: an ABORT or a SHUTDOWN was seen.
    SctpClosing = 8,
}

/// Number of timeouts: one a state, rounded up to a power of two so that a masked index is in bounds.
pub const TIMEOUTS: usize = 16;

/// Seconds of silence after which a flow in each [`FlowState`] is over (half-way values in
/// whole seconds; at most 65,535).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts(pub [u16; TIMEOUTS]);
