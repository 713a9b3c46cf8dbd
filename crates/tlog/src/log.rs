//! The writer.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::bundle;
use crate::checkpoint::Checkpoint;
use crate::disk::{self, Batch, PUBLIC};
use crate::edge::Edge;
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::key::{SignerKey, VerifierKey};
use crate::left_over;
use crate::note::Note;
use crate::pending::Pending;
use crate::tile::{self, Row, Tile, WIDTH};

/// The signed note of the last checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The next one, while it takes the place of the last.
pub(crate) const NEXT: &str = "checkpoint.next";

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of a log that does not exist yet: its checkpoints' first line and its key's name. A log that
    /// exists keeps the name it has.
    pub origin: String,
    /// Bytes that are appended at most before [`Log::append`] makes a checkpoint by itself. They are in memory; more
    /// than 8 MiB are taken for 8 MiB.
    pub unsigned_bytes: usize,
}

impl Options {
    /// The defaults: 4 MiB between checkpoints.
    #[must_use]
    pub fn new(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), unsigned_bytes: 4 << 20 }
    }
}

/// A log that is open for its one writer.
///
/// An entry is safe in three steps: [`append`](Self::append) keeps it in memory, after [`flush`](Self::flush) it
/// outlives this process, after [`checkpoint`](Self::checkpoint) it outlives the loss of power, and is signed.
/// After an error every call may be repeated; what was appended is still there.
pub struct Log {
    pub(crate) directory: PathBuf,
    /// Held for the lock on it.
    pub(crate) _lock: File,
    pub(crate) key: SignerKey,
    pub(crate) unsigned_bytes: usize,
    /// Of all that was appended.
    pub(crate) edge: Edge,
    /// Of what is signed.
    pub(crate) signed: Checkpoint,
    pub(crate) unsigned: Unsigned,
    pub(crate) pending: Pending,
}

/// What the next checkpoint writes.
#[derive(Default)]
pub(crate) struct Unsigned {
    /// Entries from the beginning of the bundle that the last checkpoint left unfinished.
    pub entries: Vec<u8>,
    /// How many bytes of them the last checkpoint covers.
    pub signed: usize,
    /// Where in them each full bundle ends.
    pub bundles: Vec<usize>,
    /// Full hash tiles.
    pub tiles: Vec<(Tile, Vec<u8>)>,
    /// An attempt to sign has failed since the last that went through: it may have left unfinished tiles of its own.
    pub has_failed: bool,
}

impl Log {
    /// Adds an entry and returns its index, counted from 0.
    ///
    /// # Errors
    ///
    /// If the entry is longer than [`MAX_ENTRY`](crate::MAX_ENTRY), or if a checkpoint is due and fails. The entry
    /// is then not in the log.
    pub fn append(&mut self, entry: &[u8]) -> Result<u64> {
        if entry.len() > bundle::MAX_ENTRY {
            return Err(Error::TooLong(entry.len()));
        }
        if self.unsigned.entries.len() - self.unsigned.signed >= self.unsigned_bytes {
            self.checkpoint()?;
        }
        let leaf = Hash::of_leaf(entry);
        self.pending.push(self.edge.size(), entry, &leaf)?;
        self.take(entry, leaf)
    }

    /// Takes an entry that `pending` holds.
    pub(crate) fn take(&mut self, entry: &[u8], leaf: Hash) -> Result<u64> {
        let index = self.edge.size();
        bundle::push(&mut self.unsigned.entries, entry)?;
        let tiles = &mut self.unsigned.tiles;
        self.edge.push(leaf, |tile, hashes| tiles.push((tile, tile::encode(hashes))));
        if self.edge.size().is_multiple_of(WIDTH) {
            self.unsigned.bundles.push(self.unsigned.entries.len());
        }
        Ok(index)
    }

    /// Hands what was appended to the system: it outlives this process, but not the loss of power.
    ///
    /// # Errors
    ///
    /// If the system refuses, for example because the disk is full. The entries stay in memory.
    pub fn flush(&mut self) -> Result<()> {
        self.pending.flush()
    }

    /// Makes all that was appended durable and signs it. Without anything new it returns the last checkpoint.
    ///
    /// # Errors
    ///
    /// If the system refuses. The last checkpoint then still stands, and the entries stay in memory.
    pub fn checkpoint(&mut self) -> Result<Checkpoint> {
        if self.edge.size() > self.signed.size {
            self.sign(&[])?;
        } else if self.unsigned.has_failed {
            // The last one was signed, and what was to be done after it was not.
            self.clear_away()?;
        }
        Ok(self.signed.clone())
    }

