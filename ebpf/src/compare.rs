//! What the staged generation decides otherwise than the enforced one.

use bulkhead_abi::{AggregateKey, Direction, KIND_SHADOW, shadow_index};
use bulkhead_engine::{Action, Case};

use crate::counters::count;
use crate::maps::SHADOW_COUNTERS;
use crate::nesting::Place;
use crate::reports::report_difference;
use crate::settings;

/// Counts and reports a packet that the observing generation decided otherwise.
#[inline(always)]
pub(crate) fn compare(case: &Case, place: Place, direction: Direction, interface: u32) {
    if !settings::has_shadow() || !case.outcome.reason.is_of_policy() {
        return;
    }
    let Some(shadow) = place.shadow_case() else {
        return;
    };
    let would_pass = shadow.outcome.reason.action() == Action::Pass;
    if would_pass == (case.outcome.reason.action() == Action::Pass) {
        return;
    }
    count(SHADOW_COUNTERS.get_ptr_mut(shadow_index(direction, would_pass)), case.headers.length);
    let key = || AggregateKey {
        other_rule: case.outcome.rule,
        other_generation: settings::generation(),
        other_reason: case.outcome.reason as u8,
        kind: KIND_SHADOW,
        ..shadow.drop_key(direction, interface, settings::shadow_generation())
    };
    report_difference(key, case, direction);
}
