//! The event log on disk: records in a tamper-evident log, signed about every second.

mod opening;
mod retention;

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_api::event::{Counted, Event, EventStats, Kind, LostCause, LostEvents, Timestamp};
use bulkhead_api::record::{Record, RecordWriter};
use bulkhead_tlog::Log;

use crate::account::{Account, Left, STEPS, Step};
use crate::facts::Facts;
use crate::sink::{Entry, Lost, Origin, Seal, Sink};

pub use self::retention::Keep;

/// The log's directory in the state directory.
pub const DIRECTORY: &str = "log";

/// Between two checkpoints, if there is anything to sign.
const SIGN: Duration = Duration::from_secs(1);

/// How long after its opening, and how often, a log is looked through for what is not kept any more.
const FIRST_PRUNE: Duration = Duration::from_secs(60);
const PRUNE: Duration = Duration::from_secs(60 * 60);

/// Between two tries to open a log that cannot be opened.
const AGAIN: Duration = Duration::from_secs(1);

/// The event log. A disk that is full or slow changes no verdict: what cannot be written is counted.
pub struct EventLog {
    directory: PathBuf,
    node: String,
    log: Option<Log>,
    tried: Instant,
    signed: Instant,
    sign_failed: bool,
    account: Account,
    /// The account, for others.
    noted: Arc<Mutex<EventStats>>,
    facts: Arc<dyn Facts>,
    host: String,
    writer: RecordWriter,
    keep: Keep,
    /// When records that are not kept any more are to be removed.
    prune: Instant,
    /// What the log holds in memory, since the disk has refused it.
    held: Lost,
    /// What the log has not got, and is to tell of once it can.
    untold: Lost,
}

impl EventLog {
    /// Opens the event log in a state directory, or makes one. One that is damaged is set aside, which the new one
    /// tells of.
    #[must_use]
    pub fn open(state: &Path, node: &str, keep: Keep, facts: Arc<dyn Facts>) -> Self {
        let directory = state.join(DIRECTORY);
        let host = facts.host();
        let opened = opening::open(&directory, &host);
        let (log, aside) = opened.map_or_else(|()| (None, None), |(log, aside)| (Some(log), aside));
        let size = log.as_ref().map(Log::size);
        let account = Account::open(state, size.filter(|_| aside.is_none()));
        let (noted, now) = (Arc::new(Mutex::new(account.stats())), Instant::now());
        let mut log = Self {
            directory,
            node: node.to_owned(),
            log,
            tried: now,
            signed: now,
            sign_failed: false,
            account,
            noted,
            facts,
            host,
            writer: RecordWriter::default(),
            keep,
            prune: now + FIRST_PRUNE,
            held: Lost::default(),
            untold: Lost::default(),
        };
        log.begin_with(aside);
        log
    }

    /// Tells of what happened to the log before it was opened.
    fn begin_with(&mut self, aside: Option<String>) {
        let Some(size) = self.log.as_ref().map(Log::size) else { return };
        let missing = self.account.records().saturating_sub(size);
        let lost = match aside {
            Some(detail) => Some(LostEvents {
                events: None,
                drops: None,
                cause: LostCause::SetAside,
                detail: Some(detail),
            }),
            // The machine stopped: what was written last was not on the disk.
            None => (missing != 0).then_some(LostEvents {
                events: Some(missing),
                drops: None,
                cause: LostCause::Crash,
                detail: None,
            }),
        };
        self.account.note_records(size);
        if let Some(lost) = lost {
            tracing::error!(
                cause = lost.cause.name(),
                detail = lost.detail,
                "records of the event log are lost"
            );
            self.tell(Kind::Lost(Box::new(lost)));
        }
    }

    /// Writes what the log itself has to tell. If the disk refuses that, it is counted like any event.
    fn tell(&mut self, kind: Kind) {
        let event = Event { time: now(), node: self.node.clone(), kind };
        let _ = self.add(&[&Entry { event, counted: Counted::Events, origin: Origin::Agent }]);
    }

    /// What became of events, as it is noted.
    pub(crate) fn noted(&self) -> Arc<Mutex<EventStats>> {
        self.noted.clone()
    }

    /// Where the agent before this one ended.
    pub(crate) fn left(&self) -> Left {
        self.account.left().clone()
    }

