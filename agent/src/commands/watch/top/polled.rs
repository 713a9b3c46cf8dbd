//! What the agent says it enforces, and how fast its counters go.

use std::collections::BTreeMap;
use std::time::Instant;

use bulkhead_api::status::{ActiveAlarm, Status};
use bulkhead_api::text::plain;

use crate::commands::watch::label;

/// A counter, and its packets a second between the last two answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counter {
    /// In all.
    pub packets: u64,
    /// A second.
    pub rate: f64,
}

/// What is shown of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Polled {
    /// Instance, node, state, mode and generation in words; none: no agent answers.
    pub title: Option<String>,
    /// Whether every packet meets the policy.
    pub is_enforced: bool,
    /// What is wrong, the first of it.
    pub problem: Option<String>,
    /// Alarms that are on.
    pub alarms: Vec<String>,
    /// Packets by reason and direction.
    pub reasons: BTreeMap<(String, String), Counter>,
    /// Packets that rules decided.
    pub rules: BTreeMap<String, Counter>,
    /// Who is cut off.
    pub quarantined: usize,
    /// Drops that nothing tells of: the ring was full, and the budget was used up.
    pub lost: [u64; 2],
    /// Events that are not in the event log.
    pub unwritten: u64,
    at: Option<Instant>,
}

impl Polled {
    /// No agent answers.
    pub fn silent(&mut self) {
        self.title = None;
        self.is_enforced = false;
        self.problem = Some("no agent answers; what is enforced stays enforced".to_owned());
    }

    /// Takes an answer that came at a time.
    pub fn take(&mut self, status: &Status, now: Instant) {
        let seconds = self.at.map(|at| now.duration_since(at).as_secs_f64()).filter(|seconds| *seconds > 0.0);
        let go = |before: Option<&Counter>, packets: u64| {
            let more = before.map_or(0, |before| packets.saturating_sub(before.packets));
            Counter { packets, rate: seconds.map_or(0.0, |seconds| more as f64 / seconds) }
        };
        let counts = status.reasons.iter().chain(&status.guard).map(|count| {
            let key = (count.reason.clone(), count.direction.clone());
            let counter = go(self.reasons.get(&key), count.packets);
            (key, counter)
        });
        self.reasons = counts.collect();
        let rules = status.agent.iter().flat_map(|agent| &agent.rule_counters).map(|count| {
            let key = label::rule(&count.rule);
            let counter = go(self.rules.get(&key), count.packets);
            (key, counter)
        });
        self.rules = rules.collect();
        let words = status.agent.as_ref().map(|agent| {
            let (node, mode) = (&agent.node, agent.mode.name());
            format!("node {node}  {}  mode {mode}  generation {}", status.state.name(), agent.generation)
        });
        let words = words.unwrap_or_else(|| status.state.name().to_owned());
        self.title = Some(plain(&format!("instance {}  {words}", status.instance)).into_owned());
        self.is_enforced = status.state == bulkhead_api::status::State::Enforced;
        self.problem = status.problems.first().map(|problem| plain(problem).into_owned());
        let alarms = status.agent.iter().flat_map(|agent| &agent.alarms).flat_map(|alarms| &alarms.active);
        let words =
            |alarm: &ActiveAlarm| plain(&format!("{}: {}", alarm.alarm.name(), alarm.detail)).into_owned();
        self.alarms = alarms.map(words).collect();
        self.quarantined = status.quarantined.len();
        self.lost = [status.lost.ring, status.lost.budget];
        self.unwritten = status.agent.as_ref().map_or(0, |agent| agent.events.unwritten);
        self.at = Some(now);
    }
}
