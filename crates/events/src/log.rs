//! The event log on disk: one JSON object a line, in two files that take turns.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_api::event::EventStats;

use crate::account::{self, Account, Left};
use crate::sink::{Entry, Lost, Sink};

/// A file is put aside at this size; the one put aside before it is replaced.
const MAX_BYTES: u64 = 64 << 20;

/// The event log, `events.jsonl`. A disk that is full or slow changes no verdict: what cannot be written is counted.
pub struct EventLog {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    account: Account,
    /// The account, for others.
    noted: Arc<Mutex<EventStats>>,
}

impl EventLog {
    /// Opens the event log in a state directory.
    #[must_use]
    pub fn open(state: &Path) -> Self {
        let path = state.join("events.jsonl");
        let account = Account::open(state);
        let opened = OpenOptions::new().read(true).append(true).open(&path);
        if let Err(error) = opened.and_then(|mut file| account.cut(&mut file))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!("{}: {error}", path.display());
        }
        let noted = Arc::new(Mutex::new(account.stats()));
        let mut log = Self { path, file: None, size: 0, account, noted };
        log.reopen();
        log
    }

    /// What became of events, as it is noted.
    pub(crate) fn noted(&self) -> Arc<Mutex<EventStats>> {
        self.noted.clone()
    }

    /// Where the agent before this one ended.
    pub(crate) fn left(&self) -> Left {
        self.account.left().clone()
    }

    fn reopen(&mut self) {
        let opened = OpenOptions::new().create(true).read(true).append(true).open(&self.path);
        self.file = opened.and_then(|mut file| complete(&mut file).map(|()| file)).ok();
        self.size = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len());
    }

    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other(format!("{}: cannot be opened", self.path.display())));
        };
        let mut line = serde_json::to_vec(&entry.event)?;
        line.push(b'\n');
        let written = file.write_all(&line);
        if written.is_ok() {
            self.size += line.len() as u64;
        } else if file.set_len(self.size).is_err() {
            // A disk that fills up takes the beginning of a line. The next one must not continue it.
            self.file = None;
        }
        written
    }

    fn publish(&self) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = self.account.stats();
    }
}

impl Sink for EventLog {
    fn name(&self) -> &'static str {
        "event log"
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        if self.size > MAX_BYTES {
            // If it cannot be put aside, it grows on: evidence goes before tidiness.
            let _ = std::fs::rename(&self.path, self.path.with_extension("jsonl.1"));
            self.reopen();
            self.account.note_file(self.size);
        } else if self.file.is_none() {
            self.reopen();
        }
        let written = self.append(entry);
        let drops = entry.event.drops();
        let count = |stats: &mut EventStats| account::count(stats, entry.counted, drops, written.is_ok());
        self.account.note(&entry.origin, self.size, count);
        self.publish();
        written
    }

    fn lost(&mut self, lost: &Lost) {
        self.account.note_lost(lost);
        self.publish();
    }

    fn begin(&mut self) {
        self.account.begin(self.size);
        self.publish();
    }
}

/// Ends the last line, if a machine that lost its power has left the beginning of one.
fn complete(file: &mut File) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? != 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

#[cfg(test)]
mod tests {
    use super::EventLog;

    #[test]
    fn a_line_that_was_cut_short_is_not_continued() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("events.jsonl");
        for (found, then) in [("", ""), ("{}\n", "{}\n"), ("{}\n{\"time", "{}\n{\"time\n")] {
            std::fs::write(&path, found).unwrap();
            let log = EventLog::open(state.path());
            assert_eq!(
                (std::fs::read_to_string(&path).unwrap().as_str(), log.size),
                (then, then.len() as u64)
            );
        }
    }
}
