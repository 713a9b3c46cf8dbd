//! What the kernel tells of a drop.

use super::Address;

/// Flag of an event: audit mode, the packet passed.
pub const EVENT_AUDIT: u8 = 1;

/// One event in the ring: the first drop of an aggregate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time, ns since boot (`CLOCK_BOOTTIME`).
    pub time: u64,
    /// What was dropped: the aggregate's key.
    pub key: AggregateKey,
    /// Length in bytes at the IP layer and above.
    pub length: u32,
    /// The source's port, host byte order.
    pub source_port: u16,
    /// TCP flags byte; for ICMP the type.
    pub detail: u8,
    /// `EVENT_` bits.
    pub flags: u8,
}
const _: () = assert!(size_of::<Event>() == 64);

/// What makes two drops the same for the audit trail. The source's port is left out, so that
/// retries fall together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AggregateKey {
    /// Source address; zero if the packet could not be parsed that far.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Interface index.
    pub interface: u32,
    /// The rule that decided, or [`super::NO_RULE`].
    pub rule: u32,
    /// The generation that decided.
    pub generation: u32,
    /// Destination port, host byte order; 0 for protocols without ports.
    pub port: u16,
    /// IP protocol number; 0 if the packet could not be parsed that far.
    pub protocol: u8,
    /// A [`crate::Reason`] in bits 0..=6, the direction in bit 7.
    pub reason: u8,
}
const _: () = assert!(size_of::<AggregateKey>() == 48);

/// Drops of one key since its first, which the ring reported itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregateValue {
    /// Drops.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Time of the last, ns since boot.
    pub last: u64,
}
const _: () = assert!(size_of::<AggregateValue>() == 24);
