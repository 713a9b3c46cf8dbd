//! TEMPORARY
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_api::event::{Counted, Event, EventStats};

use crate::account::{self, Account, Left};
use crate::facts::Facts;
use crate::sink::{Entry, Lost, Origin, Seal, Sink};

/// x
pub struct EventLog {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    account: Account,
    noted: Arc<Mutex<EventStats>>,
    facts: Arc<dyn Facts>,
}

impl EventLog {
    /// x
    #[must_use]
    pub fn open(state: &Path, facts: Arc<dyn Facts>) -> Self {
        let path = state.join("events.jsonl");
        let size = std::fs::read_to_string(&path).unwrap_or_default().lines().count() as u64;
        let account = Account::open(state, Some(size));
        let noted = Arc::new(Mutex::new(account.stats()));
        let file = OpenOptions::new().create(true).append(true).open(&path).ok();
        Self { path, file, size, account, noted, facts }
    }
    pub(crate) fn noted(&self) -> Arc<Mutex<EventStats>> {
        self.noted.clone()
    }
    pub(crate) fn left(&self) -> Left {
        self.account.left().clone()
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
        let _ = (&self.path, &self.facts);
        let file = &mut self.file;
        let count = |stats: &mut EventStats, written| account::count(stats, entry.counted, &entry.event, written);
        let write = || {
            let mut line = serde_json::to_vec(&entry.event)?;
            line.push(b'\n');
            file.as_mut().unwrap().write_all(&line)
        };
        let r = self.account.note(&entry.origin, self.size + 1, count, write);
        self.size += u64::from(r.is_ok());
        self.publish();
        r
    }
    fn seal(&mut self, seal: Seal) -> io::Result<()> {
        let Some((time, kind)) = seal(&self.account.stats(), self.size) else { return Ok(()) };
        let event = Event { time, node: String::new(), kind };
        self.write(&Entry { event, counted: Counted::Events, origin: Origin::Agent })
    }
    fn lost(&mut self, lost: &Lost) {
        self.account.note_lost(lost);
        self.publish();
    }
    fn begin(&mut self) {
        self.account.begin();
        self.publish();
    }
}
