//! One sink's bounded queue and thread.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulkhead_api::event::Kind;

use crate::sink::{Entry, Lost, Seal, Sink};

/// How long an idle sink waits before it is told of what was lost.
const IDLE: Duration = Duration::from_millis(100);

/// One of so many places of a queue is kept for what is no drop.
const RESERVE: usize = 64;

/// How long a sink that has done with all there was lets events gather: in a flood it would be woken for each.
const GATHER: Duration = Duration::from_millis(5);

/// Events that a sink is given together at most.
const TOGETHER: usize = 64;

/// What waits for a sink.
enum Message {
    Entry(Arc<Entry>),
    Seal(Seal),
    Begin,
    Sync,
}

/// What became of a sink's events since the agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The sink has them.
    pub written: u64,
    /// The sink refused them.
    pub failed: u64,
    /// Its queue had no room for them.
    pub overflowed: u64,
}

#[derive(Default)]
struct Shared {
    /// Messages that the sink has done with, however that ended.
    done: AtomicU64,
    counts: Mutex<Counts>,
    /// What it is to be told of.
    lost: Mutex<Lost>,
}

/// A sink's queue. It ends, and its thread, when it is dropped; the thread is not waited for.
pub(crate) struct Queue {
    sender: SyncSender<Message>,
    /// Messages that may wait for the sink, but for those that are no drops.
    room: u64,
    /// Messages that it has taken.
    taken: AtomicU64,
    shared: Arc<Shared>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Begins to give a sink what it is sent, `length` events behind at most.
    pub(crate) fn start(sink: Box<dyn Sink>, length: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(length);
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        // The kernel cuts longer names.
        let name = format!("sink {}", sink.name());
        std::thread::Builder::new().name(name).spawn(move || run(sink, &receiver, &of_thread))?;
        let room = (length - length / RESERVE) as u64;
        Ok(Self { sender, room, taken: AtomicU64::new(0), shared })
    }

    /// Sends an event, or counts it as lost. Never waits. One sender at a time.
    pub(crate) fn push(&self, entry: &Arc<Entry>) {
        // A flood of drops leaves room for what an audit must not miss.
        let has_reserve = matches!(
            entry.event.kind,
            Kind::Control(_)
                | Kind::Unenforced(_)
                | Kind::Altered(_)
                | Kind::Binding(_)
                | Kind::Workload(_)
                | Kind::Alarm(_)
                | Kind::Coverage(_)
        );
        let may = has_reserve || self.behind() < self.room;
        if may && self.sender.try_send(Message::Entry(entry.clone())).is_ok() {
            self.taken.fetch_add(1, Ordering::AcqRel);
        } else {
            held(&self.shared.counts).overflowed += 1;
            held(&self.shared.lost).add(entry);
        }
    }

    /// Sends an event that the sink makes when it writes it; whether there was room. Never waits. One sender at a time.
    pub(crate) fn seal(&self, seal: Seal) -> bool {
        let is_sent = self.sender.try_send(Message::Seal(seal)).is_ok();
        if is_sent {
            self.taken.fetch_add(1, Ordering::AcqRel);
        }
        is_sent
    }

    /// Sends that counts begin at zero, behind what was sent before. Waits for room.
    pub(crate) fn begin(&self) {
        if self.sender.send(Message::Begin).is_ok() {
            self.taken.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Sends that what was sent before is to be as safe as it gets. Never waits.
    pub(crate) fn sync(&self) {
        if self.sender.try_send(Message::Sync).is_ok() {
            self.taken.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How many messages it has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// How many of them the sink has done with.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Acquire)
    }

    /// How many it has not done with.
    pub(crate) fn behind(&self) -> u64 {
        self.taken().saturating_sub(self.done())
    }

    /// How many may wait.
    pub(crate) fn room(&self) -> u64 {
        self.room
    }

    pub(crate) fn counts(&self) -> Counts {
        *held(&self.shared.counts)
    }

    /// What the sink is still to be told of.
    pub(crate) fn untold(&self) -> Lost {
        held(&self.shared.lost).clone()
    }
}

fn run(mut sink: Box<dyn Sink>, receiver: &Receiver<Message>, shared: &Shared) {
    let mut is_told = false;
    let (mut entries, mut next) = (Vec::with_capacity(TOGETHER), None);
    loop {
        let message = next.take().map_or_else(|| receiver.recv_timeout(IDLE), Ok);
        let lost = std::mem::take(&mut *held(&shared.lost));
        if lost.events != 0 {
            tracing::warn!(sink = sink.name(), events = lost.events, "event sink too slow: events lost");
            sink.lost(&lost);
        }
        match message {
            Ok(Message::Entry(entry)) => {
                entries.push(entry);
                while entries.len() < TOGETHER && next.is_none() {
                    match receiver.try_recv() {
                        Ok(Message::Entry(entry)) => entries.push(entry),
                        Ok(other) => next = Some(other),
                        Err(_) => break,
                    }
                }
                let name = sink.name();
                let mut each = |written| is_told = note(name, &shared.counts, written, is_told);
                sink.write_all(&entries, &mut each);
                shared.done.fetch_add(entries.len() as u64, Ordering::AcqRel);
                let may_gather = entries.len() < TOGETHER && next.is_none();
                entries.clear();
                if may_gather {
                    std::thread::sleep(GATHER);
                }
                continue;
            }
            Ok(Message::Seal(seal)) => {
                let written = sink.seal(seal);
                is_told = note(sink.name(), &shared.counts, written, is_told);
            }
            Ok(Message::Begin) => sink.begin(),
            Ok(Message::Sync) => sink.sync(),
            Err(RecvTimeoutError::Timeout) => {
                sink.idle();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        shared.done.fetch_add(1, Ordering::AcqRel);
    }
}

/// Counts what a sink has got, or not; says so of the first failure in a row.
fn note(sink: &str, counts: &Mutex<Counts>, written: io::Result<()>, is_told: bool) -> bool {
    let mut counts = held(counts);
    match &written {
        Ok(()) => counts.written += 1,
        Err(_) => counts.failed += 1,
    }
    if let (Err(error), false) = (&written, is_told) {
        tracing::error!(sink, "event sink fails: {error}");
    }
    written.is_err()
}
