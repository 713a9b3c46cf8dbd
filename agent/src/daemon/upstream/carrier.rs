//! What takes a batch to a collector.

use std::io;
use std::path::Path;

use bulkhead_collect::{Given, Outbox, Sealed};

use super::broker::Broker;
use crate::config::{Collector, Fleet};

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
pub fn open(
    settings: &Collector,
    fleet: Option<&Fleet>,
    state: &Path,
    node: &str,
) -> io::Result<Box<dyn Carrier>> {
    match (&settings.directory, fleet) {
        (Some(directory), _) => Ok(Box::new(Outbox::open(directory, node)?)),
        (None, Some(fleet)) => Ok(Box::new(Broker::open(fleet, state, node)?)),
        (None, None) => Err(io::Error::other("agent.toml names no directory and no servers")),
    }
}
