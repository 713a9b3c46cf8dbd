//! Counters of outcomes, by rule and by reason.

use aya_ebpf::maps::PerCpuArray;
use bulkhead_abi::{Counter, Direction, REASONS, tls_index};
use bulkhead_engine::{Beginning, Outcome, Reason};

use crate::maps::{RULE_COUNTERS, TLS_COUNTERS, UNREPORTED};
use crate::nesting::add;

/// Counts an outcome: for its rule, and for its reason, unless that is the rule alone.
#[inline(always)]
pub(crate) fn count_outcome(
    outcome: Outcome,
    length: u32,
    direction: Direction,
    reasons: &PerCpuArray<Counter>,
) {
    let Outcome { reason, rule } = outcome;
    if matches!(reason, Reason::Rule | Reason::DenyRule | Reason::VenueDefaultDeny) {
        count(RULE_COUNTERS.get_ptr_mut(rule), length);
    }
    if reason != Reason::Rule {
        count(reasons.get_ptr_mut(direction.index() * REASONS + reason as u32), length);
    }
}

/// Counts the drop of a packet that there is no place to decide in.
#[inline(always)]
pub(crate) fn count_crowded_out(length: u32, direction: Direction) {
    let index = direction.index() * REASONS + Reason::NestingDepth as u32;
    count(UNREPORTED.get_ptr_mut(index), length);
}

/// Counts for a rule how a flow began.
#[inline(always)]
pub(crate) fn count_beginning(rule: u32, beginning: Beginning) {
    if let Some(counter) = TLS_COUNTERS.get_ptr_mut(tls_index(rule, beginning.counter())) {
        // SAFETY: this CPU's own element.
        unsafe { add(counter, 1) };
    }
}

/// Adds a packet to a counter.
#[inline(always)]
pub(crate) fn count(counter: Option<*mut Counter>, length: u32) {
    if let Some(counter) = counter {
        // SAFETY: the words of this CPU's own element.
        unsafe {
            add(&raw mut (*counter).packets, 1);
            add(&raw mut (*counter).bytes, length.into());
        }
    }
}
