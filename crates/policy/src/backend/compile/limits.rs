//! Rates → the table of rate limits.

use bulkhead_abi::{Rate, RateLimit};

use super::error::CompileError;
use crate::frontend::policy::Rates;

const SECOND: u64 = 1_000_000_000;
/// How far packets may run ahead of their rate, in ns.
const PACKETS_AHEAD: u64 = 10_000_000;

/// The limits of a node's rules: one entry a rule, so that all that it admits counts together.
/// Entry 0 is unused.
pub(super) struct Table {
    pub(super) table: Vec<RateLimit>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { table: vec![RateLimit::default()] }
    }

    /// The index of a new entry for one rule; 0 if it has no limit.
    pub(super) fn add(&mut self, rates: Rates) -> u16 {
        if rates == Rates::default() {
            return 0;
        }
        let packets = rate(rates.packets, PACKETS_AHEAD);
        let new_flows = rate(rates.new_flows, SECOND);
        self.table.push(RateLimit { packets, new_flows });
        // More than an index holds: `check` refuses them all.
        u16::try_from(self.table.len() - 1).unwrap_or(u16::MAX)
    }

    /// Whether every index is what it says.
    pub(super) fn check(&self) -> Result<(), CompileError> {
        super::bounded("rules with rate limits", self.table.len(), usize::from(u16::MAX))
    }
}

/// The interval is rounded up, so that the rate is never exceeded; the burst is at least one
/// interval, so that a slow rate admits anything at all.
fn rate(per_second: Option<u32>, ahead: u64) -> Rate {
    let Some(per_second) = per_second else { return Rate::default() };
    let interval = SECOND.div_ceil(u64::from(per_second));
    Rate { interval, tolerance: ahead.max(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_never_exceeded() {
        for per_second in [1, 2, 3, 7, 10, 1000, 333_333, 500_000, 999_999_999, 1_000_000_000] {
            let rate = rate(Some(per_second), PACKETS_AHEAD);
            assert!(rate.interval * u64::from(per_second) >= SECOND, "{per_second}");
            assert!((rate.interval - 1) * u64::from(per_second) < SECOND, "{per_second}");
            assert!(rate.tolerance >= rate.interval && rate.tolerance >= PACKETS_AHEAD);
        }
        assert_eq!(rate(None, SECOND), Rate::default());
    }

    #[test]
    fn a_rule_without_limits_has_no_entry() {
        let mut table = Table::new();
        assert_eq!(table.add(Rates::default()), 0);
        assert_eq!(table.add(Rates { packets: Some(10), new_flows: None }), 1);
        assert_eq!(table.add(Rates { packets: Some(10), new_flows: None }), 2);
        assert_eq!(table.table[2].new_flows, Rate::default());
    }
}
