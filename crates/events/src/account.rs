//! The account of what was told of, which outlives the agent: to the drop, also if it is killed.
//!
//! What is told of goes three steps: the account says what it is about to be and how many records the log has then,
//! the record is written, then it is taken out of the kernel. So the next agent knows where an earlier one was killed:
//! the log has the record, or not. If it has, what the account was about to be is so, and what it names last, and what
//! comes before that, is taken out without another record; if not, it is told of again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_api::event::{Counted, Event, EventStats};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sink::{Lost, Origin};

/// The file in the state directory.
const FILE: &str = "told.json";

/// Its length: one write within one page, which a killed process makes whole or not at all.
const LENGTH: usize = 2048;

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
struct Both {
    now: Noted,
    /// What is so once the log has the next record.
    next: Option<Noted>,
}

/// The same, to be written.
#[derive(Serialize)]
struct Written<'a> {
    now: &'a Noted,
    next: Option<&'a Noted>,
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
        let earlier = || serde_json::from_str(&text).ok().map(|now| Both { now, next: None });
        let both: Option<Both> = serde_json::from_str(&text).ok().or_else(earlier);
        if both.is_none() && !text.is_empty() {
            tracing::error!("{}: not what an agent wrote; what was told of is counted anew", path.display());
        }
        let noted = both.map(|Both { now, next }| match next {
            // A log that has lost records was that of a machine which stopped: nothing is in the kernel any more.
            Some(next) if records.is_some_and(|has| has >= next.records || has < now.records) => next,
            _ => now,
        });
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

    /// Notes that `origin` is told of by what `write` adds to the event log, which has `records` by then.
    ///
    /// # Errors
    /// What `write` has failed by; then it is noted as told of and not written.
    pub(crate) fn note(
        &mut self,
        origin: &Origin,
        records: u64,
        count: impl Fn(&mut EventStats, bool),
        write: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut next = Noted { records, ..self.noted.clone() };
        match origin {
            Origin::Ring(item) => next.last = digest(item),
            Origin::Summary(item) => next.summary = Some(digest(item)),
            Origin::Agent => {}
        }
        count(&mut next.stats, true);
        self.write(Some(&next));
        let written = write();
        if written.is_err() {
            (next.stats, next.records) = (self.noted.stats, self.noted.records);
            count(&mut next.stats, false);
        }
        self.noted = next;
        if written.is_err() {
            self.write(None);
        }
        written
    }

    /// Notes events that the log's queue had no room for.
    pub(crate) fn note_lost(&mut self, lost: &Lost) {
        add(&mut self.noted.stats, lost);
        self.write(None);
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
        self.write(None);
    }

    /// Notes how many records the log has.
    pub(crate) fn note_records(&mut self, records: u64) {
        if self.noted.records != records || !self.is_settled {
            self.noted.records = records;
            self.write(None);
        }
    }

    /// Begins anew, as the kernel's counters do.
    pub(crate) fn begin(&mut self) {
        self.noted.stats = EventStats::default();
        self.write(None);
    }

    fn write(&mut self, next: Option<&Noted>) {
        let Some(file) = &self.file else { return };
        let text = &mut self.text;
        text.clear();
        let made = serde_json::to_writer(&mut *text, &Written { now: &self.noted, next });
        let written = made.map_err(io::Error::from).and_then(|()| {
            text.resize(LENGTH.max(text.len()), b' ');
            file.write_all_at(text, 0)
        });
        if let (Err(error), false) = (&written, self.failed) {
            tracing::error!("{FILE}: {error}; after a restart, fewer drops are said to be told of than were");
        }
        self.failed = written.is_err();
        self.is_settled = next.is_none() && written.is_ok();
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

/// Counts an event that the log has got, or not.
pub(crate) fn count(stats: &mut EventStats, counted: Counted, event: &Event, is_written: bool) {
    let (drops, odd) = (event.drops(), event.odd_drops());
    *stats.count(counted) += drops;
    stats.odd += odd;
    if is_written {
        stats.written += 1;
    } else {
        stats.unwritten += 1;
        stats.unwritten_odd += odd;
        unwritten(stats, counted, drops);
    }
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
mod tests {
    use std::io;

    use super::{Account, FILE, LENGTH, Noted, Written};
    use crate::sink::Origin;
    use bulkhead_api::event::{Counted, Event, EventStats};

    fn drops(stats: &mut EventStats, is_written: bool) {
        let line = br#"{"time":"2026-11-28T08:53:14Z","kind":"drop","direction":"ingress","reason":"no_rule",
            "count":3,"bytes":60,"generation":1,"audit":false,"odd":true}"#;
        super::count(stats, Counted::Events, &Event::read(line).unwrap(), is_written);
    }

    fn ring(item: &[u8]) -> Origin {
        Origin::Ring(item.to_vec())
    }

    #[test]
    fn every_step_that_an_agent_is_killed_after_is_known() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join(FILE);
        let mut account = Account::open(state.path(), Some(1));
        account.note(&ring(b"one"), 2, drops, || Ok(())).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), LENGTH as u64);
        // What the agent itself tells of moves no place in the kernel.
        account.note(&Origin::Agent, 3, drops, || Ok(())).unwrap();
        // Killed before the record was written, and after: what is in the kernel is told of again, or is not.
        let mut seen = String::new();
        account
            .note(&ring(b"two"), 4, drops, || {
                seen = std::fs::read_to_string(&file).unwrap();
                Ok(())
            })
            .unwrap();
        std::fs::write(&file, &seen).unwrap();
        for (records, last, other, told) in
            [(3, b"one", b"two", 6), (4, b"two", b"one", 9), (9, b"two", b"one", 9)]
        {
            let account = Account::open(state.path(), Some(records));
            let left = account.left();
            assert!(left.is_last_event(last) && !left.is_last_event(other), "{records}");
            assert_eq!((account.stats().events, account.stats().written), (told, told / 3));
        }
        // Of a log that was set aside, or a machine that lost its power.
        assert_eq!(Account::open(state.path(), None).stats().events, 6);
        std::fs::write(&file, "{\"events\"").unwrap();
        assert_eq!(Account::open(state.path(), Some(4)).stats().events, 0);
    }

    #[test]
    fn what_the_log_refuses_is_told_of_all_the_same() {
        let state = tempfile::tempdir().unwrap();
        let mut account = Account::open(state.path(), Some(0));
        let full = || Err(io::Error::from_raw_os_error(28));
        assert!(account.note(&ring(b"one"), 1, drops, full).is_err());
        let account = Account::open(state.path(), Some(0));
        let stats = account.stats();
        assert_eq!((stats.events, stats.unwritten, stats.unwritten_drops, stats.written), (3, 1, 3, 0));
        assert_eq!(
            (account.left().is_last_event(b"one"), account.records(), stats.told(true)),
            (true, 0, (0, 3))
        );
        assert_eq!(stats.told(false), (0, 0));
    }

    #[test]
    fn an_account_of_the_first_agents_is_read() {
        let state = tempfile::tempdir().unwrap();
        let one = super::digest(b"one");
        let text = format!(
            "{{\"events\":5,\"aggregated\":2,\"written\":6,\"unwritten\":0,\"unwritten_drops\":0,\"journal\":900,\
             \"last\":\"{one}\"}}      "
        );
        std::fs::write(state.path().join(FILE), text).unwrap();
        let account = Account::open(state.path(), Some(0));
        assert_eq!((account.stats().events, account.records()), (5, 0));
        assert!(account.left().is_last_event(b"one") && account.left().is_last_summary(b"one"));
    }

    #[test]
    fn events_and_summaries_each_have_a_last_one() {
        let state = tempfile::tempdir().unwrap();
        let mut account = Account::open(state.path(), Some(0));
        account.note(&ring(b"one"), 1, drops, || Ok(())).unwrap();
        account.note(&Origin::Summary(b"sum".to_vec()), 2, drops, || Ok(())).unwrap();
        let left = Account::open(state.path(), Some(2)).left().clone();
        assert!(left.is_last_event(b"one") && left.is_last_summary(b"sum") && !left.is_last_summary(b"one"));
    }

    #[test]
    fn the_largest_account_has_room() {
        let most = u64::MAX;
        let stats = EventStats {
            events: most,
            aggregated: most,
            written: most,
            unwritten: most,
            unwritten_drops: most,
            unwritten_guard: most,
            odd: most,
            unwritten_odd: most,
            overflowed: most,
            guard_logged: most,
            guard_counted: most,
            missed_by_watchers: most,
        };
        let digest = super::digest(b"");
        let noted = Noted { stats, records: most, last: digest.clone(), summary: Some(digest) };
        let written = Written { now: &noted, next: Some(&noted) };
        let length = serde_json::to_vec(&written).unwrap().len();
        assert!(length <= LENGTH, "{length}");
    }
}
