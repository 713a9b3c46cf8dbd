//! A copy of another host's log, kept by whoever collects it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::bundle;
use crate::checkpoint::Checkpoint;
use crate::disk::{self, Batch, PUBLIC};
use crate::edge::Edge;
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::key::VerifierKey;
use crate::left_over;
use crate::log::{CHECKPOINT, NEXT, publish, remove_partial};
use crate::note::Note;
use crate::open::{VERIFIER_KEY, lock, read_edge, write_verifier_key};
use crate::part::Part;
use crate::proof::check_consistency;
use crate::reader::Reader;
use crate::statement::{self, Keys, PRUNED, ROTATIONS};
use crate::tile::{self, Row, Tile, WIDTH};

/// The tree of all that was taken, where no checkpoint ends there: what [`CHECKPOINT`] is without signatures.
const STAGED: &str = "staged";
/// The key that was known first.
const PINNED: &str = "pinned";
/// What the log says of pruning, until a checkpoint covers it.
const PRUNED_NEXT: &str = "pruned.next";

/// Rotations of a log's key in one part. Nobody replaces a key that often.
const MOST_ROTATIONS_AT_ONCE: usize = 64;
/// Rotations of a log's key in all: each is read whenever a part is taken.
const MOST_ROTATIONS: usize = 512;

/// Why a part of a log was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The system refused, or the mirror itself is not as it was written. Says nothing of the part.
    #[error(transparent)]
    Own(Error),
    /// It is malformed.
    #[error("it is malformed: {0}")]
    Malformed(Error),
    /// It is of another log.
    #[error("it is of the log `{0}`")]
    OtherLog(String),
    /// No known key of the log has signed it.
    #[error("no known key of the log has signed it: {0}")]
    OtherKey(Error),
    /// Entries between it and what is there are missing.
    #[error("it begins at record {from}, but {stands} are here: those between are missing")]
    Gap {
        /// Entries that are there.
        stands: u64,
        /// Where it begins.
        from: u64,
    },
    /// The log's key has signed two logs: one that continues what is there, and another.
    #[error(
        "its checkpoint of {size} records does not continue the {stands} that are here: the log was rewritten"
    )]
    Fork {
        /// Entries that are there.
        stands: u64,
        /// Entries of the checkpoint.
        size: u64,
    },
    /// Its entries are not those that were signed.
    #[error("its records up to {end} are not those that its checkpoint was signed over")]
    Altered {
        /// The index behind its last entry.
        end: u64,
    },
}

/// What came of a part that was in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many entries are there now, some of them new.
    Extended(u64),
    /// All was there already; the checkpoint is of so many entries.
    Known(u64),
}

/// A copy of a log, which grows by [`Part`]s. It is a log on disk like the one it is of, without the private key.
///
/// A part is taken whole or not at all, and nothing is lost or there twice whenever the process is killed. What a part
/// has that is there already is passed over.
#[derive(Debug)]
pub struct Mirror {
    directory: PathBuf,
    _lock: File,
    pinned: VerifierKey,
    /// The last checkpoint that was taken whole, with its note.
    signed: Checkpoint,
    note: Note,
    /// Of all that was taken.
    edge: Edge,
    /// Entries of the bundle that is not full.
    unfinished: Vec<u8>,
}

impl Mirror {
    /// Opens the mirror in a directory, or makes one of the log whose key is `key`. A mirror that is there keeps the
    /// key that it knew first.
    ///
    /// # Errors
    ///
    /// If the system refuses, another process has it open, or it is not as it was written.
    pub fn open(directory: &Path, key: Option<&VerifierKey>) -> Result<Self> {
        if let Some(key) = key.filter(|_| !directory.join(PINNED).exists()) {
            fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
            disk::write_durably(&directory.join(PINNED), format!("{key}\n").as_bytes(), PUBLIC)?;
        }
        let pinned = read_pinned(directory)?;
        let lock = lock(directory)?;
        let next = directory.join(NEXT);
        if next.exists() {
            disk::rename(&next, &directory.join(CHECKPOINT))?;
        }
        let empty = Checkpoint { origin: pinned.name().to_owned(), size: 0, root: Hash::of_nothing() };
        let (note, signed) = match disk::if_there(disk::read_text(&directory.join(CHECKPOINT)))? {
            Some(text) => {
                let note = Note::parse(&text)?;
                let checkpoint = Checkpoint::parse(note.text())?;
                (note, checkpoint)
            }
            None => (Note::new(empty.text()), empty),
        };
        let staged = disk::if_there(disk::read_text(&directory.join(STAGED)))?;
        let staged = staged.map(|text| Checkpoint::parse(&text)).transpose()?;
        let stands = staged.filter(|staged| staged.size > signed.size).unwrap_or_else(|| signed.clone());
        let (edge, unfinished) = read_edge(directory, &stands)?;
        left_over::remove_partials(directory, &[signed.size, stands.size])?;
        let mirror =
            Self { directory: directory.to_owned(), _lock: lock, pinned, signed, note, edge, unfinished };
        mirror.settle()?;
        Ok(mirror)
    }

