//! What the kernel tells of a drop, and of a flow that begins.

use crate::Address;

/// Flag of an event: audit mode, the packet passed.
pub const EVENT_AUDIT: u8 = 1;
/// Flag of an event: the drop is counted in the second account, that of odd turns of the tables of aggregates.
pub const EVENT_ODD: u8 = 2;

/// Kind of a report: a packet was dropped, or in audit mode would have been.
pub const KIND_DROP: u8 = 0;
/// Kind of a report: the staged generation decides otherwise than the enforced one. Generation, rule
/// and reason are the staged's, the `other_` ones the enforced one's.
pub const KIND_STAGED: u8 = 1;

/// Kind of a report: packets of one sender were dropped whose kinds were too many to tell apart. The
/// destination is zero, and so are port and protocol.
pub const KIND_SENDER: u8 = 2;

/// Kind of a report: a rule has let a flow begin with this packet, which passed. Told of by an event, never by an
/// aggregate.
pub const KIND_ALLOWED: u8 = 3;

/// Number of drops that neither an event nor an aggregate tells of: the ring was full, or the table of
/// aggregates.
pub const LOST_RING: u32 = 0;
/// Number of drops that neither tells of, since the CPU's budget for the second was used up, as agents of
/// layout 4 and before counted them. Now they are counted by reason, apart from the others.
pub const LOST_BUDGET: u32 = 1;
/// Number of differences of the staged that neither tells of.
pub const LOST_STAGED: u32 = 2;
/// Kinds of loss.
pub const LOSSES: u32 = 3;

/// Index of the counter of packets that the staged generation decides otherwise: those that it
/// would drop, or those that it would let pass.
#[inline(always)]
#[must_use]
pub const fn staged_index(direction: super::Direction, would_pass: bool) -> u32 {
    direction.index() * 2 + would_pass as u32
}

/// One event in the ring: the first drop of an aggregate, or a flow that begins.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time, ns since boot (`CLOCK_BOOTTIME`).
    pub time: u64,
    /// What was dropped: the aggregate's key; or what began.
    pub key: AggregateKey,
    /// Length in bytes at the IP layer and above.
    pub length: u32,
    /// The source's port, host byte order.
    pub source_port: u16,
    /// TCP flags byte; for ICMP the type.
    pub detail: u8,
    /// `EVENT_` bits.
    pub flags: u8,
    /// Of a flow that begins: one of so many is told of; else 0.
    pub one_in: u32,
}
const _: () = assert!(size_of::<Event>() == 80);

/// What makes two drops the same for the audit trail. The source's port is left out, so that
/// retries fall together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// Destination port, host byte order; 0 for protocols without ports. Of a frame that is not IP: its
    /// EtherType.
    pub port: u16,
    /// IP protocol number; 0 if the packet could not be parsed that far.
    pub protocol: u8,
    /// A [`crate::Reason`] in bits 0..=6, the direction in bit 7.
    pub reason: u8,
    /// Of a difference: the rule that the enforced generation decided by; else [`super::NO_RULE`].
    pub other_rule: u32,
    /// Of a difference: the enforced generation; else 0.
    pub other_generation: u32,
    /// Of a difference: the enforced generation's [`crate::Reason`]; else 0.
    pub other_reason: u8,
    /// [`KIND_DROP`], [`KIND_STAGED`], [`KIND_SENDER`] or [`KIND_ALLOWED`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<AggregateKey>() == 60);

/// Drops of one key: since its first, if the ring reported that one itself.
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
