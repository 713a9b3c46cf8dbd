//! What alarmed, and whom the agent cut off by itself.

use bulkhead_api::event::{AlarmKind, Outcome, Timestamp};
use serde::Serialize;

use super::Source;

/// What alarmed, and what the agent did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Alarms {
    /// Where it is from.
    pub source: Source,
    /// By cause, in the order in which they came first. Has what was raised before the time and was still on in it.
    pub causes: Vec<AlarmsOfCause>,
    /// Whom the agent has quarantined by itself, or tried to; the oldest first.
    pub quarantines: Vec<AgentsQuarantine>,
}

/// Alarms with the same cause.
#[derive(Clone, Debug, Serialize)]
pub struct AlarmsOfCause {
    /// What it is.
    pub alarm: AlarmKind,
    /// The cause's text.
    pub cause: String,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// To whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// By which rule, or which rule it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How often it was raised in the time that was asked about.
    pub raised: u64,
    /// Each time; the oldest first.
    pub times: Vec<TimeOfAlarm>,
}

/// A time in which an alarm was on.
#[derive(Clone, Debug, Serialize)]
pub struct TimeOfAlarm {
    /// Since when.
    pub since: Timestamp,
    /// The record that raised it; absent: the log does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    /// Its end; absent: the log has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<RecordedEnd>,
    /// What was found, in words.
    pub detail: String,
    /// Records of the agent's own quarantines, meanwhile, of the node that did it.
    pub quarantines: Vec<u64>,
}

/// An end that is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RecordedEnd {
    /// The record.
    pub record: u64,
    /// When.
    pub time: Timestamp,
}

/// A quarantine by the agent itself, or an attempt at one.
#[derive(Clone, Debug, Serialize)]
pub struct AgentsQuarantine {
    /// The record.
    pub record: u64,
    /// When.
    pub time: Timestamp,
    /// Whom.
    pub node: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Its end; absent: the log has none, or nobody was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<RecordedEnd>,
}
