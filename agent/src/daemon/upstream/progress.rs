//! How far the collector is, in a file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bulkhead_tlog::Reader;
use serde::{Deserialize, Serialize};

/// What the collector has of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The number of the first record that it has not.
    pub next: u64,
    /// The root of the log's tree up to there, by which another log is noticed; none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<String>,
}

impl Progress {
    /// Up to a record of the log in a directory.
    pub fn at(log: &Path, next: u64) -> Self {
        let root = Reader::open(log).and_then(|reader| reader.root_at(next));
        Self { next, root: root.ok().map(|root| root.to_string()) }
    }

    /// The same where it is of this log; else the log's beginning.
    pub fn in_log(&self, reader: &Reader) -> Self {
        let size = reader.checkpoint().size;
        let other = self.root.as_ref().is_some_and(|known| {
            // Of before what was pruned nothing can be said.
            self.next <= size && reader.root_at(self.next).is_ok_and(|root| root.to_string() != *known)
        });
        if other {
            tracing::warn!("another event log has begun: all of it goes to the collector");
            return Self::default();
        }
        // A log that is shorter than what was collected: whoever collects is to say so.
        Self { next: self.next.min(size), ..self.clone() }
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

impl Place {
    /// In a state directory.
    pub fn new(state: &Path) -> Self {
        Self(state.join("upstream.json"))
    }

    /// What it says. If it cannot be understood, that nothing is collected: what is sent again changes nothing.
    pub fn read(&self) -> Progress {
        match fs::read(&self.0) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("{}: {error}; records are sent again", self.0.display());
                Progress::default()
            }),
            Err(_) => Progress::default(),
        }
    }

    /// Replaces it.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn write(&self, progress: &Progress) -> io::Result<()> {
        let new = self.0.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(progress)?)?;
        fs::rename(new, &self.0)
    }
}
