//! Events: drops, flows as rules let them begin, what a staged policy would decide otherwise, times without
//! enforcement, who changed what, what in the kernel is not what was approved, whose key routes an identity, which cgroup a workload is,
//! alarms, and the accounts that show that
//! nothing is missing.
//!
//! An event is one JSON object, in the event log and for whoever watches. `kind` says which one it is; fields that
//! do not apply are absent.

mod alarm;
mod allowed;
mod altered;
mod balance;
mod binding;
mod control;
mod coverage;
mod drop;
mod earlier;
mod expiry;
mod lost;
mod protocol;
mod reason;
mod stats;
mod text;
mod timestamp;
mod unenforced;
mod workload;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::alarm::{Alarm, AlarmKind, AlarmState};
pub use self::allowed::Allowed;
pub use self::altered::Altered;
pub use self::balance::{Account, Balance, Count};
pub use self::binding::{Binding, BindingState};
pub use self::control::{Action, Actor, Control, Outcome};
pub use self::coverage::{Coverage, Covered, CoveredHook, ReadBack};
pub use self::drop::{Direction, Drop, End, Enforced, EtherType, Granted, Rule, WouldDiffer};
pub use self::expiry::{Expiring, ExpiryLevel};
pub use self::lost::{LostCause, LostEvents};
pub use self::protocol::Protocol;
pub use self::reason::{GuardReason, Reason, UnknownName};
pub use self::stats::{Counted, EventStats};
pub use self::timestamp::{Timestamp, UnreadableTime};
pub use self::unenforced::{Effect, Unenforced};
pub use self::workload::{WorkloadChange, WorkloadState};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// When. Of several drops in one event: the last of them.
    pub time: Timestamp,
    /// The node whose agent tells of it, by its name in the inventory; empty in lines of earlier agents.
    #[serde(default)]
    pub node: String,
    /// What it tells of; its fields lie beside `time`.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What an event tells of, by the field `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// `drop`: packets were dropped, or would have been (audit mode).
    Drop(Box<Drop>),
    /// `would_differ`: the staged policy decides otherwise than the enforced one. No drop.
    WouldDiffer(Box<WouldDiffer>),
    /// `allowed`: a rule has let a flow begin. Only if agent.toml asks for it.
    Allowed(Box<Allowed>),
    /// `unenforced`: a time without enforcement has ended.
    Unenforced(Box<Unenforced>),
    /// `control`: somebody, or the agent itself, has changed or tried to change what is enforced.
    Control(Box<Control>),
    /// `altered`: an entry of the running tables is not what was approved.
    Altered(Box<Altered>),
    /// `binding`: whether an identity's address is routed by one of its keys has changed.
    Binding(Box<Binding>),
    /// `workload`: which cgroup a workload of this host is has changed.
    Workload(Box<WorkloadChange>),
    /// `alarm`: something that somebody should look at has begun, or has ended.
    Alarm(Box<Alarm>),
    /// `coverage`: what enforced over an interval, and whether it did all the time.
    Coverage(Box<Coverage>),
    /// `balance`: the account of drops. In the event log alone.
    Balance(Box<Balance>),
    /// `lost`: events are not in the event log. In the event log alone.
    Lost(Box<LostEvents>),
    /// `missed`: this watcher was too slow. Never in the event log.
    Missed(Missed),
}

impl Kind {
    /// Its name, as the field `kind` has it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Drop(_) => "drop",
            Self::WouldDiffer(_) => "would_differ",
            Self::Allowed(_) => "allowed",
            Self::Unenforced(_) => "unenforced",
            Self::Control(_) => "control",
            Self::Altered(_) => "altered",
            Self::Binding(_) => "binding",
            Self::Workload(_) => "workload",
            Self::Alarm(_) => "alarm",
            Self::Coverage(_) => "coverage",
            Self::Balance(_) => "balance",
            Self::Lost(_) => "lost",
            Self::Missed(_) => "missed",
        }
    }
}

/// Events that one watcher was too slow for; the event log has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Missed {
    /// How many.
    pub missed: u64,
}

impl Event {
    /// The packets that it tells of, if it tells of any: dropped, allowed, or decided otherwise by a staged policy.
    #[must_use]
    pub fn packets(&self) -> Option<&Drop> {
        match &self.kind {
            Kind::Drop(drop) => Some(drop),
            Kind::WouldDiffer(differs) => Some(&differs.staged),
            Kind::Allowed(allowed) => Some(&allowed.first),
            _ => None,
        }
    }

    /// How many drops it tells of.
    #[must_use]
    pub fn drops(&self) -> u64 {
        match &self.kind {
            Kind::Drop(drop) => drop.count,
            _ => 0,
        }
    }

    /// How many of them are in the account of odd turns.
    #[must_use]
    pub fn odd_drops(&self) -> u64 {
        match &self.kind {
            Kind::Drop(drop) if drop.odd => drop.count,
            _ => 0,
        }
    }

    /// Reads a line of an event log, or of what `watch` is sent; lines of earlier agents as well.
    ///
    /// # Errors
    /// If it is no event that this version knows.
    pub fn read(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line).or_else(|error| earlier::read(line).ok_or(error))
    }
}
