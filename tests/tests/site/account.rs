//! The account of drops: what is counted by reason, and what tells of it.

use std::path::{Path, PathBuf};

use bulkhead_engine::{Action, Reason};
use bulkhead_tlog::Reader;
use serde_json::Value;

use super::Site;

/// A number in a status or a report.
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}: no number"))
}

/// Packets counted under a reason, both directions together.
pub fn packets(status: &Value, reason: Reason) -> u64 {
    let counts = status["reasons"].as_array().unwrap().iter();
    counts.filter(|count| count["reason"] == reason.name()).map(|count| number(&count["packets"])).sum()
}

/// Drops counted by reason. ARP, for one, is counted and passes.
pub fn drops(status: &Value) -> u64 {
    let dropping = Reason::ALL.iter().filter(|reason| reason.action() == Action::Drop);
    dropping.map(|reason| packets(status, *reason)).sum()
}

/// Drops that are counted as told of by nothing.
pub fn lost(status: &Value) -> u64 {
    number(&status["lost"]["ring"]) + number(&status["lost"]["budget"]) + number(&status["counted"]["unread"])
}

/// Drops that this agent and those before it have told of.
pub fn told(status: &Value) -> u64 {
    let events = &status["agent"]["events"];
    number(&events["events"]) + number(&events["aggregated"])
}

/// The reports in an event log; or those in a file of lines, but for a line that is just being written.
pub fn reports(journal: &Path) -> Vec<Value> {
    if journal.is_dir() {
        return records(journal).into_iter().map(|mut record| record["event"].take()).collect();
    }
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The records in an event log that is there, signed or not, in their order and without a gap.
pub fn records(log: &Path) -> Vec<Value> {
    // A checkpoint in between moves records.
    (0..100)
        .find_map(|_| {
            let reader = Reader::open(log).ok()?;
            let signed: Result<Vec<_>, _> = reader.entries(0..u64::MAX).collect();
            let all: Vec<_> = signed.ok()?.into_iter().chain(reader.unsigned().ok()?).collect();
            let is_whole = (0..).zip(&all).all(|(number, (index, _))| number == *index);
            is_whole
                .then(|| all.into_iter().map(|(_, bytes)| serde_json::from_slice(&bytes).unwrap()).collect())
        })
        .unwrap_or_default()
}

/// Drops that a journal tells of.
pub fn told_in(journal: &Path) -> u64 {
    let reports = reports(journal).into_iter().filter(|report| report["kind"] == "drop");
    reports.map(|report| number(&report["count"])).sum()
}

impl Site {
    /// The event log.
    pub fn journal_file(&self) -> PathBuf {
        Path::new("/var/lib/bulkhead").join(self.instance()).join("log")
    }

    /// Waits until drops by reason = those that the agents' journal tells of + counted losses.
    pub fn wait_for_balance(&mut self) -> Value {
        let journal = self.journal_file();
        self.wait_for("the account is balanced", |status| drops(status) == told_in(&journal) + lost(status))
    }
}
