//! Entries that are checked before they are believed.

use std::path::Path;

use crate::disk;
use crate::edge::Edge;
use crate::error::{Error, Result};
use crate::hash::{Hash, fold};
use crate::key::VerifierKey;
use crate::log::CHECKPOINT;
use crate::open::VERIFIER_KEY;
use crate::proof::check_inclusion;
use crate::proof_file::Proof;
use crate::reader::Reader;
use crate::statement::{self, Keys, PRUNED};
use crate::tile::{Row, Tile, WIDTH};

/// Reads a log that somebody else has had in their hands, up to its last checkpoint.
///
/// Each entry is checked against the root that the log's key has signed, by the tiles above it alone, so that any part
/// of a log can be read without the rest. What is wrong elsewhere is found by [`verify`](crate::verify()).
#[derive(Clone, Debug)]
pub struct Checked {
    reader: Reader,
    first: u64,
    edge: Edge,
    /// The full tile of each level that was checked last, by its index.
    tiles: [Option<(u64, Vec<Hash>)>; 8],
}

impl Checked {
    /// Reads the last checkpoint, which one of the log's `keys`, or one that follows from them, must have signed.
    ///
    /// # Errors
    ///
    /// If none has, or what is there is not what was signed, or the system refuses.
    pub fn open(directory: &Path, keys: &[VerifierKey]) -> Result<Self> {
        let reader = Reader::open(directory)?;
        let checkpoint = reader.checkpoint();
        let keys = Keys::of(directory, &checkpoint.origin, keys, checkpoint.size)?.at(checkpoint.size);
        let damaged = |name: &str, error: Error| Error::damaged(&directory.join(name), error.to_string());
        reader.note().require(&keys).map_err(|error| damaged(CHECKPOINT, error))?;
        let first = match statement::read_pruned(directory, &checkpoint.origin)? {
            None => 0,
            Some((note, first)) => {
                note.require(&keys).map_err(|error| damaged(PRUNED, error))?;
                first
            }
        };
        if first > checkpoint.size {
            let what = format!("says {first}, beyond the checkpoint");
            return Err(Error::damaged(&directory.join(PRUNED), what));
        }
        let edge = Edge::read(checkpoint, directory, |Tile { row, index, .. }| match row {
            Row::Level(level) => reader.hashes(level, index),
            Row::Entries => Ok(Vec::new()),
        })?;
        Ok(Self { first, edge, tiles: Default::default(), reader })
    }

    /// The log as it is on disk, unchecked.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Entries that the checkpoint covers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The first entry that pruning left, which is signed too; 0 if the log is whole.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Entries with their indices: `index`, and those behind it that lie in the same file.
    ///
    /// # Errors
    ///
    /// If the checkpoint does not cover it, if it was pruned, or if the file does not hold what was signed.
    pub fn entries(&mut self, index: u64) -> Result<Vec<(u64, Vec<u8>)>> {
        let size = self.size();
        if index >= size {
            return Err(Error::Beyond { index, size });
        }
        let entries = self.reader.bundle_of(index)?;
        let leaves: Vec<Hash> = entries.iter().map(|entry| Hash::of_leaf(entry)).collect();
        let bundle = self.reader.bundle_tile(index);
        let is_signed = if bundle.width < WIDTH {
            leaves == self.edge.level(0)
        } else {
            fold(&leaves) == self.hash(1, bundle.index)?
        };
        let start = bundle.index * WIDTH;
        if !is_signed {
            let what =
                format!("entries {start} to {} are not all as they were signed", start + bundle.width - 1);
            return Err(Error::damaged(&self.reader.directory().join(bundle.path()), what));
        }
        Ok((start..).zip(entries).skip_while(|&(at, _)| at < index).collect())
    }

    /// The proof of one entry, which holds.
    ///
    /// # Errors
    ///
    /// As [`Checked::entries`], and if a hash that the proof needs is missing or altered.
    pub fn prove(&mut self, index: u64) -> Result<Proof> {
        let entries = self.entries(index)?;
        let proof = self.reader.prove(index)?;
        let leaf = entries.first().map_or_else(Hash::of_nothing, |(_, entry)| Hash::of_leaf(entry));
        check_inclusion(leaf, index, self.size(), self.reader.checkpoint().root, &proof.path)?;
        Ok(proof)
    }

    /// Whether an entry hands the log on to a new key, and so is none of whoever appends.
    #[must_use]
    pub fn is_rotation(&self, entry: &[u8]) -> bool {
        statement::is_rotation(entry, &self.reader.checkpoint().origin)
    }

    /// A hash of a level, by its index.
    fn hash(&mut self, level: u8, index: u64) -> Result<Hash> {
        let (tile, at) = (index / WIDTH, (index % WIDTH) as usize);
        if tile == self.size() >> (8 * u32::from(level)) >> 8 {
            return Ok(self.edge.level(level)[at]);
        }
        let row = usize::from(level);
        if let Some((_, hashes)) = self.tiles[row].as_ref().filter(|(read, _)| *read == tile) {
            return Ok(hashes[at]);
        }
        let hashes = self.reader.hashes(level, tile)?;
        if fold(&hashes) != self.hash(level + 1, tile)? {
            let path = Tile { row: Row::Level(level), index: tile, width: WIDTH }.path();
            let what = "does not hold the hashes that were signed";
            return Err(Error::damaged(&self.reader.directory().join(path), what));
        }
        let hash = hashes[at];
        self.tiles[row] = Some((tile, hashes));
        Ok(hash)
    }
}

/// The key that lies beside a log. It proves nothing against who had the log in their hands.
///
/// # Errors
///
/// If there is none, or it cannot be read.
pub fn key_beside(directory: &Path) -> Result<VerifierKey> {
    let path = directory.join(VERIFIER_KEY);
    let text = disk::read_text(&path)?;
    VerifierKey::parse(text.trim_end()).map_err(|error| Error::damaged(&path, error.to_string()))
}
