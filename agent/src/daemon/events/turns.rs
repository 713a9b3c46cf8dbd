//! Turns of the tables of summaries: what was in them when one began is told of when it is over.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts turns.
#[derive(Debug, Default)]
pub struct Turns {
    begun: AtomicU64,
    over: AtomicU64,
}

impl Turns {
    /// One begins.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// The one that goes on is over.
    pub fn end(&self) {
        self.over.store(self.begun.load(Ordering::Acquire), Ordering::Release);
    }

    /// The number of the first turn that begins after now.
    pub fn next(&self) -> u64 {
        self.begun.load(Ordering::Acquire) + 1
    }

    /// Whether a turn is over.
    pub fn is_over(&self, turn: u64) -> bool {
        self.over.load(Ordering::Acquire) >= turn
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;

    #[test]
    fn a_turn_that_goes_on_is_not_enough() {
        let turns = Turns::default();
        turns.begin();
        let next = turns.next();
        turns.end();
        assert!(!turns.is_over(next));
        turns.begin();
        assert!(!turns.is_over(next));
        turns.end();
        assert!(turns.is_over(next));
    }
}
