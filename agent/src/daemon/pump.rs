//! From the kernel's ring and aggregates to reports: the journal and whoever watches.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use bulkhead_abi::{AggregateKey, AggregateValue, EVENT_AUDIT, Event, KIND_SHADOW};
use bulkhead_api::status::Pumped;
use bulkhead_dataplane::{KernelError, Leftover, Pins, State};
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::clock::BootClock;
use super::guard_drops::Told;
use super::inputs::{Inputs, Target};
use super::journal::Journal;
use super::links::Missed;
use super::names::Names;
use super::store::Store;
use crate::report::{DropReport, Report};

/// How often aggregates are taken out of the kernel.
const INTERVAL: Duration = Duration::from_secs(1);

/// So many events at a time, before what else there is to tell has its turn.
const BATCH: usize = 1024;

/// How many reports a slow watcher may lag behind before it loses some.
const BACKLOG: usize = 4096;

/// Generations whose names are kept: events of those before are long read.
const GENERATIONS: usize = 8;

/// Shared between the pump and the socket.
pub struct Shared {
    /// Reports, to whoever watches.
    pub reports: broadcast::Sender<Report>,
    /// What the agent itself has to report, to be written by the pump.
    pub own: mpsc::UnboundedSender<Report>,
    unwritten: Mutex<Option<mpsc::UnboundedReceiver<Report>>>,
    /// Interfaces by all indices that they have had.
    pub indices: Arc<Mutex<HashMap<u32, String>>>,
    /// Counts.
    pub pumped: Mutex<Pumped>,
    /// What of their links' protocols interfaces miss.
    pub missed: Missed,
    names: Mutex<BTreeMap<u32, Arc<Names>>>,
    store: Store,
    target: Target,
}

impl Shared {
    /// Nothing yet. `store` has what generations before this agent's were made from.
    #[must_use]
    pub fn new(store: Store, target: Target, indices: Arc<Mutex<HashMap<u32, String>>>) -> Self {
        let (own, unwritten) = mpsc::unbounded_channel();
        Self {
            reports: broadcast::channel(BACKLOG).0,
            own,
            unwritten: Mutex::new(Some(unwritten)),
            indices,
            pumped: Mutex::default(),
            missed: Missed::default(),
            names: Mutex::default(),
            store,
            target,
        }
    }

    /// Adds a generation's names, before a packet can meet it.
    pub fn add(&self, generation: u32, names: Arc<Names>) {
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(generation, names);
        while known.len() > GENERATIONS {
            known.pop_first();
        }
    }

    /// The generation that was made last, and its names.
    pub(super) fn latest(&self) -> (u32, Arc<Names>) {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = known.last_key_value().map(|(generation, names)| (*generation, names.clone()));
        latest.unwrap_or_else(|| (0, Arc::new(Names::unknown(self.indices.clone(), false))))
    }

    /// The names of the generation that decided. One that ran before this agent started is
    /// compiled again from what was kept of it.
    fn names(&self, generation: u32, audit: bool) -> Arc<Names> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&generation).cloned();
        known.unwrap_or_else(|| {
            let indices = self.indices.clone();
            let compiled = self
                .store
                .kept(generation)
                .and_then(|(files, made)| Inputs::compile(files, made.mode, &self.target).ok())
                // Another node's or compiler's tables would number rules otherwise.
                .filter(|inputs| inputs.fingerprints == self.store.fingerprints(generation));
            let names = match compiled {
                Some(inputs) => Names::new(&inputs, indices),
                None => Names::unknown(indices, audit),
            };
            let names = Arc::new(names);
            self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(generation, names.clone());
            names
        })
    }

    /// The report of a candidate's difference, with what the enforced generation did.
    fn compared(&self, key: &AggregateKey, audit: bool, report: DropReport) -> DropReport {
        match key.kind {
            KIND_SHADOW => {
                let enforced = self.names(key.other_generation, audit).enforced(key);
                DropReport { enforced: Some(enforced), ..report }
            }
            _ => report,
        }
    }

    /// Writes a report of what is not in the kernel's tables, counts the drops that it tells of, and sends it
    /// to whoever watches.
    pub fn tell(&self, report: Report, journal: &mut Journal, count: impl FnOnce(&mut Pumped) -> &mut u64) {
        journal.append(&report, &[], count);
        self.count(journal);
        self.send(report);
    }

    /// Shows what the journal's account has come to.
    fn count(&self, journal: &Journal) {
        *self.pumped.lock().unwrap_or_else(PoisonError::into_inner) = journal.account.pumped();
    }

    fn send(&self, report: Report) {
        // Nobody watching is fine.
        let _ = self.reports.send(report);
    }
}

