//! The account of drops: what is counted by reason, and what tells of it.

use bulkhead_engine::{Action, Reason};
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

/// Drops that the agent has told of since it started.
pub fn told(status: &Value) -> u64 {
    let events = &status["agent"]["events"];
    number(&events["events"]) + number(&events["aggregated"])
}

impl Site {
    /// The reports on disk. Every line must be whole.
    pub fn journal(&self) -> Vec<Value> {
        let path = format!("/var/lib/bulkhead/{}/events.jsonl", self.instance());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        text.lines().map(read).collect()
    }

    /// Drops that the journal tells of.
    pub fn journalled(&self) -> u64 {
        let reports = self.journal();
        let drops = reports.iter().filter(|report| report["enforced"].is_null());
        drops.map(|report| number(&report["count"])).sum()
    }

    /// Waits until drops by reason = those that the agents' journal tells of + counted losses.
    pub fn wait_for_balance(&mut self) -> Value {
        let instance = self.instance().to_owned();
        let path = format!("/var/lib/bulkhead/{instance}/events.jsonl");
        self.wait_for("the account is balanced", |status| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let reports = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let told: u64 = reports.map(|report| number(&report["count"])).sum();
            drops(status) == told + lost(status)
        });
        let status = self.status();
        assert_eq!(drops(&status), self.journalled() + lost(&status), "{status}");
        status
    }
}
