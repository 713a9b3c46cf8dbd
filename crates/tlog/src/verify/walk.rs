//! The walk over all entries, which makes the tree again.

use std::path::{Path, PathBuf};

use super::Report;
use crate::bundle;
use crate::disk;
use crate::edge::Edge;
use crate::error::Result;
use crate::hash::{Hash, fold};
use crate::log::CHECKPOINT;
use crate::reader::Reader;
use crate::tile::{self, Row, Tile, WIDTH};

/// The tree as far as it was made again.
pub(super) struct Walk {
    directory: PathBuf,
    edge: Edge,
    /// The tile of level 1 that was read last.
    above: Option<(u64, Vec<Hash>)>,
}

impl Walk {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), edge: Edge::default(), above: None }
    }

    /// Goes on to the last full bundle of a checkpoint.
    pub(super) fn full_bundles(&mut self, reader: &Reader, first: u64, report: &mut Report) -> Result<()> {
        self.above = None;
        for index in self.edge.size() / WIDTH..reader.checkpoint().size / WIDTH {
            let above = self.above(reader, index);
            let pruned = (index + 1) * WIDTH <= first;
            let leaves = self.leaves(index, WIDTH, pruned, report, |leaves| Some(fold(leaves)) == above)?;
            let mut full = Vec::new();
            match (leaves, above) {
                (Some(leaves), _) => {
                    for leaf in leaves {
                        self.edge.push(leaf, |tile, hashes| full.push((tile, hashes.to_vec())));
                    }
                }
                // What is above it stands for what is gone.
                (None, above) => {
                    let root = above.unwrap_or(Hash([0; 32]));
                    self.edge.push_tile(root, |tile, hashes| full.push((tile, hashes.to_vec())));
                }
            }
            for (tile, hashes) in full.into_iter().filter(|(tile, _)| tile.row != Row::Level(0)) {
                self.compare(tile, &hashes, report)?;
            }
        }
        Ok(())
    }

    /// The bundle, the tiles and the root at the right edge.
    pub(super) fn unfinished_tiles(&self, reader: &Reader, report: &mut Report) -> Result<()> {
        let checkpoint = reader.checkpoint();
        let mut edge = self.edge.clone();
        for tile in tile::partials(checkpoint.size) {
            if tile.row == Row::Entries {
                let root = |leaves: &[Hash]| {
                    let mut edge = self.edge.clone();
                    leaves.iter().for_each(|&leaf| edge.push(leaf, |_, _| ()));
                    edge.root() == checkpoint.root
                };
                let leaves = self.leaves(tile.index, tile.width, false, report, root)?;
                leaves.into_iter().flatten().for_each(|leaf| edge.push(leaf, |_, _| ()));
            } else if let Row::Level(level @ 1..) = tile.row {
                self.compare(tile, edge.level(level), report)?;
            }
        }
        if edge.root() != checkpoint.root {
            report.fault(CHECKPOINT, None, "the tree of the entries has another root");
        }
        Ok(())
    }

    /// The root of a bundle as the tile above has it.
    fn above(&mut self, reader: &Reader, index: u64) -> Option<Hash> {
        let tile = index / WIDTH;
        if self.above.as_ref().is_none_or(|(read, _)| *read != tile) {
            self.above = reader.hashes(1, tile).ok().map(|hashes| (tile, hashes));
        }
        self.above.as_ref()?.1.get((index % WIDTH) as usize).copied()
    }

    /// The leaves of a bundle, of which entries and hashes must agree. Where they do not, `is_signed` says which of
    /// them is what was signed, so that one change is one fault.
    fn leaves(
        &self,
        index: u64,
        width: u64,
        pruned: bool,
        report: &mut Report,
        is_signed: impl Fn(&[Hash]) -> bool,
    ) -> Result<Option<Vec<Hash>>> {
        let entries = Tile { row: Row::Entries, index, width }.path();
        let hashes = Tile { row: Row::Level(0), index, width }.path();
        let bundle = disk::if_there(disk::read(&self.directory.join(&entries)))?;
        let stored = disk::if_there(disk::read(&self.directory.join(&hashes)))?;
        if bundle.is_none() && !pruned {
            report.fault(&entries, None, "is missing");
        }
        if stored.is_none() && !pruned {
            report.fault(&hashes, None, "is missing");
        }
        let computed = bundle.and_then(|bundle| match bundle::split(&bundle, width) {
            Some((entries, [])) => Some(entries.into_iter().map(Hash::of_leaf).collect::<Vec<_>>()),
            other => {
                let whole =
                    (0..width).take_while(|&count| bundle::split(&bundle, count + 1).is_some()).count();
                let what = if other.is_some() { "more follows the last entry" } else { "is cut short" };
                report.fault(&entries, Some(index * WIDTH + whole as u64), what);
                None
            }
        });
        let stored = stored.and_then(|bytes| {
            let hashes_of = tile::decode(&bytes).filter(|hashes| hashes.len() as u64 == width);
            if hashes_of.is_none() {
                report.fault(
                    &hashes,
                    None,
                    format!("has {} bytes, not those of {width} hashes", bytes.len()),
                );
            }
            hashes_of
        });
        let (Some(computed), Some(stored)) = (&computed, &stored) else {
            return Ok(computed.or(stored));
        };
        if computed == stored {
            return Ok(Some(computed.clone()));
        }
        let differ = (0..width).filter(|&at| computed[at as usize] != stored[at as usize]);
        if is_signed(computed) {
            differ.for_each(|at| report.fault(&hashes, Some(at), "is not the hash of its entry"));
            return Ok(Some(computed.clone()));
        }
        differ
            .for_each(|at| report.fault(&entries, Some(index * WIDTH + at), "does not have the hash it had"));
        Ok(Some(if is_signed(stored) { stored.clone() } else { computed.clone() }))
    }

    /// Compares a tile with what it must be.
    fn compare(&self, tile: Tile, expected: &[Hash], report: &mut Report) -> Result<()> {
        let name = tile.path();
        let Some(bytes) = disk::if_there(disk::read(&self.directory.join(&name)))? else {
            report.fault(name, None, "is missing");
            return Ok(());
        };
        match tile::decode(&bytes).filter(|hashes| hashes.len() == expected.len()) {
            None => {
                let what = format!("has {} bytes, not those of {} hashes", bytes.len(), expected.len());
                report.fault(name, None, what);
            }
            Some(found) => {
                for (at, _) in
                    found.iter().zip(expected).enumerate().filter(|(_, (found, expected))| found != expected)
                {
                    report.fault(&name, Some(at as u64), "is not the root of what is below it");
                }
            }
        }
        Ok(())
    }
}
