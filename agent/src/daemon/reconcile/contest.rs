//! Interfaces whose enforcement others take away again and again: it is restored each time, but packets pass in
//! between. The guard keeps such an interface closed until it is left alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// So many restorations within [`WINDOW`] are no accident, and no tool that is restarted.
const MOST: usize = 30;

/// How far back restorations count.
const WINDOW: Duration = Duration::from_secs(3);

/// How long an interface must be left alone before it is opened.
const ALONE: Duration = Duration::from_secs(10);

/// The last restorations, by interface.
#[derive(Debug, Default)]
pub struct Contests(BTreeMap<String, VecDeque<Instant>>);

impl Contests {
    /// Notes that enforcement was restored, after packets may have passed.
    pub fn restored(&mut self, interface: &str, now: Instant) {
        let times = self.0.entry(interface.to_owned()).or_default();
        if times.len() == MOST {
            times.pop_front();
        }
        times.push_back(now);
    }

    /// Whether it is to be kept closed.
    #[must_use]
    pub fn is_contested(&self, interface: &str, now: Instant) -> bool {
        let Some(times) = self.0.get(interface).filter(|times| times.len() == MOST) else { return false };
        let (Some(first), Some(last)) = (times.front(), times.back()) else { return false };
        last.duration_since(*first) <= WINDOW && now.duration_since(*last) < ALONE
    }
}

/// What the operator is told of such an interface.
#[must_use]
pub fn problem(interface: &str, has_guard: bool) -> String {
    let (window, alone) = (WINDOW.as_secs(), ALONE.as_secs());
    let effect = if has_guard {
        format!("the guard drops what it carries until it has been left alone for {alone} s")
    } else {
        "packets passed in between, and nothing closes it while the guard is off".to_owned()
    };
    format!(
        "interface {interface}: enforcement was taken away {MOST} times within {window} s and restored; {effect}"
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ALONE, Contests, MOST};

    #[test]
    fn what_is_taken_away_again_and_again_is_contested_until_it_is_left_alone() {
        let (mut contests, start) = (Contests::default(), Instant::now());
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        for place in 0..MOST as u64 {
            assert!(!contests.is_contested("wg0", at(place * 100)));
            contests.restored("wg0", at(place * 100));
        }
        let last = at((MOST as u64 - 1) * 100);
        assert!(contests.is_contested("wg0", last) && !contests.is_contested("wg1", last));
        assert!(contests.is_contested("wg0", last + ALONE - Duration::from_millis(1)));
        assert!(!contests.is_contested("wg0", last + ALONE));
        // A few in a second are no contest.
        for place in 0..200 {
            let now = at(60_000 + place * 150);
            contests.restored("wg0", now);
            assert!(!contests.is_contested("wg0", now));
        }
    }
}
