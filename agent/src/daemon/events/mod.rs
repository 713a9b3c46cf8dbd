//! Events of this agent: where they come from, and the sinks that they go to.

pub mod alone;
mod balance;
pub mod control;
pub mod facts;
mod turns;

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_abi::{AggregateKey, AggregateValue, KIND_STAGED};
use bulkhead_api::event::{Counted, Kind, Timestamp};
use bulkhead_api::status::ReasonCount;
use bulkhead_dataplane::{OrphanedEvents, Pins, State};
use bulkhead_events::{
    DIRECTORY, Enricher, EventHub, EventLog, Generations, Keep, Origin, Pace, Packets, Reader, Ring, Sink,
};
use bulkhead_sinks::{Anchors, LogSource, RecordSource, Sinks};
use tokio::sync::mpsc;

use self::balance::Balancer;
use self::facts::HostFacts;
use self::turns::Turns;
use crate::config::Config;
use crate::daemon::alarms::{AlarmSink, Alarms};
use crate::daemon::clock::BootClock;
use crate::daemon::expiry::Endings;
use crate::daemon::history::{HistorySink, Recent};
use crate::daemon::links::missed::{Missed, MissedSink};
use crate::daemon::log::log_and_default;
use crate::daemon::setup::Setup;
use crate::daemon::state::counter_epoch::CounterEpoch;
use crate::daemon::state::enricher::Indices;
use crate::daemon::state::enricher::enricher;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::store::Store;

/// How often aggregates are taken out of the kernel.
const INTERVAL: Duration = Duration::from_secs(1);

/// How much later for each aggregate that was taken, where in a second there are more than half of what a table has
/// room for: a flood from very many senders, which nothing puts together, costs a few hundredths of a core and not a third. What the
/// table has no room for meanwhile is counted by its reason.
const EACH: Duration = Duration::from_millis(2);

/// How long what is taken out of the kernel's tables stays there for an event log that stands still, while the other
/// table is not half full: longer than a checkpoint takes on a busy disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same for tables that are about to be removed.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// How long an agent that ends waits for its event log.
pub const LAST_EVENTS: Duration = Duration::from_secs(2);

/// How long an agent that ends goes on to send records, and checkpoints; the next one sends the others.
const LAST_SENT: Duration = Duration::from_secs(2);

/// Between two looks whether the other table is half full.
const LOOK: Duration = Duration::from_millis(250);

/// What tells of events, for all who do.
pub struct Shared {
    /// Takes events.
    pub hub: Arc<EventHub>,
    /// Names by generation.
    pub names: Arc<Generations>,
    /// Interfaces by all indices that they have had.
    pub indices: Indices,
    /// What of their links' protocols interfaces miss.
    pub missed: Arc<Missed>,
    /// Drops that history has not got yet; none: nothing is recorded.
    pub recent: Option<Arc<Recent>>,
    /// What raises alarms; none: nothing does.
    pub alarms: Option<Arc<Alarms>>,
    /// What ends at a known time, besides what the running generation and grants have.
    pub endings: Endings,
    /// What records say of where they are from.
    pub facts: Arc<HostFacts>,
    /// Balances that are asked for.
    pub turns: Turns,
    /// What takes records from the event log to others.
    pub sinks: Sinks,
    /// What takes its checkpoints to where they are kept.
    pub anchors: Anchors,
    /// The state directory, which has what generations before this agent's were made from.
    pub store: Store,
}

impl Shared {
    /// Opens the event log and the other sinks.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn open(setup: &Setup, store: Store) -> anyhow::Result<Self> {
        let what = "starting the threads that tell of events";
        let (indices, missed) = (Indices::default(), Arc::<Missed>::default());
        let facts = Arc::new(HostFacts::new(store.clone()));
        let log = EventLog::open(&setup.paths.state, &setup.options.node, keep(&setup.config), facts.clone());
        let recent = setup.config.history.map(|_| Arc::<Recent>::default());
        let alarms = setup.config.alarms.as_ref().map(|alarms| Arc::new(Alarms::open(alarms, &store)));
        let taking = sinks(&missed, recent.as_ref(), alarms.as_ref());
        let hub = EventHub::new(&setup.options.node, log, taking);
        let resolve = resolver(store.clone(), setup, indices.clone());
        let names = Generations::new(Enricher::unknown(indices.clone()), resolve).context(what)?;
        let (hub, names) = (Arc::new(hub.context(what)?), Arc::new(names));
        let directory = setup.paths.state.join(DIRECTORY);
        let source: Arc<dyn RecordSource> = Arc::new(LogSource::new(&directory));
        let sinks = Sinks::start(setup.config.sinks.clone(), &source, &setup.paths.state).context(what)?;
        let anchors = Anchors::start(setup.config.anchors.clone(), &directory).context(what)?;
        let turns = Turns::default();
        let endings = Endings::default();
        Ok(Self { hub, names, indices, missed, recent, alarms, endings, facts, turns, sinks, anchors, store })
    }

    /// Adds a generation's names, before a packet can meet it.
    pub fn add(&self, generation: u32, names: Arc<Enricher>) {
        // A number may be given again, if what had it came to nothing.
        self.facts.forget(generation);
        self.names.add(generation, names);
    }

    /// Has the event log sign what it has, and takes that to others. Each within its limit: what an event log that
    /// stands still has not got by then, it never will.
    pub fn end(&self) {
        self.hub.sign(LAST_EVENTS);
        std::thread::scope(|scope| {
            scope.spawn(|| self.sinks.end(LAST_SENT));
            self.anchors.end(LAST_SENT);
        });
    }

    /// Tells of something that is no drop.
    pub fn tell(&self, time: Timestamp, kind: Kind) {
        self.hub.publish(time, kind, Counted::Events, Origin::Agent);
    }
}

