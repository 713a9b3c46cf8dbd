//! The account of what was told of, which outlives the agent: to the drop, also if it is killed.
//!
//! What is told of goes three steps: the account says what the next records add to it, these are written, then what
//! they tell of is taken out of the kernel. So the next agent knows where an earlier one was killed: the log has some
//! first ones of the records. What these add is so, and what the last of them names, and what comes before that, is
//! taken out without another record; the others are told of again.

mod step;

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_api::event::{Counted, EventStats};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sink::Lost;

pub(crate) use self::step::{STEPS, Step};

/// The file in the state directory.
const FILE: &str = "told.json";

/// Its length: one write within one page, which a killed process makes whole or not at all.
const LENGTH: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    stats: EventStats,
    /// Records of the event log.
    #[serde(default)]
    records: u64,
    /// The record of the ring that was told of last, as a digest; of agents before there was `summary`, it may be
    /// one of these as well.
    last: String,
    /// The entry of a table that was told of last, as a digest.
    #[serde(default)]
    summary: Option<String>,
}

/// The whole file. The first agents knew `now` alone, as the file itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Kept {
    now: Noted,
    /// What is so once the log has the next record, of agents that knew no `steps`.
    next: Option<Noted>,
    /// How many records the log has before those of `steps`.
    #[serde(default)]
    before: u64,
    /// What each of the next records adds.
    #[serde(default)]
    steps: Vec<Step>,
}

/// The same, to be written.
#[derive(Serialize)]
struct Written<'a> {
    now: &'a Noted,
    before: u64,
    steps: &'a [Step],
}

impl Kept {
    /// What is so with a log that has so many records; none: another log.
    fn noted(self, records: Option<u64>) -> Noted {
        let Self { mut now, next, before, steps } = self;
        // A log that has lost records was that of a machine which stopped: nothing is in the kernel any more.
        let has_lost = records.is_some_and(|has| has < now.records);
        if let Some(next) = next
            && (has_lost || records.is_some_and(|has| has >= next.records))
        {
            return next;
        }
        let has = if has_lost { u64::MAX } else { records.unwrap_or(0) };
        let taken = usize::try_from(has.saturating_sub(before)).unwrap_or(usize::MAX).min(steps.len());
        for step in &steps[..taken] {
            step.apply(&mut now, true);
        }
        if taken != 0 {
            now.records = before + taken as u64;
        }
        now
    }
}

/// What an earlier agent told of last: it, and what came before it, may still be in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    event: Option<String>,
    summary: Option<String>,
}

impl Left {
    /// Whether this is the record of the ring that was told of last.
    #[must_use]
    pub fn is_last_event(&self, item: &[u8]) -> bool {
        self.event.as_ref().is_some_and(|left| *left == digest(item))
    }

    /// Whether this is the entry of a table that was told of last.
    #[must_use]
    pub fn is_last_summary(&self, item: &[u8]) -> bool {
        self.summary.as_ref().is_some_and(|left| *left == digest(item))
    }
}

/// The account.
pub(crate) struct Account {
    file: Option<File>,
    noted: Noted,
    left: Left,
    failed: bool,
    /// What is written, for its room.
    text: Vec<u8>,
    /// The file has what is noted, and nothing that is still to be.
    is_settled: bool,
}

impl Account {
    /// Opens the account in a state directory whose event log has so many records; none: of another log than the
    /// account is of. An account that cannot be read begins anew.
    pub(crate) fn open(state: &Path, records: Option<u64>) -> Self {
        let path = state.join(FILE);
        let open = || OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut text = String::new();
        let file = open().and_then(|mut file| file.read_to_string(&mut text).map(|_| file));
        let file = file.inspect_err(|error| tracing::error!("{}: {error}", path.display())).ok();
        let earlier = || serde_json::from_str(&text).ok().map(|now| Kept { now, ..Kept::default() });
        let kept: Option<Kept> = serde_json::from_str(&text).ok().or_else(earlier);
        if kept.is_none() && !text.is_empty() {
            tracing::error!("{}: not what an agent wrote; what was told of is counted anew", path.display());
        }
        let noted = kept.map(|kept| kept.noted(records));
        let left = noted.as_ref().map(|noted| Left {
            event: Some(noted.last.clone()),
            summary: Some(noted.summary.as_ref().unwrap_or(&noted.last).clone()),
        });
        let (noted, left) = (noted.unwrap_or_default(), left.unwrap_or_default());
        Self { file, noted, left, failed: false, text: Vec::new(), is_settled: false }
    }

