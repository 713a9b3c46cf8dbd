//! What a program is specialised by: its read-only globals.

use super::Timeouts;

/// The interface hands over Ethernet frames.
pub const INTERFACE_ETHERNET: u8 = 0;
/// The interface hands over bare IP packets (WireGuard, TUN).
pub const INTERFACE_BARE_IP: u8 = 1;

/// The policy has IPv6 prefixes: an address that the exact table misses is looked up in the LPM trie.
pub const FEATURE_IPV6_LPM: u32 = 1;
/// Audit mode: what would be dropped is reported and passes.
pub const FEATURE_AUDIT: u32 = 1 << 1;
/// The clock is a setting, for tests.
pub const FEATURE_FIXED_CLOCK: u32 = 1 << 2;

/// Number of directions.
pub const DIRECTIONS: u32 = 2;

/// Which way a packet goes, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into this host.
    Ingress,
    /// Out of this host.
    Egress,
}

impl Direction {
    /// 0 for ingress, 1 for egress.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Ingress => 0,
            Self::Egress => 1,
        }
    }

    /// The other direction.
    #[inline(always)]
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    /// `ingress` or `egress`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Constants of one program: one interface in one generation. The verifier removes the code
/// that they make unreachable.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The fixed clock, boot-time ns. Used with [`FEATURE_FIXED_CLOCK`].
    pub fixed_clock: u64,
    /// Number of the generation, from 1.
    pub generation: u32,
    /// `FEATURE_` bits.
    pub features: u32,
    /// Local classes: 1 to this number.
    pub locals: u32,
    /// Remote classes, 'unknown' included: 0 to this number − 1.
    pub remotes: u32,
    /// How long a flow may be silent, by state.
    pub timeouts: Timeouts,
    /// The interfaces that share flows have one zone; a configured number, never an interface index.
    pub zone: u16,
    /// [`INTERFACE_ETHERNET`] or [`INTERFACE_BARE_IP`].
    pub interface: u8,
    /// Zero.
    pub reserved: [u8; 5],
}
const _: () = assert!(size_of::<Settings>() == 64);