    /// Does what follows a checkpoint, which a kill may have prevented.
    fn settle(&self) -> Result<()> {
        let next = self.directory.join(PRUNED_NEXT);
        if let Some(note) = disk::if_there(disk::read_text(&next))? {
            let first = statement::pruned_first(&Note::parse(&note)?, self.origin());
            if first.is_some_and(|first| first <= self.signed.size) {
                disk::rename(&next, &self.directory.join(PRUNED))?;
            }
        }
        if self.signed.size == 0 && !self.directory.join(CHECKPOINT).exists() {
            return Ok(());
        }
        let keys = self.keys(&[])?.at(self.signed.size);
        if let Some(key) = self.note.signers(&keys)?.last()
            && disk::if_there(disk::read_text(&self.directory.join(VERIFIER_KEY)))?
                .is_none_or(|text| text.trim_end() != key.to_string())
        {
            write_verifier_key(&self.directory, key)?;
        }
        Ok(())
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.pinned.name()
    }

    /// The key that was known first.
    #[must_use]
    pub fn pinned(&self) -> &VerifierKey {
        &self.pinned
    }

    /// Entries that were taken.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The last checkpoint that was taken whole: its size is at most [`Mirror::size`].
    #[must_use]
    pub fn signed(&self) -> &Checkpoint {
        &self.signed
    }

