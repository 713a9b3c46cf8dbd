//! A part of a log, with all that whoever mirrors it needs to know that it continues what is there.

use std::path::Path;

use crate::disk;
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::key::VerifierKey;
use crate::note::Note;
use crate::open::{KEY, read_key};
use crate::reader::Reader;
use crate::statement;
use crate::tile::WIDTH;

/// Entries that a root stands for which [`Part::skipped`] has in their place.
pub const SKIPPED_ENTRIES: u64 = WIDTH;

/// Entries from an index on, as far as they go at once, and what shows that they are in the log of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The index that it begins at. With `skipped` it is a multiple of 256.
    pub from: u64,
    /// Roots of 256 entries each that the log has pruned, from `from` on.
    pub skipped: Vec<Hash>,
    /// The entries behind those.
    pub entries: Vec<Vec<u8>>,
    /// The checkpoint, which covers all of them and may cover more.
    pub note: Note,
    /// That the checkpoint's tree continues the one of `from` entries.
    pub continues: Vec<Hash>,
    /// That it continues the one that this part ends at; empty if the checkpoint ends there, too.
    pub goes_on: Vec<Hash>,
    /// Rotations of the log's key from `from` on, each with its index.
    pub rotations: Vec<(u64, Note)>,
    /// That entries are pruned, if the log says so.
    pub pruned: Option<Note>,
}

/// How much a [`Part`] may have.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Bytes of entries. One entry is taken in any case.
    pub bytes: usize,
    /// Entries.
    pub entries: usize,
    /// Roots in place of what was pruned.
    pub skipped: usize,
}

impl Part {
    /// The index behind its last entry. `None`: no log has that many.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        let skipped = (self.skipped.len() as u64).checked_mul(WIDTH)?;
        self.from.checked_add(skipped)?.checked_add(self.entries.len() as u64)
    }
}

impl Reader {
    /// The part of the log from an index on, up to the checkpoint at most.
    ///
    /// Where the log was pruned behind `from`, roots stand for the entries that are gone, and the part begins at the
    /// multiple of 256 before.
    ///
    /// # Errors
    ///
    /// If the checkpoint does not cover `from`, or what is needed cannot be read.
    pub fn part(&self, from: u64, most: Most) -> Result<Part> {
        let size = self.checkpoint().size;
        if from > size {
            return Err(Error::Beyond { index: from, size });
        }
        let first = self.first()?;
        let (from, skipped) = match first {
            first if from < first => {
                let bundles = from / WIDTH..first / WIDTH;
                let roots = bundles.clone().take(most.skipped).map(|bundle| self.bundle_root(bundle));
                (bundles.start * WIDTH, roots.collect::<Result<Vec<_>>>()?)
            }
            _ => (from, Vec::new()),
        };
        let mut next = from + skipped.len() as u64 * WIDTH;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        if next >= first {
            for read in self.entries(next..size).take(most.entries) {
                let (_, entry) = read?;
                bytes += entry.len() + 2;
                if bytes > most.bytes && !entries.is_empty() {
                    break;
                }
                entries.push(entry);
                next += 1;
            }
        }
        let goes_on = if next == size { Vec::new() } else { self.consistency(next)? };
        let (origin, directory) = (&self.checkpoint().origin, self.directory());
        let of_part = |(index, _): &(u64, _)| (from..size).contains(index);
        let rotation = |(index, name): (u64, std::path::PathBuf)| {
            Ok((index, Note::parse(&disk::read_text_below(directory, &name)?)?))
        };
        let rotations = statement::rotations(directory)?.into_iter().filter(of_part).map(rotation);
        Ok(Part {
            from,
            skipped,
            entries,
            note: self.note().clone(),
            continues: self.consistency(from)?,
            goes_on,
            rotations: rotations.collect::<Result<_>>()?,
            pruned: statement::read_pruned(directory, origin)?.map(|(note, _)| note),
        })
    }

    /// The root of the 256 entries of a full bundle.
    fn bundle_root(&self, bundle: u64) -> Result<Hash> {
        let hashes = self.hashes(1, bundle / WIDTH)?;
        let root = hashes.get((bundle % WIDTH) as usize).copied();
        root.ok_or(Error::Beyond { index: bundle * WIDTH, size: self.checkpoint().size })
    }
}

/// Says with the key of the log in `directory` that something with this hash is by its writer, and returns the key,
/// too.
///
/// # Errors
///
/// If the key cannot be read.
pub fn attest(directory: &Path, hash: Hash) -> Result<(Note, VerifierKey)> {
    let key = read_key(directory, KEY)?;
    Ok((statement::attestation(&key, hash), key.public().clone()))
}

/// What an attestation is of, if one of `keys` has signed it.
///
/// # Errors
///
/// If it is none, or none of them has signed it.
pub fn attested(note: &Note, keys: &[VerifierKey]) -> Result<Hash> {
    let signers = note.require(keys)?;
    let hash = signers.first().and_then(|key| statement::read_attestation(note, key.name()));
    hash.ok_or(Error::Proof("the signed note is no attestation"))
}
