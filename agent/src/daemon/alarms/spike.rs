//! Counts far above their own past: denials of a pair, packets of an order session.

use std::hash::Hash;

use super::table::Table;
use crate::config::Spike;

/// Windows that must be over before there is a past.
const PAST: u64 = 3;

/// What the past weighs against the last window: one part in so many is new.
const MEMORY: f64 = 8.0;

/// Counts by key, in windows of equal length.
pub struct Spikes<K, V> {
    settings: Spike,
    table: Table<K, Of<V>>,
    began: u64,
    windows: u64,
}

struct Of<V> {
    about: V,
    /// In this window.
    count: u64,
    /// In a usual one.
    usual: f64,
    /// What ended, if a window had less.
    raised: Option<u64>,
}

impl<V> Of<V> {
    fn weight(&self) -> u64 {
        if self.raised.is_some() { u64::MAX } else { self.count.saturating_add(self.usual as u64) }
    }
}

/// A count that is not usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above<V> {
    /// What is counted.
    pub about: V,
    /// How many.
    pub count: u64,
    /// How many are usual.
    pub usual: u64,
    /// In so many seconds.
    pub seconds: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Spikes<K, V> {
    /// With these bounds, for so many keys; from a time on (s).
    pub fn new(settings: Spike, capacity: usize, now: u64) -> Self {
        Self { settings, table: Table::new(capacity), began: now, windows: 0 }
    }

    /// Adds a count; whether it has just become far more than usual.
    pub fn note(&mut self, key: &K, about: impl FnOnce() -> V, count: u64) -> Option<Above<V>> {
        let (settings, has_past) = (self.settings, self.windows >= PAST);
        let of =
            self.table.entry(key, Of::weight, || Of { about: about(), count: 0, usual: 0.0, raised: None });
        of.count = of.count.saturating_add(count);
        let limit = settings.least.max((of.usual * settings.times as f64) as u64);
        if !has_past || of.raised.is_some() || of.count < limit {
            return None;
        }
        of.raised = Some(limit);
        Some(above(of, of.count, settings.seconds))
    }

    /// Ends the window if it is over by a time (s); what is usual again.
    pub fn ended(&mut self, now: u64) -> Vec<Above<V>> {
        if now.saturating_sub(self.began) < self.settings.seconds {
            return Vec::new();
        }
        (self.began, self.windows) = (now, self.windows + 1);
        let mut ended = Vec::new();
        for (_, of) in self.table.iter_mut() {
            let count = std::mem::take(&mut of.count);
            if of.raised.is_some_and(|limit| count < limit) {
                of.raised = None;
                ended.push(above(of, count, self.settings.seconds));
            }
            // The first windows say more than their part.
            let memory = MEMORY.min(self.windows as f64);
            of.usual += (count as f64 - of.usual) / memory;
        }
        ended
    }

    /// Takes up one that an earlier agent raised.
    pub fn take_up(&mut self, key: &K, about: V) {
        let limit = self.settings.least;
        let of = Of { about, count: 0, usual: 0.0, raised: None };
        self.table.entry(key, Of::weight, || of).raised = Some(limit);
    }
}

fn above<V: Clone>(of: &Of<V>, count: u64, seconds: u64) -> Above<V> {
    Above { about: of.about.clone(), count, usual: of.usual.ceil() as u64, seconds }
}

#[cfg(test)]
mod tests {
    use super::{Spike, Spikes};

    const SETTINGS: Spike = Spike { least: 100, times: 10, seconds: 60 };

    /// Windows with so many each; those in which it was raised and in which it ended.
    fn run(counts: &[u64]) -> Vec<(usize, bool)> {
        let mut spikes = Spikes::new(SETTINGS, 16, 0);
        let mut told = Vec::new();
        for (window, count) in counts.iter().enumerate() {
            for _ in 0..*count {
                told.extend(spikes.note(&"pair", || (), 1).map(|_| (window, true)));
            }
            told.extend(spikes.ended((window as u64 + 1) * 60).into_iter().map(|_| (window, false)));
        }
        told
    }

    #[test]
    fn far_above_its_own_past_is_told_once_with_its_end() {
        assert_eq!(run(&[5, 5, 5, 5, 99, 5]), [], "few are no alarm");
        assert_eq!(run(&[0, 0, 0, 0, 150, 300, 5, 5]), [(4, true), (6, false)]);
        assert_eq!(run(&[90, 90, 90, 90, 800, 90]), [], "not ten times as many");
        assert_eq!(run(&[90, 90, 90, 90, 950, 90]), [(4, true), (5, false)]);
        assert_eq!(run(&[500, 500, 500, 500, 500]), [], "much, but as ever");
        assert_eq!(run(&[500, 0, 0]), [], "without a past nothing is unusual");
        // Twice, each once.
        let told = run(&[0, 0, 0, 150, 0, 0, 0, 0, 0, 0, 0, 0, 500, 0]);
        assert_eq!(told, [(3, true), (4, false), (12, true), (13, false)]);
    }

    #[test]
    fn what_is_told_says_what_is_usual() {
        let mut spikes = Spikes::new(SETTINGS, 16, 0);
        for window in 1..=4 {
            spikes.note(&1, || "a", 20);
            assert!(spikes.ended(window * 60).is_empty());
        }
        let above = spikes.note(&1, || "b", 2000).unwrap();
        assert_eq!((above.about, above.count, above.usual, above.seconds), ("a", 2000, 20, 60));
    }
}
