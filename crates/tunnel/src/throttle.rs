//! Repeated complaints, kept from filling the log: anyone on the underlay can cause them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one message of each kind through per period, and counts the rest.
pub struct Throttle {
    period: Duration,
    kinds: Mutex<HashMap<&'static str, Kind>>,
}

struct Kind {
    said: Instant,
    unsaid: u64,
}

impl Throttle {
    pub fn new(period: Duration) -> Throttle {
        Throttle { period, kinds: Mutex::default() }
    }

    /// Whether to say this now, and how many of its kind went unsaid since the last.
    pub fn pass(&self, kind: &'static str, now: Instant) -> Option<u64> {
        // A panic elsewhere leaves at worst a wrong count.
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = kinds.get_mut(kind) else {
            kinds.insert(kind, Kind { said: now, unsaid: 0 });
            return Some(0);
        };
        if now.duration_since(known.said) < self.period {
            known.unsaid += 1;
            return None;
        }
        known.said = now;
        Some(std::mem::take(&mut known.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_per_period() {
        let throttle = Throttle::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(throttle.pass("a", at(0)), Some(0));
        assert_eq!(throttle.pass("a", at(1)), None);
        assert_eq!(throttle.pass("a", at(9)), None);
        assert_eq!(throttle.pass("b", at(9)), Some(0), "another kind is not held back");
        assert_eq!(throttle.pass("a", at(10)), Some(2), "and says how many went unsaid");
        assert_eq!(throttle.pass("a", at(19)), None);
        assert_eq!(throttle.pass("a", at(20)), Some(1));
    }
}
