//! Alarms: what somebody should look at.

use serde::{Deserialize, Serialize};

use super::control::names;
use super::{End, ExpiryLevel, Rule, Timestamp};

/// Something that somebody should look at has begun, or has ended. Each is told once, and so is its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Alarm {
    /// What it is, such as `scan`.
    pub alarm: AlarmKind,
    /// `raised` or `ended`.
    pub state: AlarmState,
    /// Its cause, by a text that is the same in both events, and on every host that tells of the same.
    pub cause: String,
    /// Since when.
    pub since: Timestamp,
    /// Who does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<End>,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<End>,
    /// By which rule, or which rule it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// How much of it: destinations and ports of a scan, what expires, packets of the others; 0: it is no number.
    pub count: u64,
    /// What was usual in such a time, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<u64>,
    /// In how many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// When something expires; of several, the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// How near that is; of `expiry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<ExpiryLevel>,
    /// The first names of what expires.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The same in words.
    pub detail: String,
    /// The generation that is enforced; 0: none.
    pub generation: u32,
}

names! {
    /// What an alarm is.
    AlarmKind {
        /// One source was denied at many destinations and ports.
        Scan "scan",
        /// Far more packets of a pair were denied than before.
        FailureSpike "failure_spike",
        /// An order session sends far more than it usually does.
        SessionRate "session_rate",
        /// A rule that nobody has used for long was used.
        IdleRule "idle_rule",
        /// Rules, keys of nodes, workloads or certificates expire soon, or have expired.
        Expiry "expiry",
        /// A node that was to be quarantined was not.
        QuarantineWithheld "quarantine_withheld",
        /// A grant runs that one signature has sufficed for.
        BreakGlass "break_glass",
        /// A source of the inventory does not answer, or what it answers is not believed.
        Source "source",
        /// Nothing new is taken from the fleet, or what runs is not the fleet's.
        Fleet "fleet",
    }
}

names! {
    /// Whether an alarm has begun or is over.
    AlarmState {
        /// It has begun.
        Raised "raised",
        /// It is over.
        Ended "ended",
    }
}
