//! Packets of order sessions, by their rules' counters.

use std::collections::HashMap;

use bulkhead_api::event::Rule;
use bulkhead_api::status::RuleCount;

use super::spike::{Above, Spikes};
use super::{Alarms, Cause, Found};
use crate::config::Spike;

/// Lanes that are counted: more than any policy has.
const LANES: usize = 1024;

/// What sessions usually send.
pub struct Sessions {
    counted: HashMap<String, u64>,
    rates: Spikes<String, Rule>,
}

impl Sessions {
    /// From a time on (s).
    pub fn new(settings: Spike, now: u64) -> Self {
        Self { counted: HashMap::new(), rates: Spikes::new(settings, LANES, now) }
    }

    /// Takes the counters of sessions' rules at a time (s).
    pub fn look(&mut self, alarms: &Alarms, counts: impl Iterator<Item = RuleCount>, now: u64) {
        let mut counted = HashMap::new();
        for RuleCount { rule, packets, .. } in counts.take(LANES) {
            let name = rule.title();
            // Those of before the agent looked first are of no time that it knows.
            let before = self.counted.get(&name).copied().unwrap_or(packets);
            let more = packets.saturating_sub(before);
            if let Some(above) = self.rates.note(&name, || rule, more) {
                alarms.raise(&of_session(&above));
            }
            counted.insert(name, packets);
        }
        self.counted = counted;
        self.rates.ended(now).iter().for_each(|above| alarms.end(&of_session(above)));
    }

    /// Takes up one that an earlier agent raised.
    pub fn take_up(&mut self, rule: &Rule) {
        self.rates.take_up(&rule.title(), rule.clone());
    }
}

fn of_session(above: &Above<Rule>) -> Found {
    let Above { about, count, usual, seconds } = above;
    let name = about.title();
    Found {
        cause: Cause::SessionRate { rule: about.clone() },
        count: *count,
        usual: Some(*usual),
        seconds: Some(*seconds),
        detail: format!("{name} sent {count} packets within {seconds} s, where {usual} are usual"),
    }
}
