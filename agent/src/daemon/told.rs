//! The account of what was told of, which outlives the agent: to the drop, also if it is killed.
//!
//! What is told of goes three steps: its line is written, the account is, then it is taken out of the
//! kernel. The account names the last of them and where its line ends. So the next agent knows where an
//! earlier one was killed: a line behind that end is cut off, since what it tells of is still in the
//! kernel, and is told of again; what the account names is taken out without another line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_api::status::Pumped;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The file in the state directory.
const FILE: &str = "told.json";

/// Its length: one write within one page, which a killed process makes whole or not at all.
const LENGTH: usize = 512;

/// No line is longer.
const MAX_LINE: u64 = 1 << 16;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    #[serde(flatten)]
    pumped: Pumped,
    /// Bytes of the journal.
    journal: u64,
    /// What was told of last, as a digest.
    last: String,
}

/// The account.
pub struct Account {
    file: Option<File>,
    noted: Noted,
    /// What an earlier agent told of last: it may still be in the kernel.
    left: Option<String>,
    failed: bool,
}

impl Account {
    /// Opens the account in a state directory. One that cannot be read begins anew.
    pub fn open(state: &Path) -> Self {
        let path = state.join(FILE);
        let open = || OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut text = String::new();
        let file = open().and_then(|mut file| file.read_to_string(&mut text).map(|_| file));
        let file = file.inspect_err(|error| tracing::error!("{}: {error}", path.display())).ok();
        let noted: Option<Noted> = serde_json::from_str(&text).ok();
        if noted.is_none() && !text.is_empty() {
            tracing::error!("{}: not what an agent wrote; what was told of is counted anew", path.display());
        }
        let left = noted.as_ref().map(|noted| noted.last.clone());
        Self { file, noted: noted.unwrap_or_default(), left, failed: false }
    }

    /// The counts.
    pub fn pumped(&self) -> Pumped {
        self.noted.pumped
    }

    /// Cuts off the line that an earlier agent was killed behind, before it was noted.
    pub fn cut(&self, journal: &mut File) -> io::Result<()> {
        let (length, noted) = (journal.metadata()?.len(), self.noted.journal);
        if self.left.is_none() || length <= noted || length - noted > MAX_LINE {
            return Ok(());
        }
        let mut more = Vec::new();
        journal.seek(SeekFrom::Start(noted))?;
        journal.read_to_end(&mut more)?;
        // More than one line was written by an agent that notes nothing.
        let is_one = more.iter().position(|byte| *byte == b'\n').is_none_or(|end| end + 1 == more.len());
        if is_one { journal.set_len(noted) } else { Ok(()) }
    }

    /// Whether an earlier agent has told of this and was killed before it was taken out of the kernel.
    pub fn is_told(&mut self, item: &[u8]) -> bool {
        let is_told = self.left.as_ref().is_some_and(|left| *left == digest(item));
        if is_told {
            self.left = None;
        }
        is_told
    }

    /// Notes that `item` was told of, and that the journal has `journal` bytes now.
    pub fn note(&mut self, item: &[u8], journal: u64, count: impl FnOnce(&mut Pumped)) {
        count(&mut self.noted.pumped);
        (self.noted.journal, self.noted.last) = (journal, digest(item));
        self.write();
    }

    /// Notes that the journal goes on in another file.
    pub fn note_file(&mut self, journal: u64) {
        self.noted.journal = journal;
        self.write();
    }

    /// Begins anew, as the kernel's counters do, behind what the journal has.
    pub fn begin(&mut self, journal: u64) {
        self.noted.pumped = Pumped::default();
        self.noted.journal = journal;
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

fn digest(item: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(item))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::{Account, FILE, LENGTH};

    #[test]
    fn every_step_that_an_agent_is_killed_after_is_known() {
        let state = std::env::temp_dir().join(format!("bulkhead-told-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        let path = state.join("events.jsonl");
        let cut = |account: &Account| {
            account.cut(&mut OpenOptions::new().read(true).append(true).open(&path).unwrap()).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        std::fs::write(&path, "{1}\n").unwrap();
        let mut account = Account::open(&state);
        assert_eq!(cut(&account), "{1}\n", "nothing was noted: an agent from before wrote it");
        account.note(b"one", 4, |pumped| pumped.events += 3);
        assert_eq!(std::fs::metadata(state.join(FILE)).unwrap().len(), LENGTH as u64);

        // Noted, and still in the kernel: it is told of already, once.
        let mut account = Account::open(&state);
        assert_eq!((account.pumped().events, cut(&account).as_str()), (3, "{1}\n"));
        assert!(!account.is_told(b"two") && account.is_told(b"one") && !account.is_told(b"one"));
        // Written, whole or in part, and not noted: it is told of again.
        for written in ["{1}\n{2}\n", "{1}\n{2", "{1}\n"] {
            std::fs::write(&path, written).unwrap();
            let mut account = Account::open(&state);
            assert_eq!(cut(&account), "{1}\n");
            assert!(!account.is_told(b"two"));
        }
        // By an agent that notes nothing.
        std::fs::write(&path, "{1}\n{2}\n{3}\n").unwrap();
        assert_eq!(cut(&Account::open(&state)), "{1}\n{2}\n{3}\n");
        // The machine has lost its power.
        std::fs::write(state.join(FILE), "{\"events\"").unwrap();
        assert_eq!(Account::open(&state).pumped().events, 0);
        std::fs::remove_dir_all(state).unwrap();
    }
}