/// Pumps on a thread of its own, so that neither a flood of events nor a disk that hangs keeps anything else
/// waiting. What is returned tells of its end. `guard` has what the guard drops.
///
/// # Errors
/// If the system has no more threads.
pub fn start(
    pins: Pins,
    journal: Journal,
    shared: Arc<Shared>,
    guard: mpsc::Receiver<Told>,
) -> anyhow::Result<oneshot::Receiver<anyhow::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the thread that tells of drops")?;
    let (end, ended) = oneshot::channel();
    let pump = move || {
        // Nobody waits any more when the agent ends.
        let _ = end.send(runtime.block_on(run(&pins, journal, shared, guard)));
    };
    std::thread::Builder::new().name("pump".to_owned()).spawn(pump)?;
    Ok(ended)
}

/// Pumps until the ring cannot be read any more.
async fn run(
    pins: &Pins,
    mut journal: Journal,
    shared: Arc<Shared>,
    mut guard: mpsc::Receiver<Told>,
) -> anyhow::Result<()> {
    let ring = State::events(pins)?;
    // SAFETY: a ring keeps its descriptor, and owns it until it is dropped.
    let mut ring = unsafe { AsyncFd::register(ring) }.context("watching the event ring")?;
    let mut state = State::open(pins)?;
    let own = shared.unwritten.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut own = own.context("the pump runs already")?;
    shared.count(&journal);
    let clock = BootClock::now();
    // First, while it is as a killed agent has left it.
    state.take_left_aggregates(|key, value| summarise(&key, &value, &clock, &shared, &mut journal))?;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ready = ring.readable_mut() => {
                let mut ready = ready.context("waiting for the event ring")?;
                if drain(ready.get_inner_mut(), BATCH, &shared, &mut journal) {
                    ready.clear_ready();
                }
            }
            Some(report) = own.recv() => shared.tell(report, &mut journal, |pumped| &mut pumped.events),
            Some(told) = guard.recv() => shared.tell_guard(&told, &mut journal),
            _ = ticks.tick() => {
                let clock = BootClock::now();
                state.take_aggregates(|key, value| summarise(&key, &value, &clock, &shared, &mut journal))?;
            }
        }
    }
}

/// Tells of what tables that are replaced still hold.
///
/// # Errors
/// If the kernel refuses.
pub fn tell_leftover(
    mut leftover: Leftover,
    shared: &Shared,
    journal: &mut Journal,
) -> Result<(), KernelError> {
    for ring in &mut leftover.events {
        drain(ring, usize::MAX, shared, journal);
    }
    let clock = BootClock::now();
    leftover.take_aggregates(|key, value| summarise(&key, &value, &clock, shared, journal))
}

/// Tells of what the ring holds now, of so many events at most; whether it was all. An event leaves the ring
/// once it is written: an agent that is killed in between loses none.
fn drain(ring: &mut RingBuf<MapData>, most: usize, shared: &Shared, journal: &mut Journal) -> bool {
    let clock = BootClock::now();
    for _ in 0..most {
        let Some(item) = ring.next() else { return true };
        let Some(event) = read_event(&item) else {
            tracing::error!(bytes = item.len(), "an event of another layout in the ring");
            continue;
        };
        if journal.account.is_told(&item) {
            continue;
        }
        let audit = event.flags & EVENT_AUDIT != 0;
        let names = shared.names(event.key.generation, audit);
        let report = shared.compared(&event.key, audit, names.event(&event, &clock));
        shared.missed.note(&report);
        let report = Report::Drop(Box::new(report));
        journal.append(&report, &item, |pumped| &mut pumped.events);
        shared.count(journal);
        drop(item);
        shared.send(report);
    }
    false
}

fn read_event(bytes: &[u8]) -> Option<Event> {
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    // SAFETY: as many bytes as an event has, every bit pattern of which is one.
    Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() })
}

/// Tells of what was dropped since the ring told of the first of a kind.
fn summarise(
    key: &AggregateKey,
    value: &AggregateValue,
    clock: &BootClock,
    shared: &Shared,
    journal: &mut Journal,
) {
    // Told again only if an agent was killed right then: the table has it unchanged.
    let item = format!("{key:?} {value:?}");
    if value.packets == 0 || journal.account.is_told(item.as_bytes()) {
        return;
    }
    let names = shared.names(key.generation, false);
    let report = names.report(key, value.last, value.packets, value.bytes, clock);
    let report = shared.compared(key, false, report);
    shared.missed.note(&report);
    let report = Report::Drop(Box::new(report));
    journal.append(&report, item.as_bytes(), |pumped| &mut pumped.aggregated);
    shared.count(journal);
    shared.send(report);
}
