//! Pruning: the oldest entries go, what they were part of stays provable.

use crate::disk::{self, PUBLIC};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::reader::Reader;
use crate::statement::{self, PRUNED};
use crate::tile::{Row, Tile, WIDTH};

impl Reader {
    /// The first entry that pruning left; 0 if the log is whole. What says so is not checked: see
    /// [`verify`](crate::verify()).
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn first(&self) -> Result<u64> {
        Ok(statement::read_pruned(self.directory(), &self.checkpoint().origin)?.map_or(0, |(_, first)| first))
    }
}

impl Log {
    /// The first entry that pruning left; 0 if the log is whole.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn first(&self) -> Result<u64> {
        Ok(statement::read_pruned(&self.directory, &self.signed.origin)?.map_or(0, |(_, first)| first))
    }

    /// Removes the bundles and the lowest hash tiles of all entries before `first`, a multiple of 256 that a
    /// checkpoint covers. That is signed before anything is removed.
    ///
    /// Higher tiles stay, 32 bytes for 256 entries: what remains can be proved as before, and so can every root at a
    /// multiple of 256.
    ///
    /// # Errors
    ///
    /// If `first` is no such number, or lies before what was pruned already, or the system refuses; after the last
    /// the same call goes on.
    pub fn prune(&mut self, first: u64) -> Result<()> {
        let before = self.first()?;
        let refused = match first {
            _ if !first.is_multiple_of(WIDTH) => Some("it is no multiple of 256"),
            _ if first > self.signed.size => Some("no checkpoint covers it"),
            _ if first < before => Some("later entries were pruned already"),
            _ => None,
        };
        if let Some(why) = refused {
            return Err(Error::Prune(first, why));
        }
        if first > before {
            let note = statement::pruned(&self.key, first).to_string();
            disk::write_durably(&self.directory.join(PRUNED), note.as_bytes(), PUBLIC)?;
        }
        // From the lowest on, so that an interrupted call leaves no gap that would hide the rest.
        for row in [Row::Entries, Row::Level(0)] {
            let bundles = self.first_file(row, first)?..first / WIDTH;
            for index in bundles {
                disk::remove(&self.directory.join(Tile { row, index, width: WIDTH }.path()))?;
            }
        }
        Ok(())
    }

    /// The index of a row's first file that is there, at most `first` entries on. Files go from the lowest on.
    fn first_file(&self, row: Row, first: u64) -> Result<u64> {
        let is_there = |index| {
            let path = self.directory.join(Tile { row, index, width: WIDTH }.path());
            path.try_exists().map_err(Error::io("look for", &path))
        };
        let (mut low, mut high) = (0, first / WIDTH);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_there(middle)? { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }
}
