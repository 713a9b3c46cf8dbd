//! Asks whoever turns the tables of summaries to balance the accounts.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct Asked {
    asked: u64,
    made: u64,
}

/// Balances that were asked for, and made.
#[derive(Debug, Default)]
pub struct Turns {
    balances: Mutex<Asked>,
    changed: Condvar,
}

impl Turns {
    fn held(&self) -> MutexGuard<'_, Asked> {
        self.balances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a balance, and waits until it is made, within a limit; whether it is.
    pub fn balance(&self, limit: Duration) -> bool {
        let mut held = self.held();
        held.asked += 1;
        let wanted = held.asked;
        self.changed.notify_all();
        drop(held);
        self.wait(limit, |balances| balances.made >= wanted)
    }

    /// The balance that was asked for last, if it is not made.
    pub fn asked(&self) -> Option<u64> {
        let held = self.held();
        (held.asked != held.made).then_some(held.asked)
    }

    /// All that were asked for until this one are made, or came to nothing.
    pub fn made(&self, asked: u64) {
        self.held().made = asked;
        self.changed.notify_all();
    }

    /// Waits until a balance is asked for, or for so long.
    pub fn pause(&self, limit: Duration) {
        self.wait(limit, |balances| balances.asked != balances.made);
    }

    fn wait(&self, limit: Duration, holds: impl Fn(&Asked) -> bool) -> bool {
        let until = Instant::now() + limit;
        let mut held = self.held();
        loop {
            if holds(&held) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            held = self.changed.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Turns;

    #[test]
    fn whoever_asks_waits_until_it_is_made() {
        let turns = Turns::default();
        assert_eq!(turns.asked(), None);
        assert!(!turns.balance(Duration::from_millis(1)), "nobody makes it");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                turns.pause(Duration::from_secs(60));
                while let Some(asked) = turns.asked() {
                    turns.made(asked);
                }
            });
            assert!(turns.balance(Duration::from_secs(60)));
        });
        assert_eq!(turns.asked(), None);
    }
}