    /// The counts.
    pub(crate) fn stats(&self) -> EventStats {
        self.noted.stats
    }

    /// How many records the log had.
    pub(crate) fn records(&self) -> u64 {
        self.noted.records
    }

    /// What an earlier agent told of last.
    pub(crate) fn left(&self) -> &Left {
        &self.left
    }

    /// Notes what is told of by records that `write` adds to the event log, which has so many `before` them. `write`
    /// says how many of the first ones the log has got then, and what became of the others: they are noted as told of
    /// and not written.
    ///
    /// # Errors
    /// What `write` has failed by.
    pub(crate) fn note(
        &mut self,
        steps: &[Step],
        before: u64,
        write: impl FnOnce() -> (usize, io::Result<()>),
    ) -> (usize, io::Result<()>) {
        self.write(before, steps);
        let (written, result) = write();
        for (place, step) in steps.iter().enumerate() {
            step.apply(&mut self.noted, place < written);
        }
        if written != 0 {
            self.noted.records = before + written as u64;
        }
        if result.is_err() {
            self.settle();
        }
        (written, result)
    }

    /// Notes events that the log's queue had no room for.
    pub(crate) fn note_lost(&mut self, lost: &Lost) {
        add(&mut self.noted.stats, lost);
        self.settle();
    }

    /// Notes that the log has got what it held in memory.
    pub(crate) fn note_held(&mut self, held: &Lost) {
        if held.events == 0 {
            return;
        }
        let stats = &mut self.noted.stats;
        stats.written += held.events;
        stats.unwritten = stats.unwritten.saturating_sub(held.events);
        for (counted, drops) in &held.drops {
            stats.unwritten_drops = stats.unwritten_drops.saturating_sub(*drops);
            if counted.is_guards() {
                stats.unwritten_guard = stats.unwritten_guard.saturating_sub(*drops);
            }
        }
        stats.unwritten_odd = stats.unwritten_odd.saturating_sub(held.odd);
        self.settle();
    }

    /// Notes how many records the log has.
    pub(crate) fn note_records(&mut self, records: u64) {
        if self.noted.records != records || !self.is_settled {
            self.noted.records = records;
            self.settle();
        }
    }

    /// Begins anew, as the kernel's counters do.
    pub(crate) fn begin(&mut self) {
        self.noted.stats = EventStats::default();
        self.settle();
    }

    /// Writes what is noted, and nothing that is still to be.
    fn settle(&mut self) {
        self.write(0, &[]);
    }

    fn write(&mut self, before: u64, steps: &[Step]) {
        let Some(file) = &self.file else { return };
        let text = &mut self.text;
        text.clear();
        let made = serde_json::to_writer(&mut *text, &Written { now: &self.noted, before, steps });
        let written = made.map_err(io::Error::from).and_then(|()| {
            text.resize(LENGTH.max(text.len()), b' ');
            file.write_all_at(text, 0)
        });
        if let (Err(error), false) = (&written, self.failed) {
            tracing::error!("{FILE}: {error}; after a restart, fewer drops are said to be told of than were");
        }
        self.failed = written.is_err();
        self.is_settled = steps.is_empty() && written.is_ok();
    }
}

/// Counts what a queue had no room for: told of, but for the event log.
pub(crate) fn add(stats: &mut EventStats, lost: &Lost) {
    stats.unwritten += lost.events;
    stats.overflowed += lost.events;
    for (counted, drops) in &lost.drops {
        *stats.count(*counted) += drops;
        unwritten(stats, *counted, *drops);
    }
    stats.odd += lost.odd;
    stats.unwritten_odd += lost.odd;
}

fn unwritten(stats: &mut EventStats, counted: Counted, drops: u64) {
    stats.unwritten_drops += drops;
    if counted.is_guards() {
        stats.unwritten_guard += drops;
    }
}

fn digest(item: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(item))
}

#[cfg(test)]
mod tests;
