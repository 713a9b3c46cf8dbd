//! What the kernel asks the agent to answer.

use crate::Address;

/// A TCP segment to no connection of this host, whose sender is to be told so by a reset.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetRequest {
    /// When it came, ns since boot (`CLOCK_BOOTTIME`).
    pub time: u64,
    /// Its source address.
    pub source: Address,
    /// Its destination address, one of this host's own.
    pub destination: Address,
    /// Its acknowledgement number, host byte order.
    pub acknowledgement: u32,
    /// Its source's port, host byte order.
    pub source_port: u16,
    /// Its destination's port, host byte order.
    pub destination_port: u16,
}
const _: () = assert!(size_of::<ResetRequest>() == 48);