/// How long records are kept.
fn keep(config: &Config) -> Keep {
    Keep { days: config.keep_days, bytes: u64::from(config.keep_mib) << 20 }
}

/// Where events go besides the event log and whoever watches.
fn sinks(
    missed: &Arc<Missed>,
    recent: Option<&Arc<Recent>>,
    alarms: Option<&Arc<Alarms>>,
) -> Vec<Box<dyn Sink>> {
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(MissedSink(missed.clone()))];
    if let Some(recent) = recent {
        sinks.push(Box::new(HistorySink(recent.clone())));
    }
    if let Some(alarms) = alarms {
        sinks.push(Box::new(AlarmSink(alarms.clone())));
    }
    sinks
}

/// Makes the names of a generation that an earlier agent has built from what was kept of it.
fn resolver(
    store: Store,
    setup: &Setup,
    indices: Indices,
) -> impl Fn(u32) -> Option<Enricher> + Send + 'static {
    let (target, config) = (setup.options.clone(), setup.config.clone());
    move |generation| {
        let (files, made) = store.inputs_of(generation)?;
        let inputs = Inputs::compile(files, made.mode, &target).ok()?;
        // Another node's or compiler's tables would number rules otherwise.
        let is_same = inputs.fingerprints == made.fingerprints;
        is_same.then(|| enricher(&inputs, indices.clone(), &config))
    }
}

/// A time in ns since boot.
pub fn timestamp(boot: u64) -> Timestamp {
    BootClock::now().timestamp(boot)
}

/// Reads the kernel's ring and its aggregates, each on a thread of its own. `half` are half of what a table of
/// aggregates has room for; `guard` says what the guard has dropped. What is returned tells why one thread ended.
///
/// # Errors
/// If the ring cannot be read, or the system has no more threads.
pub fn start(
    pins: &Pins,
    shared: &Arc<Shared>,
    half: usize,
    guard: impl Fn() -> anyhow::Result<Vec<ReasonCount>> + Send + 'static,
) -> anyhow::Result<mpsc::UnboundedReceiver<anyhow::Error>> {
    let (failed, failures) = mpsc::unbounded_channel();
    let ring = Ring::open(State::events(pins)?.as_fd()).context("opening the event ring")?;
    let reader = Reader::new(ring, shared.hub.clone(), shared.names.clone(), timestamp);
    let failed_to_read = failed.clone();
    let read = move || {
        let Err(error) = reader.run();
        // Nobody waits any more when the agent ends.
        let _ = failed_to_read.send(anyhow::Error::new(error).context("waiting for the event ring"));
    };
    std::thread::Builder::new().name("events".to_owned()).spawn(read)?;
    let (state, shared) = (State::open(pins)?, shared.clone());
    let balancer = Balancer::new(pins, shared.hub.clone())?;
    let looker = State::open(pins)?;
    // What cannot be asked is no reason to give up what the log has not got.
    let is_crowded = move || looker.has_aggregates(half).unwrap_or(false);
    let summarise = move || {
        if let Err(error) = summaries(state, &shared, &balancer, guard, (half, &is_crowded)) {
            let _ = failed.send(error);
        }
    };
    std::thread::Builder::new().name("summaries".to_owned()).spawn(summarise)?;
    Ok(failures)
}

