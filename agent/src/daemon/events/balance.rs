//! The account of drops: the kernel's counters against what records tell of, to the packet.
//!
//! The programs count what they report in one of two accounts, that of the table of summaries in use, and tell of it
//! by that table or by an event that names the account. When the tables are turned and the programs that still used
//! the old one are waited for, its account stands still: what the table has is told of, what the ring had by then is
//! waited for, and then the event log says how much its records tell of. The other account is closed by the next turn.

use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_abi::{AggregateKey, AggregateValue, Counter, Direction as OfPrograms, Reason as Verdict};
use bulkhead_api::event::{Account, Balance, Count, Direction, EventStats, Kind, Reason, Timestamp};
use bulkhead_api::status::ReasonCount;
use bulkhead_dataplane::{Pins, State};
use bulkhead_engine::Action;
use bulkhead_events::{EventHub, Ring};

use super::timestamp;
use crate::daemon::clock::boot_time;
use crate::daemon::state::counter_epoch::CounterEpoch;

/// How long what was dropped is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether it is told of.
const LOOK: Duration = Duration::from_millis(2);

/// Where a balance is made.
pub struct Balancer {
    hub: Arc<EventHub>,
    /// Looked at, and not read.
    ring: Ring,
}

impl Balancer {
    /// Of the tables that are pinned there.
    ///
    /// # Errors
    /// If the ring cannot be mapped.
    pub fn new(pins: &Pins, hub: Arc<EventHub>) -> anyhow::Result<Self> {
        let ring = Ring::open(State::events(pins)?.as_fd()).context("opening the event ring")?;
        Ok(Self { hub, ring })
    }

    /// Closes both accounts, one after the other, and has the event log write the balance. `take` tells of summaries.
    ///
    /// # Errors
    /// If the kernel refuses, or the log's queue has no room.
    pub fn balance(
        &self,
        state: &mut State,
        (epoch, guard): (CounterEpoch, Vec<ReasonCount>),
        mut take: impl FnMut(&[(AggregateKey, AggregateValue)], bool),
    ) -> anyhow::Result<()> {
        let counted_since = (epoch.started != 0).then(|| Timestamp::from_unix(epoch.started));
        let guard = guard.into_iter().filter_map(of_guard).collect();
        let balance = Balance { counted_since, unread: epoch.unaccounted, guard, ..Balance::default() };
        let balance = Arc::new(Mutex::new(balance));
        for is_last in [false, true] {
            let is_odd = state.take_aggregates(&mut take)?;
            let settled = self.settle();
            let (drops, lost) = state.account(is_odd)?;
            let account = Account { dropped: packets(&drops), lost, settled, ..Account::default() };
            if is_last {
                let mut balance = balance.lock().unwrap_or_else(PoisonError::into_inner);
                balance.unreported = packets(&dropping(state.unreported()?));
                balance.reasons = dropping(state.reasons()?).into_iter().map(count).collect();
            }
            let balance = balance.clone();
            let seal = move |noted: &EventStats, records: u64| {
                let mut balance = balance.lock().unwrap_or_else(PoisonError::into_inner);
                let (told, unwritten) = noted.told(is_odd);
                let place = if is_odd { &mut balance.odd } else { &mut balance.even };
                *place = Account { told, unwritten, records, ..account };
                is_last.then(|| made(&balance))
            };
            anyhow::ensure!(self.hub.seal(Box::new(seal)), "the event log's queue has no room");
        }
        Ok(())
    }

    /// Waits until what the ring has is told of, within a limit; whether it is.
    fn settle(&self) -> bool {
        let (written, until) = (self.ring.written(), Instant::now() + PATIENCE);
        while self.ring.released() < written {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

fn made(balance: &Balance) -> (Timestamp, Kind) {
    if !balance.is_balanced() {
        let (dropped, accounted) = (balance.dropped(), balance.accounted());
        tracing::warn!(dropped, accounted, "drops are not balanced; `bulkhead audit balance` says more");
    }
    (timestamp(boot_time()), Kind::Balance(Box::new(balance.clone())))
}

/// Counters of what the programs decided, by direction and reason.
type Counters = Vec<(OfPrograms, Verdict, Counter)>;

fn dropping(mut counters: Counters) -> Counters {
    counters.retain(|(_, reason, _)| reason.action() == Action::Drop);
    counters
}

fn packets(counters: &Counters) -> u64 {
    counters.iter().map(|(.., counter)| counter.packets).sum()
}

fn count((direction, reason, counter): (OfPrograms, Verdict, Counter)) -> Count {
    let direction = match direction {
        OfPrograms::Ingress => Direction::Ingress,
        OfPrograms::Egress => Direction::Egress,
    };
    Count { direction: Some(direction), reason: Reason::Program(reason), packets: counter.packets }
}

fn of_guard(count: ReasonCount) -> Option<Count> {
    Some(Count { direction: None, reason: count.reason.parse().ok()?, packets: count.packets })
}
