//! What the staged generation decides otherwise than the enforced one.

use bulkhead_abi::{AggregateKey, Direction, KIND_STAGED, staged_index};
use bulkhead_engine::{Action, Metadata};

use crate::counters::count;
use crate::maps::STAGED_COUNTERS;
use crate::nesting::Place;
use crate::reports::report_difference;
use crate::settings;

/// Counts and reports a packet that the staged generation decided otherwise.
#[inline(always)]
pub(crate) fn compare(meta: &Metadata, place: Place, direction: Direction, interface: u32) {
    if !settings::has_staged() || !meta.outcome.reason.is_of_policy() {
        return;
    }
    let Some(staged) = place.staged_meta() else {
        return;
    };
    let would_pass = staged.outcome.reason.action() == Action::Pass;
    if would_pass == (meta.outcome.reason.action() == Action::Pass) {
        return;
    }
    count(STAGED_COUNTERS.get_ptr_mut(staged_index(direction, would_pass)), meta.headers.length);
    let key = || AggregateKey {
        other_rule: meta.outcome.rule,
        other_generation: settings::generation(),
        other_reason: meta.outcome.reason as u8,
        kind: KIND_STAGED,
        ..staged.drop_key(direction, interface, settings::staged_generation())
    };
    report_difference(key, meta, direction);
}
