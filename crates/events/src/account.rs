//! The account of what was told of, which outlives the agent: to the drop, also if it is killed.
//!
//! What is told of goes three steps: its line is written, the account is, then it is taken out of the
//! kernel. The account names the last of them and where its line ends. So the next agent knows where an
//! earlier one was killed: a line behind that end is cut off, since what it tells of is still in the
//! kernel, and is told of again; what comes before the last one that the account names, and that one, is taken
//! out without another line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_api::event::{Counted, EventStats};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::sink::{Lost, Origin};

/// The file in the state directory.
const FILE: &str = "told.json";

/// Its length: one write within one page, which a killed process makes whole or not at all.
const LENGTH: usize = 512;

/// No line is longer.
const MAX_LINE: u64 = 1 << 16;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    stats: EventStats,
    /// Bytes of the event log.
    #[serde(rename = "journal")]
    log: u64,
    /// The record of the ring that was told of last, as a digest; of agents before there was `summary`, it may be
    /// one of these as well.
    last: String,
    /// The entry of a table that was told of last, as a digest.
    #[serde(default)]
    summary: Option<String>,
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
}

impl Account {
    /// Opens the account in a state directory. One that cannot be read begins anew.
    pub(crate) fn open(state: &Path) -> Self {
        let path = state.join(FILE);
        let open = || OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut text = String::new();
        let file = open().and_then(|mut file| file.read_to_string(&mut text).map(|_| file));
        let file = file.inspect_err(|error| tracing::error!("{}: {error}", path.display())).ok();
        let noted: Option<Noted> = serde_json::from_str(&text).ok();
        if noted.is_none() && !text.is_empty() {
            tracing::error!("{}: not what an agent wrote; what was told of is counted anew", path.display());
        }
        let left = noted.as_ref().map(|noted| Left {
            event: Some(noted.last.clone()),
            summary: Some(noted.summary.as_ref().unwrap_or(&noted.last).clone()),
        });
        Self { file, noted: noted.unwrap_or_default(), left: left.unwrap_or_default(), failed: false }
    }

    /// The counts.
    pub(crate) fn stats(&self) -> EventStats {
        self.noted.stats
    }

    /// What an earlier agent told of last.
    pub(crate) fn left(&self) -> &Left {
        &self.left
    }

    /// Cuts off the line that an earlier agent was killed behind, before it was noted.
    pub(crate) fn cut(&self, log: &mut File) -> io::Result<()> {
        let (length, noted) = (log.metadata()?.len(), self.noted.log);
        if self.left.event.is_none() || length <= noted || length - noted > MAX_LINE {
            return Ok(());
        }
        let mut more = Vec::new();
        log.seek(SeekFrom::Start(noted))?;
        log.read_to_end(&mut more)?;
        // More than one line was written by an agent that notes nothing.
        let is_one = more.iter().position(|byte| *byte == b'\n').is_none_or(|end| end + 1 == more.len());
        if is_one { log.set_len(noted) } else { Ok(()) }
    }

    /// Notes that `origin` was told of, and that the event log has `log` bytes now.
    pub(crate) fn note(&mut self, origin: &Origin, log: u64, count: impl FnOnce(&mut EventStats)) {
        count(&mut self.noted.stats);
        self.noted.log = log;
        match origin {
            Origin::Ring(item) => self.noted.last = digest(item),
            Origin::Summary(item) => self.noted.summary = Some(digest(item)),
            Origin::Agent => {}
        }
        self.write();
    }

    /// Notes events that the log's queue had no room for.
    pub(crate) fn note_lost(&mut self, lost: &Lost) {
        add(&mut self.noted.stats, lost);
        self.write();
    }

    /// Notes that the log goes on in another file.
    pub(crate) fn note_file(&mut self, log: u64) {
        self.noted.log = log;
        self.write();
    }

    /// Begins anew, as the kernel's counters do, behind what the log has.
    pub(crate) fn begin(&mut self, log: u64) {
        self.noted.stats = EventStats::default();
        self.noted.log = log;
        self.write();
    }

