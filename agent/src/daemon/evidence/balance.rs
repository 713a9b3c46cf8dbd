//! The account of drops: the kernel's counters against what records tell of.
//!
//! The counters are read, and everything that was dropped by then is waited for: programs that still run, the ring,
//! and one whole turn of the tables of summaries. Then the event log seals the account: it has noted what all records
//! before it tell of, and reads the counters again. Programs count a drop before they tell of it, so what is told of
//! lies between the two readings.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_api::event::{Balance, Count, Direction, Dropped, EventStats, Kind, LostDrops, Reason, Timestamp};
use bulkhead_api::status::ReasonCount;
use bulkhead_dataplane::{Dataplane as _, State};
use bulkhead_engine::Action;
use bulkhead_events::Ring;

use crate::daemon::clock::boot_time;
use crate::daemon::events::timestamp;
use crate::daemon::fallback::drops;
use crate::daemon::state::Enforcer;
use crate::daemon::state::counter_epoch::CounterEpoch;

/// How long what was dropped is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same by an agent that ends.
const LAST_PATIENCE: Duration = Duration::from_millis(1500);

/// Between two looks whether it is told of.
const LOOK: Duration = Duration::from_millis(20);

/// Has the event log seal the account.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn tell(enforcer: &Enforcer, state: State, is_last: bool) -> anyhow::Result<()> {
    let reasons = state.reasons()?;
    let before = drops(&state)?;
    let settled = settle(enforcer, if is_last { LAST_PATIENCE } else { PATIENCE })?;
    let lost = state.losses()?;
    let epoch = CounterEpoch::read(&enforcer.store);
    let counted_since = (epoch.started != 0).then(|| Timestamp::from_unix(epoch.started));
    let lost = LostDrops { ring: lost.ring, budget: lost.budget, unread: epoch.unaccounted };
    let count = |(direction, reason, counter): (bulkhead_abi::Direction, _, bulkhead_abi::Counter)| Count {
        direction: Some(match direction {
            bulkhead_abi::Direction::Ingress => Direction::Ingress,
            bulkhead_abi::Direction::Egress => Direction::Egress,
        }),
        reason: Reason::Program(reason),
        packets: counter.packets,
    };
    let reasons = reasons.into_iter().filter(|(_, reason, _)| reason.action() == Action::Drop).map(count).collect();
    let guard = drops::totals(&enforcer.setup.instance, &enforcer.store)?.into_iter().filter_map(of_guard).collect();
    let seal = move |noted: &EventStats| {
        // A counter that cannot be read is no reason to say that all is well: zero does not balance.
        let dropped = Dropped { before, after: self::drops(&state).unwrap_or(0) };
        let (told, unwritten) = noted.told();
        let balance = Balance { counted_since, dropped, told, unwritten, lost, settled, reasons, guard };
        if !balance.is_balanced() {
            tracing::warn!(before, after = dropped.after, told, unwritten, settled, "drops are not balanced");
        }
        (timestamp(boot_time()), Kind::Balance(Box::new(balance)))
    };
    anyhow::ensure!(enforcer.shared.hub.seal(Box::new(seal)), "the event log's queue has no room");
    Ok(())
}

/// Packets counted under reasons that drop.
fn drops(state: &State) -> anyhow::Result<u64> {
    let reasons = state.reasons()?.into_iter();
    Ok(reasons.filter(|(_, reason, _)| reason.action() == Action::Drop).map(|(.., count)| count.packets).sum())
}

/// Waits until everything that was dropped by now is told of or lost, within a limit; whether it is.
fn settle(enforcer: &Enforcer, limit: Duration) -> anyhow::Result<bool> {
    enforcer.plane.wait_for_programs()?;
    let ring = Ring::open(State::events(enforcer.pins())?.as_fd()).context("opening the event ring")?;
    let (written, turn) = (ring.written(), enforcer.shared.turns.next());
    let until = Instant::now() + limit;
    while ring.released() < written || !enforcer.shared.turns.is_over(turn) {
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
    Ok(true)
}

fn of_guard(count: ReasonCount) -> Option<Count> {
    Some(Count { direction: None, reason: count.reason.parse().ok()?, packets: count.packets })
}
