//! GCRA over one shared word: the time at which the next unit is due.

use bulkhead_abi::{Address, Rate};

/// The word of one rate: the theoretical arrival time, ns, which all CPUs share.
pub trait RateState {
    /// Its value.
    fn load(&self) -> u64;
    /// Puts `new` in the place of `old`; returns what was there.
    fn compare_exchange(&self, old: u64, new: u64) -> u64;
}

impl RateState for &bulkhead_abi::Word {
    #[inline(always)]
    fn load(&self) -> u64 {
        bulkhead_abi::Word::load(self)
    }
    #[inline(always)]
    fn compare_exchange(&self, old: u64, new: u64) -> u64 {
        bulkhead_abi::Word::compare_exchange(self, old, new)
    }
}

/// Tries before a packet is dropped: each failed one means that another CPU's packet passed.
const ATTEMPTS: usize = 8;

/// Takes `units` (at least 1) if the rate lets them pass at `now`. A merged packet passes as a
/// whole or not at all; what it takes beyond the burst is missing afterwards.
#[inline(always)]
pub(crate) fn take(state: &impl RateState, rate: Rate, now: u64, units: u64) -> bool {
    if rate.interval == 0 {
        return true;
    }
    for _ in 0..ATTEMPTS {
        let due = state.load();
        let start = if due > now { due } else { now };
        if start - now > rate.tolerance {
            return false;
        }
        if state.compare_exchange(due, start + units * rate.interval) == due {
            return true;
        }
    }
    false
}

/// Whether a rate would let nothing pass at `now`.
#[inline(always)]
pub(crate) fn is_used_up(state: &impl RateState, rate: Rate, now: u64) -> bool {
    state.load().saturating_sub(now) > rate.tolerance
}

/// A hash of an address; its upper bits say which of many words is the address's.
#[inline(always)]
pub(crate) fn hash([a, b, c, d]: &Address) -> u64 {
    let address = (u64::from(*a) << 32 | u64::from(*b)).wrapping_mul(0x2127_599b_f432_5c37)
        ^ (u64::from(*c) << 32 | u64::from(*d));
    (address ^ address >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::{Rate, RateState, take};

    const RATE: Rate = Rate { interval: 1_000, tolerance: 9_000 };

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let state = Rc::new(Cell::new(0));
        let passed = (0..1_000_000u64).step_by(100).filter(|now| take(&state, RATE, 5_000 + now, 1)).count();
        // 1,000 at the rate, and the burst of 10 with the first among them.
        assert_eq!(passed, 1_009);
    }

    #[test]
    fn units_of_a_merged_packet_are_made_up_for() {
        let state = Rc::new(Cell::new(0));
        assert!(take(&state, RATE, 0, 40));
        assert!(!take(&state, RATE, 30_999, 1));
        assert!(take(&state, RATE, 31_000, 1));
    }

    #[test]
    fn who_never_wins_the_word_does_not_pass() {
        struct Busy(Cell<u64>);
        impl RateState for Busy {
            fn load(&self) -> u64 {
                self.0.set(self.0.get() + 1);
                self.0.get()
            }
            fn compare_exchange(&self, _: u64, _: u64) -> u64 {
                self.0.get() + 1
            }
        }
        assert!(!take(&Busy(Cell::new(0)), RATE, 10, 1));
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(take(&Rc::new(Cell::new(u64::MAX)), Rate::default(), 0, 1));
    }
}