    fn write(&mut self) {
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(&self.noted).map_err(io::Error::from).and_then(|mut text| {
            text.resize(LENGTH, b' ');
            file.write_all_at(&text, 0)
        });
        if let (Err(error), false) = (&written, self.failed) {
            tracing::error!("{FILE}: {error}; after a restart, fewer drops are said to be told of than were");
        }
        self.failed = written.is_err();
    }
}

/// Counts what a queue had no room for: told of, but for the event log.
pub(crate) fn add(stats: &mut EventStats, lost: &Lost) {
    stats.unwritten += lost.events;
    stats.overflowed += lost.events;
    for (counted, drops) in &lost.drops {
        *stats.count(*counted) += drops;
        stats.unwritten_drops += drops;
    }
}

/// Counts an event that the log has got, or not.
pub(crate) fn count(stats: &mut EventStats, counted: Counted, drops: u64, is_written: bool) {
    *stats.count(counted) += drops;
    if is_written {
        stats.written += 1;
    } else {
        stats.unwritten += 1;
        stats.unwritten_drops += drops;
    }
}

fn digest(item: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(item))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::{Account, FILE, LENGTH, Noted};
    use crate::sink::Origin;
    use bulkhead_api::event::EventStats;

    #[test]
    fn every_step_that_an_agent_is_killed_after_is_known() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("events.jsonl");
        let cut = |account: &Account| {
            account.cut(&mut OpenOptions::new().read(true).append(true).open(&path).unwrap()).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        std::fs::write(&path, "{1}\n").unwrap();
        let mut account = Account::open(state.path());
        assert_eq!(cut(&account), "{1}\n", "nothing was noted: an agent from before wrote it");
        account.note(&Origin::Ring(b"one".to_vec()), 4, |stats| stats.events += 3);
        assert_eq!(std::fs::metadata(state.path().join(FILE)).unwrap().len(), LENGTH as u64);
        // What the agent itself tells of moves no place in the kernel.
        account.note(&Origin::Agent, 4, |_| ());

        // Noted, and still in the kernel: it is told of already.
        let account = Account::open(state.path());
        assert_eq!((account.stats().events, cut(&account).as_str()), (3, "{1}\n"));
        assert!(!account.left().is_last_event(b"two") && account.left().is_last_event(b"one"));
        // Written, whole or in part, and not noted: it is told of again.
        for written in ["{1}\n{2}\n", "{1}\n{2", "{1}\n"] {
            std::fs::write(&path, written).unwrap();
            let account = Account::open(state.path());
            assert_eq!(cut(&account), "{1}\n");
            assert!(!account.left().is_last_event(b"two"));
        }
        // By an agent that notes nothing.
        std::fs::write(&path, "{1}\n{2}\n{3}\n").unwrap();
        assert_eq!(cut(&Account::open(state.path())), "{1}\n{2}\n{3}\n");
        // The machine has lost its power.
        std::fs::write(state.path().join(FILE), "{\"events\"").unwrap();
        assert_eq!(Account::open(state.path()).stats().events, 0);
    }

    #[test]
    fn events_and_summaries_each_have_a_last_one() {
        let state = tempfile::tempdir().unwrap();
        let mut account = Account::open(state.path());
        account.note(&Origin::Ring(b"one".to_vec()), 4, |_| ());
        // As an agent before this one noted them.
        std::fs::write(
            state.path().join(FILE),
            std::fs::read_to_string(state.path().join(FILE))
                .unwrap()
                .replace("\"summary\":null", "\"x\":null"),
        )
        .unwrap();
        let left = Account::open(state.path()).left().clone();
        assert!(left.is_last_event(b"one") && left.is_last_summary(b"one"));
        let mut account = Account::open(state.path());
        account.note(&Origin::Summary(b"sum".to_vec()), 4, |_| ());
        let left = Account::open(state.path()).left().clone();
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
            overflowed: most,
            guard_logged: most,
            guard_counted: most,
            missed_by_watchers: most,
        };
        let digest = super::digest(b"");
        let noted = Noted { stats, log: most, last: digest.clone(), summary: Some(digest) };
        assert!(serde_json::to_vec(&noted).unwrap().len() <= LENGTH);
    }
}
