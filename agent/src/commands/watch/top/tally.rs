//! What came, added up. Bounded: whoever floods the host does not fill this memory.

use std::collections::HashMap;
use std::hash::Hash;

use bulkhead_api::event::{Drop, Event, Kind};
use bulkhead_api::text::plain;

use super::rate::Rate;
use crate::commands::watch::label;

/// Pairs, and rules, that are told apart.
const KEPT: usize = 1024;

/// Seconds over which a row's rate is taken.
pub const WINDOW: usize = 10;

/// What packets of one row have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// From whom.
    pub source: String,
    /// To whom.
    pub destination: String,
    /// Port and protocol.
    pub port: String,
    /// `in` or `out`.
    pub direction: &'static str,
    /// Why.
    pub reason: String,
    /// Where.
    pub interface: String,
    /// `drop`, `audit`, `staged-` or `staged+`.
    pub what: &'static str,
}

/// How often, and when last, seconds since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// How often.
    pub rate: Rate<{ WINDOW + 2 }>,
    /// When last.
    pub last: u64,
}

/// A bounded table of counts.
#[derive(Clone, Debug)]
pub struct Counts<K> {
    rows: HashMap<K, Row>,
    /// Packets of rows that made room.
    pub others: u64,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { rows: HashMap::new(), others: 0 }
    }
}

impl<K: Eq + Hash + Clone + Ord> Counts<K> {
    fn add(&mut self, key: K, second: u64, count: u64) {
        if self.rows.len() >= KEPT && !self.rows.contains_key(&key) {
            self.make_room();
        }
        let row = self.rows.entry(key).or_default();
        row.rate.add(second, count);
        row.last = row.last.max(second);
    }

    /// Gives up the half that has come least often.
    fn make_room(&mut self) {
        let mut counts: Vec<_> = self.rows.iter().map(|(key, row)| (row.rate.total(), key.clone())).collect();
        counts.sort_unstable();
        for (count, key) in counts.into_iter().take(KEPT / 2) {
            self.others = self.others.saturating_add(count);
            self.rows.remove(&key);
        }
    }

    /// All that are kept.
    pub fn rows(&self) -> impl Iterator<Item = (&K, &Row)> {
        self.rows.iter()
    }

    /// One of them.
    pub fn get(&self, key: &K) -> Option<&Row> {
        self.rows.get(key)
    }
}

/// What came.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// All drops.
    pub drops: Rate<62>,
    /// Drops, and what is decided otherwise, by pair.
    pub pairs: Counts<Pair>,
    /// Drops by rule.
    pub rules: Counts<String>,
    /// Events that this watcher was too slow for.
    pub missed: u64,
    /// What was told last that is no packet.
    pub notice: Option<String>,
}

impl Tally {
    /// Adds an event up in a second.
    pub fn add(&mut self, event: &Event, second: u64) {
        match &event.kind {
            Kind::Drop(_) | Kind::WouldDiffer(_) => {}
            Kind::Missed(missed) => {
                self.missed += missed.missed;
                return;
            }
            Kind::Allowed(_) | Kind::Coverage(_) | Kind::Balance(_) => return,
            _ => {
                self.notice = Some(plain(&event.to_string()).into_owned());
                return;
            }
        }
        let Some((what, drop)) = label::packets(event) else { return };
        if matches!(event.kind, Kind::Drop(_)) {
            self.drops.add(second, drop.count);
            if let Some(rule) = &drop.rule {
                self.rules.add(label::rule(rule), second, drop.count);
            }
        }
        self.pairs.add(pair(what, drop), second, drop.count);
    }
}

fn pair(what: &'static str, drop: &Drop) -> Pair {
    Pair {
        source: label::source(drop),
        destination: label::destination(drop),
        port: label::port(drop),
        direction: label::direction(drop),
        reason: drop.reason.to_string(),
        interface: plain(drop.interface.as_deref().unwrap_or("any")).into_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, KEPT};

    #[test]
    fn memory_is_bounded_and_what_is_often_stays() {
        let mut counts = Counts::default();
        for number in 0..100_000_u32 {
            counts.add(number % 10, 5, 1);
            counts.add(number + 10, 5, 1);
        }
        assert!(counts.rows().count() <= KEPT);
        for often in 0..10 {
            assert!(counts.get(&often).is_some(), "{often}");
        }
        let kept: u64 = counts.rows().map(|(_, row)| row.rate.total()).sum();
        assert_eq!(kept + counts.others, 200_000, "nothing is uncounted");
    }
}
