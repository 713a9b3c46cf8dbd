//! The event log on disk as a source.

use std::io;
use std::path::{Path, PathBuf};

use bulkhead_tlog::Reader;

use crate::source::RecordSource;

/// The event log in a directory, up to its last checkpoint.
#[derive(Clone, Debug)]
pub struct LogSource {
    directory: PathBuf,
}

impl LogSource {
    /// The log in a directory, which need not be there yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }
}

impl RecordSource for LogSource {
    fn end(&self) -> io::Result<u64> {
        // Before its first checkpoint there is nothing that is durable.
        if !self.directory.join("checkpoint").try_exists()? {
            return Ok(0);
        }
        Ok(Reader::open(&self.directory).map_err(io::Error::other)?.checkpoint().size)
    }

    fn read(&self, from: u64, limit: usize) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let reader = Reader::open(&self.directory).map_err(io::Error::other)?;
        let from = from.max(reader.first().map_err(io::Error::other)?);
        reader
            .entries(from..from.saturating_add(limit as u64))
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)
    }
}
