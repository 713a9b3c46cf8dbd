//! What becomes of an outcome: it is counted, a drop is reported, and the hook is told what to do. Nothing here
//! changes a verdict.

use bulkhead_abi::{Direction, LOST_RING, recall};
use bulkhead_engine::{Action, Environment as _, Metadata, Outcome, Reason, is_of_known_sender};

use crate::compare::compare;
use crate::counters::count_outcome;
use crate::environment::MAPS;
use crate::maps::{REASON_COUNTERS, REASON_COUNTERS_1, UNREPORTED};
use crate::nesting::Place;
use crate::reports::{Turn, pay, report_flow, tell, turn};
use crate::settings;

/// Counts and reports an outcome; returns what to do with the packet. Out of line is only what
/// tells of a drop.
#[inline(always)]
pub(crate) fn conclude(meta: &Metadata, place: Place, direction: Direction, interface: u32) -> Action {
    compare(meta, place, direction, interface);
    match meta.outcome.reason.action() {
        Action::Pass => {
            count_outcome(meta.outcome, meta.headers.length, direction, &REASON_COUNTERS);
            // Where ends were not looked at they are an earlier packet's, and no rule has decided.
            if MAPS.tells_of_flows() && meta.outcome.reason == Reason::Rule && recall(&meta.sides.begun) != 0
            {
                report_flow(meta, direction, interface);
            }
            Action::Pass
        }
        Action::Drop => {
            conclude_drop(meta, direction, interface);
            if MAPS.audit() && !meta.outcome.reason.drops_in_audit() { Action::Pass } else { Action::Drop }
        }
    }
}

/// Counts a drop, and reports it within the budget.
#[inline(always)]
fn conclude_drop(meta: &Metadata, direction: Direction, interface: u32) {
    let Some(fund) = pay(direction, meta) else {
        count_outcome(meta.outcome, meta.headers.length, direction, &UNREPORTED);
        return;
    };
    // Counted and told of in one turn, whichever it is by then.
    let turn = turn();
    let reasons = if turn == Turn::Odd { &REASON_COUNTERS_1 } else { &REASON_COUNTERS };
    count_outcome(meta.outcome, meta.headers.length, direction, reasons);
    let key = || meta.drop_key(direction, interface, settings::generation());
    tell(key, &meta.headers, LOST_RING, (turn, fund));
}

/// Counts the verdict on a plain packet. A drop that is to be reported, since it has a budget, is not
/// concluded: that needs metadata.
#[inline(always)]
pub(crate) fn conclude_settled(
    (length, outcome, remote): (u32, Outcome, u32),
    direction: Direction,
    has_budget: impl FnOnce(bool) -> bool,
) -> Option<Action> {
    match outcome.reason.action() {
        Action::Pass => {
            count_outcome(outcome, length, direction, &REASON_COUNTERS);
            Some(Action::Pass)
        }
        Action::Drop if has_budget(is_of_known_sender(outcome.reason, remote, settings::wide())) => None,
        Action::Drop => {
            count_outcome(outcome, length, direction, &UNREPORTED);
            Some(Action::Drop)
        }
    }
}

/// Counts and reports the drop of a packet whose enforced program could not be reached.
#[inline(always)]
pub(crate) fn undecided(meta: Option<&'static mut Metadata>, direction: Direction, interface: u32) {
    let Some(meta) = meta else {
        return;
    };
    meta.outcome = Metadata::UNKNOWN.outcome;
    conclude_drop(meta, direction, interface);
}

/// For debugging: says what every packet met. Compiled out unless the `log` feature asks for it.
#[cfg(feature = "log")]
pub(crate) fn log(ctx: &impl aya_ebpf::EbpfContext, meta: &Metadata, direction: Direction) {
    aya_log_ebpf::debug!(
        ctx,
        "direction {} protocol {} ports {} {} reason {} rule {}",
        direction.index(),
        meta.headers.protocol,
        meta.headers.source_port,
        meta.headers.destination_port,
        meta.outcome.reason as u8,
        meta.outcome.rule
    );
}
