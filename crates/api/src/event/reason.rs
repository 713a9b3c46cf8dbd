//! Reasons by name.

use std::fmt;
use std::str::FromStr;

use bulkhead_abi::Reason as OfPrograms;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why packets were dropped, or passed: a stable name such as `no_rule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A verdict of the programs.
    Program(OfPrograms),
    /// A verdict of the nftables guard.
    Guard(GuardReason),
    /// A number of the programs that this version does not know; as text, such as `"120"`.
    Unknown(u8),
}

/// Why the nftables guard dropped packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuardReason {
    /// `guard_interface_closed`: a managed interface without programs.
    InterfaceClosed,
    /// `guard_own_destination`: to an overlay address of this node, on an interface that is not managed.
    OwnDestination,
    /// `guard_own_source`: from such an address.
    OwnSource,
    /// `guard_overlay_source`: from another node's overlay address, on an interface that is not managed.
    OverlaySource,
    /// `guard_overlay_destination`: to such an address.
    OverlayDestination,
}

/// A text that names no reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no reason that this version knows")]
pub struct UnknownName(String);

impl Reason {
    /// Whether the policy speaks against such a packet. What no policy would let pass, or a rate refuses, is no
    /// attempt at something that a rule could allow.
    #[must_use]
    pub fn is_of_rules(self) -> bool {
        const OF_RULES: [OfPrograms; 4] = [
            OfPrograms::NoRule,
            OfPrograms::DenyRule,
            OfPrograms::UnknownAddress,
            OfPrograms::VenueDefaultDeny,
        ];
        OF_RULES.iter().any(|reason| self.is(*reason))
    }

    /// Whether it is the nftables guard's.
    #[must_use]
    pub const fn is_guards(self) -> bool {
        matches!(self, Self::Guard(_))
    }
}

impl GuardReason {
    /// Every reason of the guard.
    pub const ALL: [Self; 5] = [
        Self::InterfaceClosed,
        Self::OwnDestination,
        Self::OwnSource,
        Self::OverlaySource,
        Self::OverlayDestination,
    ];

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InterfaceClosed => "guard_interface_closed",
            Self::OwnDestination => "guard_own_destination",
            Self::OwnSource => "guard_own_source",
            Self::OverlaySource => "guard_overlay_source",
            Self::OverlayDestination => "guard_overlay_destination",
        }
    }
}

impl Reason {
    /// The reason of a number that the programs report.
    #[must_use]
    pub fn of(number: u8) -> Self {
        OfPrograms::from_number(number).map_or(Self::Unknown(number), Self::Program)
    }

    /// Whether it is this reason of the programs.
    #[must_use]
    pub fn is(self, reason: OfPrograms) -> bool {
        self == Self::Program(reason)
    }

    /// Whether packets are dropped for it in audit mode as well.
    #[must_use]
    pub fn drops_in_audit(self) -> bool {
        matches!(self, Self::Program(reason) if reason.drops_in_audit())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(reason) => f.write_str(reason.name()),
            Self::Guard(reason) => f.write_str(reason.name()),
            Self::Unknown(number) => number.fmt(f),
        }
    }
}

/// What lines of earlier agents call [`OfPrograms::VenueDefaultDeny`].
const FORMER_VENUE_DEFAULT_DENY: &str = "venue_guard";

impl FromStr for Reason {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let text = if text == FORMER_VENUE_DEFAULT_DENY { OfPrograms::VenueDefaultDeny.name() } else { text };
        let program = OfPrograms::ALL.iter().find(|reason| reason.name() == text);
        let guard = GuardReason::ALL.into_iter().find(|reason| reason.name() == text);
        let number = || text.parse().ok().map(Self::of);
        let named = program.map(|reason| Self::Program(*reason)).or(guard.map(Self::Guard));
        named.or_else(number).ok_or_else(|| UnknownName(text.to_owned()))
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