/// Tells of aggregates once a second, or later where they are many, for ever, and balances the accounts when that is asked for.
fn summaries(
    mut state: State,
    shared: &Shared,
    balancer: &Balancer,
    guard: impl Fn() -> anyhow::Result<Vec<ReasonCount>>,
    (half, is_crowded): (usize, &dyn Fn() -> bool),
) -> anyhow::Result<()> {
    let mut pace = Pace::default();
    // First, while it is as a killed agent has left it.
    state.take_left_aggregates(|entries, is_odd| {
        summarise(entries, is_odd, shared, &mut pace, true);
        wait_for_log(shared, is_crowded);
    })?;
    let mut turned = Instant::now();
    loop {
        // The last turn says how it is now.
        let mut pause = INTERVAL;
        let mut take = |entries: &[_], is_odd| {
            pause = until_next(entries.len(), half, turned.elapsed());
            turned = Instant::now();
            summarise(entries, is_odd, shared, &mut pace, false);
            wait_for_log(shared, is_crowded);
        };
        match shared.turns.asked() {
            // It takes both tables.
            Some(asked) => {
                let guard = guard().unwrap_or_else(log_and_default);
                let epoch = CounterEpoch::read(&shared.store);
                if let Err(error) = balancer.balance(&mut state, (epoch, guard), &mut take) {
                    tracing::error!("drops are not balanced against records: {error:#}");
                }
                shared.turns.made(asked);
            }
            None => _ = state.take_aggregates(&mut take)?,
        }
        shared.turns.pause(pause);
    }
}

/// How long until the next turn after one of so many lines, of so long a time: while the event log stands still it is
/// longer. A table that is full does not say how many lines it had no room for.
fn until_next(lines: usize, half: usize, turn: Duration) -> Duration {
    let is_flood = lines >= 2 * half || lines as f64 > half as f64 * turn.max(INTERVAL).as_secs_f64();
    let each = if is_flood { u32::try_from(lines).unwrap_or(u32::MAX) } else { 0 };
    INTERVAL.max(EACH.saturating_mul(each))
}

/// Tells of what tables that are replaced still hold, and waits until the event log has it.
///
/// # Errors
/// If the kernel refuses.
pub fn report_orphaned_events(mut orphaned: OrphanedEvents, shared: &Shared) -> anyhow::Result<()> {
    for ring in &orphaned.events {
        let ring = Ring::open(ring.as_fd()).context("opening an earlier agent's event ring")?;
        let reader = Reader::new(ring, shared.hub.clone(), shared.names.clone(), timestamp);
        if !reader.drain(LAST_PATIENCE) {
            tracing::error!("event log stands still: events of an earlier agent are told of from memory");
        }
    }
    let mut pace = Pace::default();
    Ok(orphaned.take_aggregates(|entries, is_odd| {
        summarise(entries, is_odd, shared, &mut pace, true);
        wait_for_log(shared, &|| false);
    })?)
}

/// Waits until the event log has what was told of. Where it stands still, not for long, nor once the kernel has half
/// of a table that waits for this one: as with the ring.
fn wait_for_log(shared: &Shared, is_crowded: &dyn Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !shared.hub.flush(LOOK) && Instant::now() < until && !is_crowded() {}
}

/// Tells of drops that were counted together, since the ring told of the first of a kind. They are removed once
/// the event log has them. `is_odd`: they are of the account of odd turns; `is_left`: some may be told of already, by
/// an agent that was killed right then.
fn summarise(
    entries: &[(AggregateKey, AggregateValue)],
    is_odd: bool,
    shared: &Shared,
    pace: &mut Pace,
    is_left: bool,
) {
    let generations = entries.iter().flat_map(|(key, _)| {
        let other = (key.kind == KIND_STAGED).then_some(key.other_generation);
        [Some(key.generation), other].into_iter().flatten()
    });
    shared.names.wait(&generations.collect::<BTreeSet<u32>>());
    let item = |(key, value): &(AggregateKey, AggregateValue)| format!("{key:?} {value:?}").into_bytes();
    let last = entries.iter().rposition(|entry| is_left && shared.hub.left().is_last_summary(&item(entry)));
    let clock = BootClock::now();
    for entry @ (key, value) in entries.iter().skip(last.map_or(0, |last| last + 1)) {
        if value.packets == 0 {
            continue;
        }
        pace.wait(&shared.hub, || false);
        let (count, bytes) = (value.packets, value.bytes);
        let packets = Packets { count, bytes, source_port: None, is_odd, is_audit: None };
        let enforced = (key.kind == KIND_STAGED).then(|| shared.names.known(key.other_generation));
        let kind = shared.names.known(key.generation).kind(key, packets, enforced.as_deref());
        let origin = Origin::Summary(item(entry));
        shared.hub.publish(clock.timestamp(value.last), kind, Counted::Aggregated, origin);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{INTERVAL, until_next};

    #[test]
    fn a_flood_is_a_full_table_or_half_of_one_in_a_second() {
        let after = |lines, seconds| until_next(lines, 8192, Duration::from_secs(seconds));
        assert_eq!(
            (after(0, 1), after(8192, 1), after(8193, 0)),
            (INTERVAL, INTERVAL, 8193 * 2 * INTERVAL / 1000)
        );
        assert_eq!((after(12_000, 1), after(12_000, 2)), (Duration::from_secs(24), INTERVAL));
        assert_eq!(after(16_384, 33), Duration::from_millis(32_768), "it goes on");
    }
}
