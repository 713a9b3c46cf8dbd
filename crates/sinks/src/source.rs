//! Where records come from: one trait.

use std::io;

/// Records by their number in the event log.
pub trait RecordSource: Send + Sync {
    /// The number after the last record. What lies below it is durable and never changes.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn end(&self) -> io::Result<u64>;

    /// Up to `limit` records from `from` on, with their numbers and bytes, in order and without a gap between them.
    /// The first one has a later number than `from` if the log has pruned what was there. Empty only at the end.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn read(&self, from: u64, limit: usize) -> io::Result<Vec<(u64, Vec<u8>)>>;

    /// Of a log that was set aside, and whose record before `from` is the one that `is_it` knows: how many records it
    /// has from `from` on, with those of logs that were set aside after it. None: there is no such log, or it cannot be
    /// read any more.
    fn set_aside(&self, from: u64, is_it: &dyn Fn(&[u8]) -> bool) -> Option<u64>;
}