    /// The same with its signatures.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Reads all that was taken, which no checkpoint here may cover yet.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::of(&self.directory, self.note.clone(), self.stands())
    }

    /// The first entry that is here, or will be: those before it the log had pruned. 0 if it is whole.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn first(&self) -> Result<u64> {
        let covered = statement::read_pruned(&self.directory, self.origin())?.map_or(0, |(_, first)| first);
        Ok(self.pruned_next()?.unwrap_or(0).max(covered))
    }

    /// The first entry that the log has, by what no checkpoint here covers yet.
    fn pruned_next(&self) -> Result<Option<u64>> {
        let text = disk::if_there(disk::read_text(&self.directory.join(PRUNED_NEXT)))?;
        let note = text.map(|text| Note::parse(&text)).transpose()?;
        Ok(note.and_then(|note| statement::pruned_first(&note, self.origin())))
    }

    fn stands(&self) -> Checkpoint {
        Checkpoint { origin: self.origin().to_owned(), size: self.edge.size(), root: self.edge.root() }
    }

    fn keys(&self, rotations: &[(u64, Note)]) -> Result<Keys> {
        let mut keys =
            Keys::of(&self.directory, self.origin(), std::slice::from_ref(&self.pinned), self.size())?;
        for (index, note) in rotations.iter().filter(|(index, _)| *index >= self.size()) {
            keys.follow(self.origin(), *index, note)?;
        }
        Ok(keys)
    }

    /// The keys that may sign at the checkpoint of a part, by what is here and the rotations that it brings.
    ///
    /// # Errors
    ///
    /// If a rotation or the checkpoint is malformed.
    pub fn keys_for(&self, part: &Part) -> Result<Vec<VerifierKey>> {
        let checkpoint = Checkpoint::parse(part.note.text())?;
        Ok(self.keys(&part.rotations)?.at(checkpoint.size))
    }

    /// Takes a part, if it goes on where this stands.
    ///
    /// # Errors
    ///
    /// If it does not, with the reason; then nothing has changed. [`Refused::Own`] may be tried again after another
    /// [`Mirror::open`].
    pub fn take(&mut self, part: &Part) -> Result<Taken, Refused> {
        let checkpoint = Checkpoint::parse(part.note.text()).map_err(Refused::Malformed)?;
        if checkpoint.origin != self.origin() {
            return Err(Refused::OtherLog(checkpoint.origin));
        }
        // Those of what is here are here.
        let said = if checkpoint.size > self.size() { part.rotations.as_slice() } else { &[] };
        let keys = self.keys(said).map_err(|error| match error {
            error @ Error::Io { .. } => Refused::Own(error),
            error => Refused::OtherKey(error),
        })?;
        let keys = keys.at(checkpoint.size);
        part.note.require(&keys).map_err(Refused::OtherKey)?;
        let (stands, size) = (self.size(), checkpoint.size);
        let fork = || Refused::Fork { stands, size };
        if size <= stands {
            let root = self.reader().root_at(size);
            return match root {
                Ok(root) if root == checkpoint.root => self.catch_up(part, &checkpoint, &keys),
                Ok(_) => Err(fork()),
                // Of before what was pruned: nothing can be said, and nothing is taken.
                Err(Error::Pruned { .. }) => Ok(Taken::Known(size)),
                Err(error) => Err(Refused::Own(error)),
            };
        }
        let end = part.end().filter(|end| *end <= size);
        let end = end.ok_or(Refused::Malformed(Error::Proof("it goes beyond its checkpoint")))?;
        if part.from > stands {
            return Err(Refused::Gap { stands, from: part.from });
        }
        let before = match self.reader().root_at(part.from) {
            Ok(root) => Some(root),
            // Of entries that the log had pruned when it was first seen only roots at multiples of 256 are known.
            Err(Error::Pruned { .. }) => None,
            Err(error) => return Err(Refused::Own(error)),
        };
        if let Some(before) = before {
            check_consistency(part.from, before, size, checkpoint.root, &part.continues)
                .map_err(|_| fork())?;
        }
        if end <= stands {
            return Ok(Taken::Known(size));
        }
        let new = self.grown(part, size)?;
        // What a part says of rotations it may leave out, or invent: here count those that its entries are.
        let keys = self.keys(&new.rotations_with(part, stands, end)).map_err(Refused::OtherKey)?.at(size);
        part.note.require(&keys).map_err(Refused::OtherKey)?;
        let root = new.edge.root();
        let is_signed = check_consistency(end, root, size, checkpoint.root, &part.goes_on).is_ok();
        if !is_signed {
            return Err(Refused::Altered { end });
        }
        self.write(part, &checkpoint, new, &keys).map_err(Refused::Own)?;
        Ok(Taken::Extended(end))
    }

    /// A checkpoint that ends where this stands, of a part whose entries are all here.
    fn catch_up(
        &mut self,
        part: &Part,
        checkpoint: &Checkpoint,
        keys: &[VerifierKey],
    ) -> Result<Taken, Refused> {
        let is_newer = checkpoint.size > self.signed.size || !self.directory.join(CHECKPOINT).exists();
        if checkpoint.size == self.size() && is_newer {
            self.sign(part, checkpoint, keys, self.size()).map_err(Refused::Own)?;
        }
        Ok(Taken::Known(checkpoint.size))
    }

    /// What this would be with a part.
    fn grown<'p>(&self, part: &'p Part, size: u64) -> Result<Grown<'p>, Refused> {
        let malformed = |what| Refused::Malformed(Error::Proof(what));
        if !part.skipped.is_empty() && !part.from.is_multiple_of(WIDTH) {
            return Err(malformed("what it skips begins at no multiple of 256"));
        }
        let mut new = Grown {
            edge: self.edge.clone(),
            files: Vec::new(),
            unfinished: self.unfinished.clone(),
            first: None,
            rotations: Vec::new(),
        };
        let mut index = part.from;
        for root in &part.skipped {
            if index + WIDTH > self.size() {
                new.edge.truncate();
                new.unfinished.clear();
                new.first = Some(index + WIDTH);
                new.edge.push_tile(*root, |tile, hashes| new.files.push((tile, tile::encode(hashes))));
            }
            index += WIDTH;
        }
        let begins = if new.first.is_some() {
            let said = part.pruned.as_ref().and_then(|note| statement::pruned_first(note, self.origin()));
            match said {
                Some(said) if (index..=size).contains(&said) && said.is_multiple_of(WIDTH) => said,
                _ => return Err(malformed("nothing says that what it skips was pruned")),
            }
        } else {
            self.pruned_next().map_err(Refused::Own)?.unwrap_or(0)
        };
        let grows = index + part.entries.len() as u64 > new.edge.size();
        if grows && begins > new.edge.size() {
            return Err(malformed("it has entries before the first that it says is there"));
        }
        for entry in &part.entries {
            if index >= new.edge.size() {
                bundle::push(&mut new.unfinished, entry).map_err(Refused::Malformed)?;
                if statement::is_rotation(entry, self.origin()) {
                    new.rotations.push((index, entry));
                }
                let files = &mut new.files;
                new.edge.push(Hash::of_leaf(entry), |tile, hashes| files.push((tile, tile::encode(hashes))));
                if new.edge.size().is_multiple_of(WIDTH) {
                    let tile = Tile { row: Row::Entries, index: new.edge.size() / WIDTH - 1, width: WIDTH };
                    new.files.push((tile, std::mem::take(&mut new.unfinished)));
                }
            }
            index += 1;
        }
        let known = statement::rotations(&self.directory).map_err(Refused::Own)?.len();
        let more = new.rotations.len();
        if more > MOST_ROTATIONS_AT_ONCE || more > 0 && known + more > MOST_ROTATIONS {
            return Err(malformed("it hands the log on to more keys than anybody has"));
        }
        Ok(new)
    }

    /// Makes all of it durable: tiles, what they hold of rotations, then the checkpoint, or how far this is without
    /// one.
    fn write(
        &mut self,
        part: &Part,
        checkpoint: &Checkpoint,
        new: Grown<'_>,
        keys: &[VerifierKey],
    ) -> Result<()> {
        let mut batch = Batch::new(&self.directory);
        for (tile, bytes) in &new.files {
            batch.write(&tile.path(), bytes)?;
        }
        let stood = self.edge.size();
        // A file is written once: what is there is a part of what stands, and a kill would leave half of it.
        let there = [tile::partials(stood), tile::partials(self.signed.size)].concat();
        for tile in tile::partials(new.edge.size()).into_iter().filter(|tile| !there.contains(tile)) {
            match tile.row {
                Row::Entries => batch.write(&tile.path(), &new.unfinished)?,
                Row::Level(level) => batch.write(&tile.path(), &tile::encode(new.edge.level(level)))?,
            }
        }
        for (index, entry) in &new.rotations {
            batch.write(&Path::new(ROTATIONS).join(index.to_string()), entry)?;
        }
        let skipped = stood..new.first.unwrap_or(0);
        for (index, note) in part.rotations.iter().filter(|(index, _)| skipped.contains(index)) {
            batch.write(&Path::new(ROTATIONS).join(index.to_string()), note.to_string().as_bytes())?;
        }
        batch.sync()?;
        if let (Some(_), Some(note)) = (new.first, &part.pruned) {
            disk::write_durably(&self.directory.join(PRUNED_NEXT), note.to_string().as_bytes(), PUBLIC)?;
        }
        (self.edge, self.unfinished) = (new.edge, new.unfinished);
        if self.edge.size() == checkpoint.size {
            return self.sign(part, checkpoint, keys, stood);
        }
        disk::write_durably(&self.directory.join(STAGED), self.stands().text().as_bytes(), PUBLIC)?;
        if stood > self.signed.size {
            self.remove(&tile::partials(stood))?;
        }
        Ok(())
    }

    /// Puts a checkpoint in place that covers all that is here; before, this stood at `stood` entries.
    fn sign(&mut self, part: &Part, checkpoint: &Checkpoint, keys: &[VerifierKey], stood: u64) -> Result<()> {
        let signers = part.note.require(keys)?;
        let mut note = Note::new(part.note.text().to_owned());
        note.take_signatures(&part.note, &signers);
        publish(&self.directory, &note)?;
        disk::sync_directory(&self.directory)?;
        let before = [tile::partials(self.signed.size), tile::partials(stood)].concat();
        (self.signed, self.note) = (checkpoint.clone(), note);
        disk::remove(&self.directory.join(STAGED))?;
        self.remove(&before)?;
        self.settle()
    }

    fn remove(&self, partials: &[Tile]) -> Result<()> {
        let kept = [tile::partials(self.signed.size), tile::partials(self.size())].concat();
        let gone = partials.iter().filter(|tile| !kept.contains(tile));
        gone.copied().try_for_each(|tile| remove_partial(&self.directory, tile))
    }
}

