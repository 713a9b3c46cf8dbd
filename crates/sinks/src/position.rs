//! A sink's position, in a file that is replaced whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a receiver has confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The number of the first record that it has not.
    pub next: u64,
    /// SHA-256 of the record before that, hexadecimal: another log has another one there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

impl Position {
    /// After a record.
    pub(crate) fn after(number: u64, bytes: &[u8]) -> Self {
        Self { next: number + 1, last: Some(digest(bytes)) }
    }

    /// Whether it is a position in a log that has this record before it.
    pub(crate) fn follows(&self, bytes: &[u8]) -> bool {
        self.last.as_ref().is_none_or(|last| *last == digest(bytes))
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The file of a sink's position.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    /// In a state directory.
    pub(crate) fn new(state: &Path, name: &str) -> Self {
        Self { path: state.join(format!("sink-{name}.json")) }
    }

    /// The position; none if there is none yet. If it cannot be understood, that of the first record: all are sent
    /// again, which loses nothing.
    pub(crate) fn read(&self) -> Option<Position> {
        let read = match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error),
        };
        Some(read.unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; records are sent again", self.path.display());
            Position::default()
        }))
    }

    /// Replaces it.
    pub(crate) fn write(&self, position: &Position) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(position)?)?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }
}
