//! Where the others' addresses are.

use std::net::Ipv4Addr;

use bulkhead_testkit::measure::Addresses;

/// The network of those side by side, as an operator hands them out, and of those within a /10.
const BLOCK: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);

/// How the addresses lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Side by side.
    Dense,
    /// By a random choice out of 100.64.0.0/10, as Tailscale does.
    Scattered,
    /// By a random choice out of 128.0.0.0/2.
    Everywhere,
}

impl Placement {
    /// So many addresses.
    #[must_use]
    pub const fn addresses(self, count: u32) -> Addresses {
        match self {
            Self::Dense => Addresses::dense(BLOCK, count),
            Self::Scattered => Addresses::scattered(BLOCK, 22, count),
            Self::Everywhere => Addresses::scattered(Ipv4Addr::new(128, 0, 0, 0), 30, count),
        }
    }

    /// As in figures' ids.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Scattered => "scattered",
            Self::Everywhere => "everywhere",
        }
    }

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Dense => "side by side",
            Self::Scattered => "at random within a /10",
            Self::Everywhere => "at random over a quarter of IPv4",
        }
    }

    /// How many addresses there are.
    #[must_use]
    pub const fn holds(self) -> u32 {
        match self {
            Self::Dense | Self::Everywhere => 1 << 24,
            Self::Scattered => 1 << 22,
        }
    }

    /// Behind a size, in ids of decisions.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Dense => "",
            Self::Scattered => "-scattered",
            Self::Everywhere => "-everywhere",
        }
    }
}
