//! Where all events come together and leave for the sinks.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_api::event::{Counted, Event, EventStats, Kind, Timestamp};
use tokio::sync::broadcast;

use crate::account::Left;
use crate::log::EventLog;
use crate::queue::{Counts, Queue};
use crate::sink::{Entry, Origin, Seal, Sink};

/// Events that a sink may be behind: more than a ring of the usual size has room for.
const QUEUE: usize = 16_384;

/// Events that a watcher may be behind.
const BACKLOG: usize = 4096;

/// Between two looks whether a sink has done with something.
const LOOK: Duration = Duration::from_millis(1);

/// A place in the order of events, to learn when the event log has done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// Takes events and gives them to the event log, the other sinks and whoever watches, to all in one order.
pub struct EventHub {
    node: String,
    log: Queue,
    others: Vec<(&'static str, Queue)>,
    watchers: broadcast::Sender<Arc<Event>>,
    missed: AtomicU64,
    /// What the event log has noted.
    noted: Arc<Mutex<EventStats>>,
    left: Left,
    order: Mutex<()>,
}

impl EventHub {
    /// Begins to take events of a node's agent.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn new(node: &str, log: EventLog, others: Vec<Box<dyn Sink>>) -> io::Result<Self> {
        let (noted, left) = (log.noted(), log.left());
        Self::with(node, Box::new(log), others, noted, left, QUEUE)
    }

    pub(crate) fn with(
        node: &str,
        log: Box<dyn Sink>,
        others: Vec<Box<dyn Sink>>,
        noted: Arc<Mutex<EventStats>>,
        left: Left,
        length: usize,
    ) -> io::Result<Self> {
        let start = |sink: Box<dyn Sink>| Ok((sink.name(), Queue::start(sink, length)?));
        Ok(Self {
            node: node.to_owned(),
            log: Queue::start(log, length)?,
            others: others.into_iter().map(start).collect::<io::Result<_>>()?,
            watchers: broadcast::channel(BACKLOG).0,
            missed: AtomicU64::new(0),
            noted,
            left,
            order: Mutex::default(),
        })
    }

    /// Publishes an event. Never waits for a sink.
    pub fn publish(&self, time: Timestamp, kind: Kind, counted: Counted, origin: Origin) -> Ticket {
        let entry = Arc::new(Entry { event: self.event(time, kind), counted, origin });
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.log.push(&entry);
        self.others.iter().for_each(|(_, queue)| queue.push(&entry));
        // Asked in the order of events: whoever began to watch before this event gets it.
        if self.watchers.receiver_count() != 0 {
            // Nobody watching any more is fine.
            let _ = self.watchers.send(Arc::new(entry.event.clone()));
        }
        Ticket(self.log.taken())
    }

    /// Has the event log make an event when it writes it, from what it has noted by then. Other sinks and watchers
    /// do not see it. False if the log's queue has no room.
    pub fn seal(&self, seal: Seal) -> bool {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.log.seal(seal)
    }

    /// An event of this node's agent.
    #[must_use]
    pub fn event(&self, time: Timestamp, kind: Kind) -> Event {
        Event { time, node: self.node.clone(), kind }
    }

    /// The kernel's counters begin at zero, and so do those of events. Waits for room in the event log's queue.
    pub fn begin(&self) {
        self.log.begin();
        self.others.iter().for_each(|(_, queue)| queue.begin());
    }

    /// Whether the event log has done with an event, and all before it.
    #[must_use]
    pub fn has(&self, ticket: Ticket) -> bool {
        self.log.done() >= ticket.0
    }

    /// Waits until the event log has done with all that was published until now; whether it has, within a limit.
    pub fn flush(&self, limit: Duration) -> bool {
        let (all, began) = (Ticket(self.log.taken()), Instant::now());
        while !self.has(all) {
            if began.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }

    /// The same, and signs it.
    pub fn sign(&self, limit: Duration) -> bool {
        {
            let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            self.log.sync();
        }
        self.flush(limit)
    }

    /// The sinks' queues, the event log's first.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Queue> {
        std::iter::once(&self.log).chain(self.others.iter().map(|(_, queue)| queue))
    }

    /// Where the agent before this one ended.
    #[must_use]
    pub fn left(&self) -> &Left {
        &self.left
    }

    /// Events from now on.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Arc<Event>> {
        self.watchers.subscribe()
    }

    /// The same; and once the event log has all events before them, `told` how many records it has by then. It is
    /// dropped unheard if the log's queue has no room.
    #[must_use]
    pub fn watch_from(&self, told: impl FnOnce(u64) + Send + 'static) -> broadcast::Receiver<Arc<Event>> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.log.seal(Box::new(|_, records| {
            told(records);
            None
        }));
        self.watchers.subscribe()
    }

    /// Counts events that a watcher was too slow for.
    pub fn note_missed(&self, events: u64) {
        self.missed.fetch_add(events, Ordering::Relaxed);
    }

    /// What became of events, over this agent and those before it.
    #[must_use]
    pub fn stats(&self) -> EventStats {
        let mut stats = *self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        // While the event log stands still, nobody has noted them.
        let lost = self.log.untold();
        crate::account::add(&mut stats, &lost);
        stats.missed_by_watchers = self.missed.load(Ordering::Relaxed);
        stats
    }

    /// What became of events in the other sinks since the agent started, by their names.
    pub fn sinks(&self) -> impl Iterator<Item = (&'static str, Counts)> {
        self.others.iter().map(|(name, queue)| (*name, queue.counts()))
    }
}