    fn publish(&self) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = self.account.stats();
    }

    /// The log, opened again if it could not be.
    fn log(&mut self) -> io::Result<&mut Log> {
        if self.log.is_none() && self.tried.elapsed() >= AGAIN {
            self.tried = Instant::now();
            if let Ok((log, aside)) = opening::open(&self.directory, &self.host) {
                self.log = Some(log);
                self.begin_with(aside);
            }
        }
        let missing = || io::Error::other(format!("{}: cannot be opened", self.directory.display()));
        self.log.as_mut().ok_or_else(missing)
    }

    /// Writes records, and hands them to the system: how many of the first ones it has got, and what became of the
    /// others.
    fn add<E: Deref<Target = Entry>>(&mut self, entries: &[E]) -> (usize, io::Result<()>) {
        let steps: Vec<Step> = entries.iter().map(|entry| Step::of(entry)).collect();
        let first = match self.log() {
            Ok(log) => log.size(),
            Err(error) => {
                entries.iter().for_each(|entry| self.untold.add(entry));
                return self.account.note(&steps, self.account.records(), || (0, Err(error)));
            }
        };
        let (Some(log), Some(entry)) = (&mut self.log, entries.first()) else { return (0, Ok(())) };
        // What most records have in common is made once: in a flood it would be most of the work.
        let (host, clock, event) = (self.host.clone(), self.facts.clock(), &entry.event);
        let mut record = Record { host, sequence: first, clock, files: None, event };
        let (writer, facts, mut made_from) = (&mut self.writer, &self.facts, None);
        let (mut held, mut is_handed_over) = (0, false);
        let write = || {
            let mut appended = Ok(());
            for (sequence, entry) in (first..).zip(entries) {
                let generation = Record::generation(&entry.event);
                if generation != made_from {
                    record.files = generation.and_then(|generation| facts.files(generation));
                    made_from = generation;
                }
                (record.sequence, record.event) = (sequence, &entry.event);
                let bytes = writer.canonical(&record).map_err(io::Error::from);
                appended = bytes.and_then(|bytes| log.append(bytes).map(drop).map_err(io::Error::other));
                if appended.is_err() {
                    break;
                }
                // From here on the log has it, and hands it over with the next one if not with this.
                held += 1;
            }
            let flushed = log.flush().map_err(io::Error::other);
            is_handed_over = flushed.is_ok();
            if is_handed_over { (held, appended) } else { (0, flushed) }
        };
        let (written, result) = self.account.note(&steps, first, write);
        if is_handed_over {
            self.account.note_held(&std::mem::take(&mut self.held));
        }
        entries[written..held].iter().for_each(|entry| self.held.add(entry));
        entries[held..].iter().for_each(|entry| self.untold.add(entry));
        (written, result)
    }

    /// Takes events, and tells of those that it has not got before, once it can.
    fn take<E: Deref<Target = Entry>>(&mut self, entries: &[E]) -> (usize, io::Result<()>) {
        let (written, result) = self.add(entries);
        if result.is_ok() && self.untold.events != 0 {
            let untold = std::mem::take(&mut self.untold);
            self.tell_lost(&untold, LostCause::Refused);
        }
        self.publish();
        self.sign_if_due();
        (written, result)
    }

    /// Signs what is not signed yet.
    fn sign(&mut self) {
        self.signed = Instant::now();
        let Some(log) = &mut self.log else { return };
        let signed = log.checkpoint();
        if let (Err(error), false) = (&signed, self.sign_failed) {
            tracing::error!("event log: no checkpoint, trying again: {error}");
        }
        self.sign_failed = signed.is_err();
        if signed.is_ok() {
            // A checkpoint writes all that was appended.
            let records = log.size();
            self.account.note_held(&std::mem::take(&mut self.held));
            self.account.note_records(records);
        }
    }

    fn sign_if_due(&mut self) {
        if self.signed.elapsed() >= SIGN {
            self.sign();
            if Instant::now() >= self.prune {
                // By a clock that nobody keeps in time nothing is old.
                let is_kept_in_time = self.facts.clock().synchronized;
                self.prune(if is_kept_in_time { now() } else { Timestamp::from_unix(0) });
            }
        }
    }

    /// Removes what is not kept any more.
    fn prune(&mut self, now: Timestamp) {
        self.prune = Instant::now() + PRUNE;
        let Some(log) = &mut self.log else { return };
        match self.keep.apply(log, now) {
            Ok(first) => tracing::debug!(first, "event log: kept from this record on"),
            Err(error) => tracing::error!("event log: old records stay for now: {error}"),
        }
    }

    /// Tells of what the log has not got.
    fn tell_lost(&mut self, lost: &Lost, cause: LostCause) {
        let drops = Some(lost.drops.values().sum());
        let lost = LostEvents { events: Some(lost.events), drops, cause, detail: None };
        self.tell(Kind::Lost(Box::new(lost)));
    }
}

impl Sink for EventLog {
    fn name(&self) -> &'static str {
        "event log"
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.take(&[entry]).1
    }

    fn write_all(&mut self, entries: &[Arc<Entry>], each: &mut dyn FnMut(io::Result<()>)) {
        for entries in entries.chunks(STEPS) {
            let (written, result) = self.take(entries);
            for place in 0..entries.len() {
                each(match &result {
                    Err(error) if place >= written => Err(io::Error::new(error.kind(), error.to_string())),
                    _ => Ok(()),
                });
            }
        }
    }

    fn seal(&mut self, seal: Seal) -> io::Result<()> {
        let records = self.log.as_ref().map_or(0, Log::size);
        let Some((time, kind)) = seal(&self.account.stats(), records) else { return Ok(()) };
        let event = Event { time, node: self.node.clone(), kind };
        self.write(&Entry { event, counted: Counted::Events, origin: Origin::Agent })
    }

    fn lost(&mut self, lost: &Lost) {
        self.account.note_lost(lost);
        self.tell_lost(lost, LostCause::Overflow);
        self.publish();
    }

    fn begin(&mut self) {
        self.account.begin();
        self.publish();
    }

    fn idle(&mut self) {
        self.sign_if_due();
        self.publish();
    }

    fn sync(&mut self) {
        self.sign();
        self.publish();
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(u64::try_from(now.as_nanos()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
