//! Flows: tracked two-way conversations.

use crate::Address;

/// The tuple of the packet that started the flow, its zone and its direction.
///
/// A packet is looked up by its own tuple (it goes the way that the flow was started) or, as
/// a reply, by its tuple reversed and the opposite direction. So a flow that an overlay peer
/// started is never continued by an exchange, and one that was started inward is never
/// confused with one that was started outward.
#[repr(C, align(8))]
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
    /// When its last packet was seen, ns of the flow clock. The only field that is written
    /// without claiming the flow's slot: at worst it freshens a flow that has taken it over.
    pub last_seen: u64,
    /// The generation that last admitted it.
    pub generation: u32,
    /// The rule that last admitted it.
    pub rule: u32,
    /// A [`FlowState`].
    pub state: u8,
    /// `FLOW_` bits.
    pub flags: u8,
    /// With [`FLOW_TLS`]: how both directions began, the initiator's first, three bytes each, the lowest first: 19
    /// bits of the sequence number of its SYN, and above them how far it was compared. Else zero.
    pub begun: [u8; 6],
}
const _: () = assert!(size_of::<FlowValue>() == 24);

impl FlowValue {
    /// Nothing is known.
    pub const NONE: Self = Self { last_seen: 0, generation: 0, rule: 0, state: 0, flags: 0, begun: [0; 6] };
}

/// A flow that the agent hands over to be stored.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// Its key.
    pub key: FlowKey,
    /// What is known of it; `begun[0]` may be [`RECORD_NEW`].
    pub flow: FlowValue,
}
const _: () = assert!(size_of::<FlowRecord>() == 64);

/// Of a record: it is stored only where there is no such flow.
pub const RECORD_NEW: u8 = 1;

/// Answer to a record: it is stored.
pub const IMPORT_STORED: u32 = 0;
/// Answer to a record: the flow that is there is newer.
pub const IMPORT_KEPT: u32 = 1;
/// Answer to a record: there is no place for it.
pub const IMPORT_REFUSED: u32 = 2;
/// Answer to what is no record.
pub const IMPORT_MALFORMED: u32 = 3;
/// Answer to a record: it is stored, and a flow that had not expired is gone for it.
pub const IMPORT_EVICTED: u32 = 4;

impl FlowRecord {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: repr(C) integers without padding: 40 and 24 bytes, both multiples of 8.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}

/// Flag of a flow: no rule admitted it, audit mode let it pass.
pub const FLOW_AUDIT: u8 = 1;
/// Flag of a flow: its initiator sent a TCP FIN.
pub const FLOW_FIN_INITIATOR: u8 = 1 << 1;
/// Flag of a flow: its responder sent a TCP FIN.
pub const FLOW_FIN_RESPONDER: u8 = 1 << 2;
/// Flag of a flow: it is a completed conversation, which no new flow of another's may push out.
pub const FLOW_ESTABLISHED: u8 = 1 << 3;

/// Flag of a flow: how it began is compared with TLS, and `begun` says how far that has come.
pub const FLOW_TLS: u8 = 1 << 4;

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

/// Seconds of silence after which a flow in each [`FlowState`] is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts(pub [u32; TIMEOUTS]);
