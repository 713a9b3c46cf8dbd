//! Fragmented datagrams: what the first fragment was judged by.

use crate::Address;

/// One datagram in fragments (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification, as the packet has it.
    pub id: u32,
    /// The interface's zone.
    pub zone: u16,
    /// IPv4: the protocol. IPv6: 0, since the identification tells datagrams of all protocols apart.
    pub protocol: u8,
    /// Direction: [`super::Direction::index`].
    pub direction: u8,
}
const _: () = assert!(size_of::<FragmentKey>() == 40);

/// What is remembered of a datagram whose first fragment passed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentValue {
    /// When its last fragment passed, ns of the flow clock.
    pub last_seen: u64,
    /// The generation that admitted it.
    pub generation: u32,
    /// The rule that admitted it.
    pub rule: u32,
    /// Offset of the fragment that may pass next, bytes.
    pub next: u32,
    /// The port that the policy was asked for, host byte order.
    pub port: u16,
    /// The protocol that the policy was asked for.
    pub protocol: u8,
    /// The direction that the policy was asked for: of a reply, the opposite one.
    pub judged: u8,
}
const _: () = assert!(size_of::<FragmentValue>() == 24);

/// Seconds that the next fragment may take. Hosts give up after 30 to 60 (RFC 1122 section
/// 3.3.2); in order on one path, fragments follow one another at once.
pub const FRAGMENT_TIMEOUT: u64 = 10;
