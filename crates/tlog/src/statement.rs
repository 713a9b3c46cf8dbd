//! What a log's key signs besides checkpoints. No such text can be read as a checkpoint: all have two lines.

use std::path::Path;

use crate::checkpoint::decimal;
use crate::disk;
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::key::{SignerKey, VerifierKey};
use crate::note::Note;

/// The file that says from which entry on a pruned log has its entries.
pub(crate) const PRUNED: &str = "pruned";
/// The directory of key rotations, each under the index of its entry.
pub(crate) const ROTATIONS: &str = "rotations";

/// Signs that entries before `first` are removed.
pub(crate) fn pruned(key: &SignerKey, first: u64) -> Note {
    signed(key, format!("pruned {}\n{first}\n", key.public().name()))
}

/// Signs that `new` follows.
pub(crate) fn rotation(key: &SignerKey, new: &VerifierKey) -> Note {
    signed(key, format!("rotation {}\n{new}\n", key.public().name()))
}

/// Signs that something with this hash is by the log's writer.
pub(crate) fn attestation(key: &SignerKey, hash: Hash) -> Note {
    signed(key, format!("attestation {}\n{hash}\n", key.public().name()))
}

/// What an attestation is of.
pub(crate) fn read_attestation(note: &Note, origin: &str) -> Option<Hash> {
    Hash::parse(second_line(note, "attestation", origin)?)
}

fn signed(key: &SignerKey, text: String) -> Note {
    let mut note = Note::new(text);
    note.sign(key, 0);
    note
}

/// Reads `pruned`; `None` if the log is whole.
pub(crate) fn read_pruned(directory: &Path, origin: &str) -> Result<Option<(Note, u64)>> {
    let path = directory.join(PRUNED);
    let Some(text) = disk::if_there(disk::read_text(&path))? else { return Ok(None) };
    let note = Note::parse(&text).map_err(|error| Error::damaged(&path, error.to_string()))?;
    let first = pruned_first(&note, origin)
        .ok_or_else(|| Error::damaged(&path, "does not say from where on entries are there"))?;
    Ok(Some((note, first)))
}

/// The first entry that a log has, as it says.
pub(crate) fn pruned_first(note: &Note, origin: &str) -> Option<u64> {
    second_line(note, "pruned", origin).and_then(decimal)
}

/// The key that a rotation names.
pub(crate) fn read_rotation(note: &Note, origin: &str) -> Option<VerifierKey> {
    let key = VerifierKey::parse(second_line(note, "rotation", origin)?).ok()?;
    (key.name() == origin).then_some(key)
}

fn second_line<'n>(note: &'n Note, what: &str, origin: &str) -> Option<&'n str> {
    let (first, second) = note.text().strip_suffix('\n')?.split_once('\n')?;
    (first.strip_prefix(what)?.strip_prefix(' ')? == origin).then_some(second)
}

/// Whether an entry is a rotation of a log: it hands the log on to a key that it names.
pub(crate) fn is_rotation(entry: &[u8], origin: &str) -> bool {
    entry.starts_with(b"rotation ")
        && str::from_utf8(entry)
            .ok()
            .and_then(|text| Note::parse(text).ok())
            .is_some_and(|note| read_rotation(&note, origin).is_some())
}

/// Keys of a log, and up to which size each may sign its checkpoints.
#[derive(Debug)]
pub(crate) struct Keys(Vec<(VerifierKey, u64)>);

impl Keys {
    /// Those of `keys` that are the log's, and those that they handed it on to before it had `size` entries, one after
    /// the other. Who has handed it on signs the checkpoint that covers the rotation, and none after it.
    ///
    /// # Errors
    ///
    /// If a rotation is malformed, or its signature does not fit.
    pub(crate) fn of(directory: &Path, origin: &str, keys: &[VerifierKey], size: u64) -> Result<Self> {
        let mut all = Self::without_rotations(origin, keys);
        for (index, name) in rotations(directory)?.into_iter().take_while(|(index, _)| *index < size) {
            let path = directory.join(&name);
            let damaged = |error: Error| Error::damaged(&path, error.to_string());
            let note = Note::parse(&disk::read_text_below(directory, &name)?).map_err(damaged)?;
            all.follow(origin, index, &note).map_err(|error| match error {
                Error::Key(what) => Error::damaged(&path, what),
                error => damaged(error),
            })?;
        }
        Ok(all)
    }

    /// Follows the rotation of an entry.
    pub(crate) fn follow(&mut self, origin: &str, index: u64, note: &Note) -> Result<()> {
        let new =
            read_rotation(note, origin).ok_or_else(|| Error::Key("names no key of this log".to_owned()))?;
        let last = index.saturating_add(1);
        let able = self.at(last);
        // One that no key of these signed is of a time before them: they need not follow from it.
        let signers = note.signers(&able)?;
        if signers.is_empty() {
            return Ok(());
        }
        let retired = self.0.iter_mut().filter(|(key, _)| signers.contains(&key));
        retired.for_each(|(_, until)| *until = last.min(*until));
        if self.0.iter().all(|(key, _)| *key != new) {
            self.0.push((new, u64::MAX));
        }
        Ok(())
    }

    /// Those of `keys` that are the log's.
    pub(crate) fn without_rotations(origin: &str, keys: &[VerifierKey]) -> Self {
        Self(keys.iter().filter(|key| key.name() == origin).map(|key| (key.clone(), u64::MAX)).collect())
    }

    /// Those that may sign a checkpoint of `size` entries.
    pub(crate) fn at(&self, size: u64) -> Vec<VerifierKey> {
        self.0.iter().filter(|(_, until)| size <= *until).map(|(key, _)| key.clone()).collect()
    }
}

/// Indices of rotations with their files' names below the log's directory, in order.
pub(crate) fn rotations(directory: &Path) -> Result<Vec<(u64, std::path::PathBuf)>> {
    let path = directory.join(ROTATIONS);
    let Some(listed) = disk::list(&path)? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for found in listed {
        let found = found.map_err(Error::io("list", &path))?;
        if let Some(index) = found.file_name().to_str().and_then(decimal) {
            all.push((index, Path::new(ROTATIONS).join(found.file_name())));
        }
    }
    all.sort();
    Ok(all)
}