/// What a mirror is to become.
struct Grown<'p> {
    edge: Edge,
    /// Full tiles and bundles.
    files: Vec<(Tile, Vec<u8>)>,
    unfinished: Vec<u8>,
    /// The first entry behind what was skipped, if anything was.
    first: Option<u64>,
    rotations: Vec<(u64, &'p [u8])>,
}

impl Grown<'_> {
    /// Rotations from where a mirror stood on: those that its part says of what it skips, those that its entries are,
    /// and those that it says of what follows its end.
    fn rotations_with(&self, part: &Part, stood: u64, end: u64) -> Vec<(u64, Note)> {
        let said = |range: std::ops::Range<u64>| {
            part.rotations.iter().filter(move |(index, _)| range.contains(index)).cloned()
        };
        let entries = self
            .rotations
            .iter()
            .filter_map(|(index, entry)| Some((*index, Note::parse(str::from_utf8(entry).ok()?).ok()?)));
        said(stood..self.first.unwrap_or(0)).chain(entries).chain(said(end..u64::MAX)).collect()
    }
}

/// The key that a mirror knew first; none: there is no mirror.
///
/// # Errors
///
/// If it cannot be read.
pub fn pinned(directory: &Path) -> Result<Option<VerifierKey>> {
    disk::if_there(read_pinned(directory))
}

fn read_pinned(directory: &Path) -> Result<VerifierKey> {
    let path = directory.join(PINNED);
    let text = disk::read_text(&path)?;
    VerifierKey::parse(text.trim_end()).map_err(|error| Error::damaged(&path, error.to_string()))
}
