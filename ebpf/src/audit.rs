//! What becomes of an outcome: it is counted, a drop is reported, and the hook is told what to do. Nothing here
//! changes a verdict.

use bulkhead_abi::{Direction, LOST_RING};
use bulkhead_engine::{Action, Case, Environment as _, Outcome, Reason, is_of_known_sender};

use crate::compare::compare;
use crate::counters::count_outcome;
use crate::environment::MAPS;
use crate::maps::{REASON_COUNTERS, UNREPORTED};
use crate::nesting::Place;
use crate::reports::{pay, tell};
use crate::settings;

/// Counts and reports an outcome; returns what to do with the packet. Out of line is only what
/// tells of a drop.
#[inline(always)]
pub(crate) fn conclude(case: &Case, place: Place, direction: Direction, interface: u32) -> Action {
    compare(case, place, direction, interface);
    match case.outcome.reason.action() {
        Action::Pass => {
            count_outcome(case.outcome, case.headers.length, direction, &REASON_COUNTERS);
            Action::Pass
        }
        Action::Drop => {
            conclude_drop(case, direction, interface);
            if MAPS.audit() && case.outcome.reason != Reason::Quarantined {
                Action::Pass
            } else {
                Action::Drop
            }
        }
    }
}

/// Counts a drop, and reports it within the budget.
#[inline(always)]
fn conclude_drop(case: &Case, direction: Direction, interface: u32) {
    let fund = pay(direction, case);
    let reasons = if fund.is_some() { &REASON_COUNTERS } else { &UNREPORTED };
    count_outcome(case.outcome, case.headers.length, direction, reasons);
    if let Some(fund) = fund {
        tell(|| case.drop_key(direction, interface, settings::generation()), &case.headers, LOST_RING, fund);
    }
}

/// Counts the verdict on a plain packet. A drop that is to be reported, since it has a budget, is not
/// concluded: that needs a case.
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
pub(crate) fn undecided(case: Option<&'static mut Case>, direction: Direction, interface: u32) {
    let Some(case) = case else {
        return;
    };
    case.outcome = Case::UNKNOWN.outcome;
    conclude_drop(case, direction, interface);
}

/// For debugging: says what every packet met. Compiled out unless the `log` feature asks for it.
#[cfg(feature = "log")]
pub(crate) fn log(ctx: &impl aya_ebpf::EbpfContext, case: &Case, direction: Direction) {
    aya_log_ebpf::debug!(
        ctx,
        "direction {} protocol {} ports {} {} reason {} rule {}",
        direction.index(),
        case.headers.protocol,
        case.headers.source_port,
        case.headers.destination_port,
        case.outcome.reason as u8,
        case.outcome.rule
    );
}
