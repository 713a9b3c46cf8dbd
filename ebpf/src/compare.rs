//! What the staged generation decides otherwise than the enforced one.

use bulkhead_abi::{AggregateKey, Direction, KIND_SHADOW, shadow_index};
use bulkhead_engine::{Action, Metadata};

use crate::counters::count;
use crate::maps::SHADOW_COUNTERS;
use crate::nesting::Place;
use crate::reports::report_difference;
use crate::settings;

/// Counts and reports a packet that the observing generation decided otherwise.
#[inline(always)]
pub(crate) fn compare(meta: &Metadata, place: Place, direction: Direction, interface: u32) {
    if !settings::has_shadow() || !meta.outcome.reason.is_of_policy() {
        return;
    }
    let Some(shadow) = place.shadow_meta() else {
        return;
    };
    let would_pass = shadow.outcome.reason.action() == Action::Pass;
    if would_pass == (meta.outcome.reason.action() == Action::Pass) {
        return;
    }
    count(SHADOW_COUNTERS.get_ptr_mut(shadow_index(direction, would_pass)), meta.headers.length);
    let key = || AggregateKey {
        other_rule: meta.outcome.rule,
        other_generation: settings::generation(),
        other_reason: meta.outcome.reason as u8,
        kind: KIND_SHADOW,
        ..shadow.drop_key(direction, interface, settings::shadow_generation())
    };
    report_difference(key, meta, direction);
}
