//! Drop events on disk: one JSON object a line, in two files that take turns.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::report::DropReport;

/// A file is put aside at this size; the one put aside before it is replaced.
const MAX_BYTES: u64 = 64 << 20;

/// The journal. A disk that is full or slow changes no verdict: what cannot be written is counted.
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    /// Reports written.
    pub written: u64,
    /// Reports that could not be written.
    pub failed: u64,
}

impl Journal {
    /// Opens the journal in a state directory.
    #[must_use]
    pub fn open(state: &Path) -> Self {
        let path = state.join("events.jsonl");
        let mut journal = Self { path, file: None, size: 0, written: 0, failed: 0 };
        journal.reopen();
        journal
    }

    fn reopen(&mut self) {
        self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
        self.size = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len());
    }

    /// Appends reports.
    pub fn append(&mut self, reports: &[DropReport]) {
        if self.size > MAX_BYTES {
            // If it cannot be put aside, it grows on: evidence goes before tidiness.
            let _ = std::fs::rename(&self.path, self.path.with_extension("jsonl.1"));
            self.reopen();
        } else if self.file.is_none() {
            self.reopen();
        }
        for report in reports {
            if self.write(report) { self.written += 1 } else { self.failed += 1 }
        }
    }

    fn write(&mut self, report: &DropReport) -> bool {
        let (Some(file), Ok(mut line)) = (&mut self.file, serde_json::to_vec(report)) else {
            return false;
        };
        line.push(b'\n');
        let done = file.write_all(&line).is_ok();
        self.size += line.len() as u64;
        done
    }
}
