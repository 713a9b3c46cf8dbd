//! What the event log knows.

use std::collections::BTreeMap;

use bulkhead_api::event::{Action, Actor, Effect, LostCause, Outcome, Timestamp};
use bulkhead_api::history::Summary;
use serde::Serialize;

use super::{InForce, Positions, Source};

/// Whether enforcement was on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// Where it is from.
    pub source: Source,
    /// How the time is made up.
    pub shares: Shares,
    /// What was in force, one after the other.
    pub ruled: Vec<Ruled>,
    /// Times that were not enforced, and why.
    pub holes: Vec<Hole>,
}

/// Parts of a time, ns; together they are all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shares {
    /// All interfaces were enforced, as the kernel said at each look.
    pub enforced: u64,
    /// Packets were judged and let pass (mode audit).
    pub audit: u64,
    /// An interface, or the guard, was not as the policy needs it.
    pub unenforced: u64,
    /// Nobody has attested it.
    pub unknown: u64,
}

/// What was in force for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ruled {
    /// Since when.
    pub from: Timestamp,
    /// Until when it is attested.
    pub until: Timestamp,
    /// Records that attest it.
    pub records: Positions,
    /// What it was.
    #[serde(flatten)]
    pub of: InForce,
}

/// A time that was not, or not wholly, enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// Its start.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// What it was.
    pub kind: HoleKind,
    /// How much of it, ns.
    pub nanoseconds: u64,
    /// Why.
    pub why: String,
    /// Records that show it; absent: no record does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<Positions>,
}

/// What a time without whole enforcement was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HoleKind {
    /// Judged, and let pass.
    Audit,
    /// Not enforced.
    Unenforced,
    /// Not known.
    Unknown,
}

/// What was dropped.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Drops {
    /// Where it is from.
    pub source: Source,
    /// By reason, most first.
    pub reasons: Vec<OfReason>,
    /// By UTC day, all days of the time.
    pub days: Vec<DayOfDrops>,
    /// Packets that were dropped, and of which the log has no record, as far as it is known; section losses says why.
    pub untold: u64,
}

/// Packets of one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfReason {
    /// Its stable name.
    pub reason: String,
    /// Packets that were dropped.
    pub dropped: u64,
    /// Packets that audit mode let pass.
    pub audited: u64,
}

/// Drops of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DayOfDrops {
    /// The day, UTC.
    pub day: String,
    /// How much of the day is asked about, ns.
    pub asked: u64,
    /// How much of that an agent has attested, ns. Drops of the rest are not known.
    pub attested: u64,
    /// Packets by reason. Empty where nothing is attested: not known.
    pub reasons: BTreeMap<String, u64>,
    /// Packets that audit mode let pass.
    pub audited: u64,
}

/// Who changed what.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    /// Where it is from.
    pub source: Source,
    /// The oldest first.
    pub changes: Vec<Change>,
}

/// A change of what is enforced, or an attempt at one.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The record.
    pub record: u64,
    /// When.
    pub time: Timestamp,
    /// What was to be done.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
    /// Who asked for it.
    pub by: Actor,
    /// The same in words, with this host's name of the user.
    pub who: String,
    /// What it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Why, in the operator's or the system's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The generation before; 0: none.
    pub generation_before: u32,
    /// The generation after; 0: none.
    pub generation: u32,
    /// SHA-256 of the policy that was enforced after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What it added, removed and admitted on other terms; absent: it changed no files, or it is not kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<Summary>,
}

/// Times without enforcement, and what in the kernel was not what was approved.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Unenforced {
    /// Where it is from.
    pub source: Source,
    /// The oldest first.
    pub times: Vec<UnenforcedTime>,
    /// Entries of tables and programs that were not what was approved.
    pub altered: Vec<Altered>,
}

/// A time in which an interface was not enforced.
#[derive(Clone, Debug, Serialize)]
pub struct UnenforcedTime {
    /// The record.
    pub record: u64,
    /// The interface, or `guard`.
    pub interface: String,
    /// Since when at the earliest.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// How long, ms.
    pub milliseconds: u64,
    /// What was found.
    pub cause: String,
    /// What became of packets.
    pub effect: Effect,
    /// Whether an agent ran all the time.
    pub agent: bool,
}

/// Something that was not what was approved.
#[derive(Clone, Debug, Serialize)]
pub struct Altered {
    /// The record.
    pub record: u64,
    /// When it was found.
    pub time: Timestamp,
    /// Table and entry.
    pub what: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
}

/// What the log has lost, and accounts that are open.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Losses {
    /// Where it is from.
    pub source: Source,
    /// What the log says that it has lost.
    pub lost: Vec<Loss>,
    /// Balances of drops that were read.
    pub balances: u64,
    /// The time of the last; drops after it are in no closed account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_until: Option<Timestamp>,
    /// Packets by the kernel's counters, between the first balance and the last.
    pub dropped: u64,
    /// Of these, packets that the log tells of.
    pub told: u64,
    /// Of these, packets that were told of and could not be written.
    pub unwritten: u64,
    /// Of these, packets that nothing tells of: a table or ring was full.
    pub lost_packets: u64,
    /// Packets beside these that were counted by reason alone, over the budget of reports.
    pub unreported: u64,
    /// Balances that do not balance.
    pub open: Vec<OpenBalance>,
}

/// Events that are not in the log.
#[derive(Clone, Debug, Serialize)]
pub struct Loss {
    /// The record that says so.
    pub record: u64,
    /// When.
    pub time: Timestamp,
    /// How many events; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// The drops that they told of; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops: Option<u64>,
    /// Why.
    pub cause: LostCause,
    /// What was found, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A balance that does not balance.
#[derive(Clone, Debug, Serialize)]
pub struct OpenBalance {
    /// The record.
    pub record: u64,
    /// When.
    pub time: Timestamp,
    /// What is wrong.
    pub what: String,
}
