//! The kinds of drops that the guard makes.

use bulkhead_api::event::{Direction, GuardReason};
use serde::{Deserialize, Serialize};

/// Why the guard dropped a packet, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It came by a managed interface that has no program.
    ClosedIn,
    /// It was to the node's own overlay address and came by another interface than the managed ones.
    OwnDestination,
    /// It pretended to be from the node itself, and came by another interface.
    OwnSource,
    /// It was from another node's overlay address, and came by another interface.
    OverlaySource,
    /// It was to an overlay address, and about to leave by another interface.
    OverlayDestination,
    /// It was about to leave by a managed interface that has no program.
    ClosedOut,
}

impl Kind {
    /// All of them, in the order that status shows.
    pub const ALL: [Self; 6] = [
        Self::ClosedIn,
        Self::OwnDestination,
        Self::OwnSource,
        Self::OverlaySource,
        Self::OverlayDestination,
        Self::ClosedOut,
    ];

    /// The name of its chain, its counter, and in the log's prefix.
    #[must_use]
    pub fn object(self) -> &'static str {
        match self {
            Self::ClosedIn => "closed_in",
            Self::OwnDestination => "own_destination",
            Self::OwnSource => "own_source",
            Self::OverlaySource => "overlay_source",
            Self::OverlayDestination => "overlay_destination",
            Self::ClosedOut => "closed_out",
        }
    }

    /// The kind of an [`object`](Self::object).
    #[must_use]
    pub fn of_object(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.object() == name)
    }

    /// The reason in events and status. With the direction it says which kind it is.
    #[must_use]
    pub fn reason(self) -> GuardReason {
        match self {
            Self::ClosedIn | Self::ClosedOut => GuardReason::InterfaceClosed,
            Self::OwnDestination => GuardReason::OwnDestination,
            Self::OwnSource => GuardReason::OwnSource,
            Self::OverlaySource => GuardReason::OverlaySource,
            Self::OverlayDestination => GuardReason::OverlayDestination,
        }
    }

    /// `ingress` or `egress`, seen from this host.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Self::ClosedIn | Self::OwnDestination | Self::OwnSource | Self::OverlaySource => {
                Direction::Ingress
            }
            Self::OverlayDestination | Self::ClosedOut => Direction::Egress,
        }
    }
}