    /// Writes all files, then the checkpoint, signed by the log's key and by `others`.
    pub(crate) fn sign(&mut self, others: &[&SignerKey]) -> Result<()> {
        let new =
            Checkpoint { origin: self.signed.origin.clone(), size: self.edge.size(), root: self.edge.root() };
        let has_failed = std::mem::replace(&mut self.unsigned.has_failed, true);
        let before = tile::partials(self.signed.size);
        let after = tile::partials(new.size);
        self.write_tiles(&before, &after)?;
        let mut note = Note::new(new.text());
        note.sign(&self.key, 0);
        others.iter().for_each(|key| note.sign(key, 0));
        publish(&self.directory, &note)?;

        let unfinished = self.unsigned.bundles.last().copied().unwrap_or(0);
        self.unsigned.entries.drain(..unfinished);
        self.unsigned.entries.shrink_to(self.unsigned_bytes);
        self.unsigned.signed = self.unsigned.entries.len();
        self.unsigned.bundles.clear();
        self.unsigned.tiles.clear();
        self.signed = new;
        if has_failed {
            return self.clear_away();
        }
        self.pending.begin(self.signed.size)?;
        for tile in before.iter().filter(|tile| !after.contains(tile)) {
            remove_partial(&self.directory, *tile)?;
        }
        self.unsigned.has_failed = false;
        Ok(())
    }

    /// Begins `pending` behind the last checkpoint, which covers all that was appended, and removes all that earlier
    /// attempts and checkpoints have left.
    fn clear_away(&mut self) -> Result<()> {
        self.pending.begin(self.signed.size)?;
        left_over::remove_partials(&self.directory, &[self.signed.size])?;
        self.unsigned.has_failed = false;
        Ok(())
    }

    /// Writes what the next checkpoint needs beyond the files of the last, and returns when it is durable.
    fn write_tiles(&self, before: &[Tile], after: &[Tile]) -> Result<()> {
        let mut batch = Batch::new(&self.directory);
        let first = self.signed.size / WIDTH;
        let mut start = 0;
        for (index, &end) in (first..).zip(&self.unsigned.bundles) {
            let bundle = Tile { row: Row::Entries, index, width: WIDTH };
            batch.write(&bundle.path(), &self.unsigned.entries[start..end])?;
            start = end;
        }
        for (tile, hashes) in &self.unsigned.tiles {
            batch.write(&tile.path(), hashes)?;
        }
        for tile in after.iter().filter(|tile| !before.contains(tile)) {
            match tile.row {
                Row::Entries => batch.write(&tile.path(), &self.unsigned.entries[start..])?,
                Row::Level(level) => batch.write(&tile.path(), &tile::encode(self.edge.level(level)))?,
            }
        }
        batch.sync()
    }

    /// Makes a last checkpoint and notes that nothing is missing.
    ///
    /// # Errors
    ///
    /// As [`Log::checkpoint`].
    pub fn close(mut self) -> Result<Checkpoint> {
        let last = self.checkpoint()?;
        self.pending.close()?;
        Ok(last)
    }

    /// Entries that were appended, signed or not.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The last checkpoint.
    #[must_use]
    pub fn signed(&self) -> &Checkpoint {
        &self.signed
    }

    /// The last checkpoint as it is on disk: the signed note, to be kept elsewhere.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn note(&self) -> Result<Note> {
        Note::parse(&disk::read_text(&self.directory.join(CHECKPOINT))?)
    }

    /// The key that the log is verified with, to be kept elsewhere.
    #[must_use]
    pub fn verifier_key(&self) -> &VerifierKey {
        self.key.public()
    }

    /// The log's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; what is not in the file is what a kill would have lost.
        let _ = self.flush();
    }
}

/// Puts a checkpoint in the last one's place. It is durable before anybody sees it under its name, so that what
/// was seen once is never signed differently; an opening goes on with `checkpoint.next` if it finds that.
pub(crate) fn publish(directory: &Path, note: &Note) -> Result<()> {
    let next = directory.join(NEXT);
    disk::write_durably(&next, note.to_string().as_bytes(), PUBLIC)?;
    disk::rename(&next, &directory.join(CHECKPOINT))
}

/// Removes a partial tile that another has replaced, and its directory with the last.
pub(crate) fn remove_partial(directory: &Path, tile: Tile) -> Result<()> {
    let path = directory.join(tile.path());
    disk::remove(&path)?;
    if let Some(parent) = path.parent() {
        // It may hold the partial tile that is in use.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}
