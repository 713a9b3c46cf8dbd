//! Drop events on disk: one JSON object a line, in two files that take turns.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bulkhead_api::status::Pumped;

use super::told::Account;
use crate::report::Report;

/// A file is put aside at this size; the one put aside before it is replaced.
const MAX_BYTES: u64 = 64 << 20;

/// The journal. A disk that is full or slow changes no verdict: what cannot be written is counted.
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    /// What was told of, this agent and those before.
    pub account: Account,
}

impl Journal {
    /// Opens the journal in a state directory.
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
        let mut journal = Self { path, file: None, size: 0, account };
        journal.reopen();
        journal
    }

    fn reopen(&mut self) {
        let opened = OpenOptions::new().create(true).read(true).append(true).open(&self.path);
        self.file = opened.and_then(|mut file| complete(&mut file).map(|()| file)).ok();
        self.size = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len());
    }

    /// Appends a report of `item`, as the kernel has it, and counts the drops that it tells of.
    pub fn append(&mut self, report: &Report, item: &[u8], count: impl FnOnce(&mut Pumped) -> &mut u64) {
        if self.size > MAX_BYTES {
            // If it cannot be put aside, it grows on: evidence goes before tidiness.
            let _ = std::fs::rename(&self.path, self.path.with_extension("jsonl.1"));
            self.reopen();
            self.account.note_file(self.size);
        } else if self.file.is_none() {
            self.reopen();
        }
        let is_written = self.write(report);
        let drops = report.drops();
        self.account.note(item, self.size, |pumped| {
            *count(pumped) += drops;
            if is_written {
                pumped.written += 1;
            } else {
                pumped.unwritten += 1;
                pumped.unwritten_drops += drops;
            }
        });
    }

    /// Counts anew, as the kernel does.
    pub fn begin(&mut self) {
        self.account.begin(self.size);
    }

    fn write(&mut self, report: &Report) -> bool {
        let (Some(file), Ok(mut line)) = (&mut self.file, serde_json::to_vec(report)) else {
            return false;
        };
        line.push(b'\n');
        if file.write_all(&line).is_ok() {
            self.size += line.len() as u64;
            return true;
        }
        // A disk that fills up takes the beginning of a line. The next one must not continue it.
        if file.set_len(self.size).is_err() {
            self.file = None;
        }
        false
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
    use super::Journal;

    #[test]
    fn a_line_that_was_cut_short_is_not_continued() {
        let state = std::env::temp_dir().join(format!("bulkhead-journal-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        let text = || std::fs::read_to_string(state.join("events.jsonl")).unwrap();
        for (found, then) in [("", ""), ("{}\n", "{}\n"), ("{}\n{\"time", "{}\n{\"time\n")] {
            std::fs::write(state.join("events.jsonl"), found).unwrap();
            let journal = Journal::open(&state);
            assert_eq!((text().as_str(), journal.size), (then, then.len() as u64));
        }
        std::fs::remove_dir_all(state).unwrap();
    }
}
