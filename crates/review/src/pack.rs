//! The pack's types: what JSON has, and what the page is rendered from.

mod alarms;
mod of_history;
mod of_log;

use bulkhead_api::event::{Covered, Timestamp};
use bulkhead_api::mode::Mode;
use bulkhead_api::tls;
use serde::Serialize;

use crate::OfHistory;
use crate::log::OfLog;

pub use self::alarms::{AgentsQuarantine, Alarms, AlarmsOfCause, RecordedEnd, TimeOfAlarm};
pub use self::of_history::{Cell, Grouping, Matrix, RuleLine, Rules, Side, Staged, Standing, UseOfRule};
pub use self::of_log::{
    Altered, Change, Changes, Coverage, DayOfDrops, Drops, Hole, HoleKind, Loss, Losses, OfReason,
    OpenBalance, Ruled, Shares, Unenforced, UnenforcedTime,
};

/// The review of a time.
#[derive(Clone, Debug, Serialize)]
pub struct Pack {
    /// Whose, of which time, from what.
    pub head: Head,
    /// Whether enforcement was on.
    pub coverage: Coverage,
    /// Who talks to whom.
    pub conversations: Matrix,
    /// What was dropped.
    pub drops: Drops,
    /// The rules, who answers for them, and their use.
    pub rules: Rules,
    /// What only a staged policy would have stopped.
    pub staged: Staged,
    /// Who changed what.
    pub changes: Changes,
    /// Times without enforcement, and tables that were not what was approved.
    pub unenforced: Unenforced,
    /// What alarmed, and whom the agent cut off by itself.
    pub alarms: Alarms,
    /// What the log has lost, and accounts that are open.
    pub losses: Losses,
    /// TLS at service ports when this was made, as the agent said; absent: none answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<tls::Coverage>,
}

impl Pack {
    /// Of what was read of the log and of the history, and what the agent said of TLS.
    #[must_use]
    pub fn new(head: Head, log: OfLog, history: OfHistory, tls: Option<tls::Coverage>) -> Self {
        Self {
            head,
            coverage: log.coverage,
            conversations: history.conversations,
            drops: log.drops,
            rules: history.rules,
            staged: history.staged,
            changes: log.changes,
            unenforced: log.unenforced,
            alarms: log.alarms,
            losses: log.losses,
            tls,
        }
    }
}

/// Whose review it is, of which time, and what it was made from.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    /// The host that made it (`uname -n`).
    pub host: String,
    /// The nodes whose histories were read.
    pub nodes: Vec<String>,
    /// What made it.
    pub version: String,
    /// When it was made: the end of the time that was asked about.
    pub made: Timestamp,
    /// Since when was asked.
    pub since: Timestamp,
    /// The policy that rules are judged by.
    pub policy: File,
    /// The inventory that names are from.
    pub inventory: File,
    /// Whether these are what is enforced on this host; else they were named.
    pub is_enforced: bool,
    /// What the log's last record of coverage says was enforced; absent if it has none of that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<EnforcedLast>,
    /// The event log.
    pub log: Log,
}

/// A file.
#[derive(Clone, Debug, Serialize)]
pub struct File {
    /// Its name.
    pub name: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// What was enforced last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnforcedLast {
    /// The record that says so.
    pub record: u64,
    /// When.
    pub time: Timestamp,
    /// What it was.
    #[serde(flatten)]
    pub of: InForce,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// The generation; 0: none.
    pub generation: u32,
    /// Enforce or audit.
    pub mode: Mode,
    /// SHA-256 of its policy file; absent if it was not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// SHA-256 of its inventory file; absent if it was not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory: Option<String>,
}

impl InForce {
    pub(crate) fn of(covered: &Covered) -> Self {
        let Covered { generation, mode, policy, inventory, .. } = covered.clone();
        Self { generation, mode, policy, inventory }
    }
}

/// The event log, at the checkpoint that the pack was made at. Records behind it are not in the pack.
#[derive(Clone, Debug, Serialize)]
pub struct Log {
    /// Its name.
    pub origin: String,
    /// Records that the checkpoint covers.
    pub size: u64,
    /// The root of the tree of them, base64.
    pub root: String,
    /// The keys that have signed it, by name; empty: the key beside the log has not.
    pub signed_by: Vec<String>,
    /// What verifying the log anew has found; empty: it is as it was signed.
    pub faults: Vec<String>,
    /// Records of the time that was asked about; absent: there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Positions>,
    /// How many of them were written while nobody kept the clock in time.
    pub unsynchronized: u64,
    /// The first record is of this time; what lies before it is not known from the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begins: Option<Timestamp>,
}

/// Places in the log, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Positions {
    /// The first record.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// Where figures are from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Records of the event log that were read for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<Positions>,
    /// History databases, by their node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub histories: Vec<String>,
}
