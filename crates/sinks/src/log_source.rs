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

    /// Logs that were set aside, as far as their checkpoints can be read; the oldest first.
    fn all_set_aside(&self) -> Vec<Reader> {
        let all = bulkhead_tlog::set_aside(&self.directory);
        all.iter().filter_map(|path| Reader::open(path).ok()).collect()
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

    fn set_aside(&self, from: u64, is_it: &dyn Fn(&[u8]) -> bool) -> Option<u64> {
        let mut logs = self.all_set_aside();
        // The last one whose record before is the same, or cannot be compared.
        let is_known = |log: &Reader| {
            from.checked_sub(1).is_none_or(|before| {
                before < log.checkpoint().size && log.entry(before).map_or(true, |bytes| is_it(&bytes))
            })
        };
        let of_sink = logs.iter().rposition(is_known)?;
        let later: u64 = logs.split_off(of_sink + 1).iter().map(|log| log.checkpoint().size).sum();
        Some(logs.last()?.checkpoint().size.saturating_sub(from).saturating_add(later))
    }
}
