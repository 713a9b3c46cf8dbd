//! Packets of order sessions, by their rules' counters.

use std::collections::{BTreeMap, HashMap};

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
        // Lanes that have one name are one.
        let mut by_name: BTreeMap<String, (Rule, u64)> = BTreeMap::new();
        for RuleCount { rule, packets, .. } in counts.take(LANES) {
            let (_, sum) = by_name.entry(rule.title()).or_insert((rule, 0));
            *sum = sum.saturating_add(packets);
        }
        let mut counted = HashMap::new();
        for (name, (rule, packets)) in by_name {
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

#[cfg(test)]
mod tests {
    use bulkhead_api::event::{AlarmKind, AlarmState, Rule};
    use bulkhead_api::status::RuleCount;

    use super::{Alarms, Sessions};
    use crate::config;

    fn count(number: u32, name: &str, packets: u64) -> RuleCount {
        let rule = Rule::plain(number, Some(name.to_owned()), None);
        RuleCount { rule, packets, bytes: 0, tls: None }
    }

    #[test]
    fn a_session_far_above_its_past_is_told_and_lanes_of_one_name_are_one() {
        let settings = config::Alarms::default();
        let alarms = Alarms::new(&settings);
        let mut sessions = Sessions::new(settings.session, 0);
        // As many as every minute before, on two lanes that count far apart.
        let mut sent = 0;
        let mut look = |minute: u64, more: u64| {
            sent += more;
            let counts = [count(1, "orders", 1_000_000), count(2, "orders", sent), count(3, "other", 7)];
            sessions.look(&alarms, counts.into_iter(), minute * settings.session.seconds);
            let told = alarms.take().0.into_iter();
            told.map(|alarm| (alarm.alarm, alarm.state, alarm.cause)).collect::<Vec<_>>()
        };
        for minute in 0..6 {
            assert_eq!(look(minute, 400), []);
        }
        let of = |state| (AlarmKind::SessionRate, state, "session_rate orders".to_owned());
        assert_eq!(look(6, 5000), [of(AlarmState::Raised)]);
        assert_eq!(look(7, 400), [of(AlarmState::Ended)]);
    }
}
