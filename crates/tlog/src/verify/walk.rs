//! The walk over all entries, which makes the tree again.

use std::collections::BTreeSet;

use super::{MAX_FAULTS, Report, found};
use crate::edge::Edge;
use crate::error::{Error, Result};
use crate::hash::{Hash, fold};
use crate::log::CHECKPOINT;
use crate::reader::Reader;
use crate::tile::{self, Row, Tile, WIDTH};
use crate::{bundle, statement};

/// The tree as far as it was made again.
#[derive(Default)]
pub(super) struct Walk {
    edge: Edge,
    /// The tile of level 1 that was read last.
    above: Option<(u64, Vec<Hash>)>,
    /// Entries that hand the log on to a new key.
    rotations: BTreeSet<u64>,
}

impl Walk {
    /// Entries that hand the log on to a new key, as far as the tree was made again.
    pub(super) fn rotations(&self) -> impl Iterator<Item = u64> {
        self.rotations.iter().copied()
    }

    /// Goes on to the last full bundle of a checkpoint, or to where there are faults enough.
    pub(super) fn full_bundles(&mut self, reader: &Reader, first: u64, report: &mut Report) -> Result<()> {
        self.above = None;
        for index in self.edge.size() / WIDTH..reader.checkpoint().size / WIDTH {
            if report.faults.len() >= MAX_FAULTS {
                break;
            }
            let above = self.above(reader, index);
            let pruned = (index + 1) * WIDTH <= first;
            let leaves =
                self.leaves(reader, index, WIDTH, pruned, report, |leaves| Some(fold(leaves)) == above)?;
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
                compare(reader, tile, &hashes, report)?;
            }
        }
        Ok(())
    }

    /// The bundle, the tiles and the root at the right edge.
    pub(super) fn unfinished_tiles(&mut self, reader: &Reader, report: &mut Report) -> Result<()> {
        let checkpoint = reader.checkpoint();
        let mut edge = self.edge.clone();
        for tile in tile::partials(checkpoint.size) {
            if tile.row == Row::Entries {
                let before = self.edge.clone();
                let root = |leaves: &[Hash]| {
                    let mut edge = before.clone();
                    leaves.iter().for_each(|&leaf| edge.push(leaf, |_, _| ()));
                    edge.root() == checkpoint.root
                };
                let leaves = self.leaves(reader, tile.index, tile.width, false, report, root)?;
                leaves.into_iter().flatten().for_each(|leaf| edge.push(leaf, |_, _| ()));
            } else if let Row::Level(level @ 1..) = tile.row {
                compare(reader, tile, edge.level(level), report)?;
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
        &mut self,
        reader: &Reader,
        index: u64,
        width: u64,
        pruned: bool,
        report: &mut Report,
        is_signed: impl Fn(&[Hash]) -> bool,
    ) -> Result<Option<Vec<Hash>>> {
        let entries = Tile { row: Row::Entries, index, width };
        let hashes = Tile { row: Row::Level(0), index, width };
        let computed = self.computed(reader, entries, pruned, report)?;
        let stored = stored(reader, hashes, pruned, report)?;
        let (Some(computed), Some(stored)) = (&computed, &stored) else {
            return Ok(computed.or(stored));
        };
        if computed == stored {
            return Ok(Some(computed.clone()));
        }
        let differ = (0..width).filter(|&at| computed[at as usize] != stored[at as usize]);
        if is_signed(computed) {
            differ.for_each(|at| report.fault(hashes.path(), Some(at), "is not the hash of its entry"));
            return Ok(Some(computed.clone()));
        }
        let what = "does not have the hash it had";
        differ.for_each(|at| report.fault(entries.path(), Some(index * WIDTH + at), what));
        Ok(Some(if is_signed(stored) { stored.clone() } else { computed.clone() }))
    }

    /// The hashes of a bundle's entries.
    fn computed(
        &mut self,
        reader: &Reader,
        tile: Tile,
        pruned: bool,
        report: &mut Report,
    ) -> Result<Option<Vec<Hash>>> {
        let Some(File { bytes, is_wider }) = File::read(reader, tile, pruned, report)? else {
            return Ok(None);
        };
        let first = tile.index * WIDTH;
        let what = match bundle::split(&bytes, tile.width) {
            Some((entries, rest)) if is_wider || rest.is_empty() => {
                let origin = &reader.checkpoint().origin;
                let rotations = (first..).zip(&entries);
                let rotations = rotations.filter(|(_, entry)| statement::is_rotation(entry, origin));
                self.rotations.extend(rotations.map(|(index, _)| index));
                return Ok(Some(entries.into_iter().map(Hash::of_leaf).collect()));
            }
            Some(_) => "more follows the last entry",
            None => "is cut short",
        };
        let whole = (0..tile.width).take_while(|&count| bundle::split(&bytes, count + 1).is_some());
        report.fault(tile.path(), Some(first + whole.count() as u64), what);
        Ok(None)
    }
}

/// A tile's file.
struct File {
    bytes: Vec<u8>,
    /// A wider one is in its place, which begins the same: the writer went on.
    is_wider: bool,
}

impl File {
    /// Reads it; what is wrong with it is a fault.
    fn read(reader: &Reader, tile: Tile, pruned: bool, report: &mut Report) -> Result<Option<Self>> {
        let what = match found(reader.read(tile))? {
            Ok((path, bytes)) => {
                let is_wider = path != reader.directory().join(tile.path());
                return Ok(Some(Self { bytes, is_wider }));
            }
            Err(error) if error.is_absent() && pruned => return Ok(None),
            Err(error) if error.is_absent() => "is missing".to_owned(),
            Err(Error::Damaged { what, .. }) => what,
            Err(error) => error.to_string(),
        };
        report.fault(tile.path(), None, what);
        Ok(None)
    }
}

/// The hashes in a tile.
fn stored(reader: &Reader, tile: Tile, pruned: bool, report: &mut Report) -> Result<Option<Vec<Hash>>> {
    let Some(File { bytes, is_wider }) = File::read(reader, tile, pruned, report)? else { return Ok(None) };
    let width = tile.width as usize;
    let fits = |hashes: &Vec<Hash>| hashes.len() == width || is_wider && hashes.len() > width;
    let Some(mut hashes) = tile::decode(&bytes).filter(fits) else {
        let what = format!("has {} bytes, not those of {width} hashes", bytes.len());
        report.fault(tile.path(), None, what);
        return Ok(None);
    };
    hashes.truncate(width);
    Ok(Some(hashes))
}

/// Compares a tile with what it must be.
fn compare(reader: &Reader, tile: Tile, expected: &[Hash], report: &mut Report) -> Result<()> {
    let found = stored(reader, tile, false, report)?;
    let pairs = found.iter().flatten().zip(expected).enumerate();
    for (at, _) in pairs.filter(|(_, (found, expected))| found != expected) {
        report.fault(tile.path(), Some(at as u64), "is not the root of what is below it");
    }
    Ok(())
}
