//! What takes a batch to a collector.

use std::io;

use bulkhead_collect::{Given, Outbox, Sealed};

use crate::config::Collector;

/// A way to a collector. One batch is on it at a time.
pub trait Carrier: Send {
    /// What became of the last batch.
    fn look(&mut self) -> io::Result<Given>;

    /// Gives a batch, made at a time, in place of one that still waits.
    fn give(&mut self, made: u64, batch: &Sealed) -> io::Result<()>;
}

impl Carrier for Outbox {
    fn look(&mut self) -> io::Result<Given> {
        Self::look(self)
    }

    fn give(&mut self, made: u64, batch: &Sealed) -> io::Result<()> {
        Self::give(self, made, &batch.bytes)
    }
}

/// Opens the one that agent.toml names.
///
/// # Errors
/// If it is not there.
pub fn open(settings: &Collector, node: &str) -> io::Result<Box<dyn Carrier>> {
    match &settings.directory {
        Some(directory) => Ok(Box::new(Outbox::open(directory, node)?)),
        None => Err(io::Error::other("no directory of a collector")),
    }
}
