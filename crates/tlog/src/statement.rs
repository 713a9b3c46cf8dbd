//! What a log's key signs besides checkpoints. Neither text can be read as a checkpoint: both have two lines.

use std::path::Path;

use crate::checkpoint::decimal;
use crate::disk;
use crate::error::{Error, Result};
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
    let first = second_line(&note, "pruned", origin).and_then(decimal);
    let first = first.ok_or_else(|| Error::damaged(&path, "does not say from where on entries are there"))?;
    Ok(Some((note, first)))
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

/// `keys`, and those that they handed the log on to, one after the other.
///
/// # Errors
///
/// If a rotation is malformed or not signed by an earlier key.
pub(crate) fn trusted(directory: &Path, origin: &str, keys: &[VerifierKey]) -> Result<Vec<VerifierKey>> {
    let mut trusted = keys.to_vec();
    for (_, path) in rotations(directory)? {
        let note = Note::parse(&disk::read_text(&path)?)
            .map_err(|error| Error::damaged(&path, error.to_string()))?;
        let new =
            read_rotation(&note, origin).ok_or_else(|| Error::damaged(&path, "names no key of this log"))?;
        match note.require(&trusted) {
            Ok(_) if !trusted.contains(&new) => trusted.push(new),
            Ok(_) => {}
            // Of a time before the keys that are trusted: they need not follow from it.
            Err(Error::Unsigned(_)) => {}
            Err(error) => return Err(Error::damaged(&path, error.to_string())),
        }
    }
    Ok(trusted)
}

/// Indices of rotations with their files, in order.
pub(crate) fn rotations(directory: &Path) -> Result<Vec<(u64, std::path::PathBuf)>> {
    let path = directory.join(ROTATIONS);
    let listed = std::fs::read_dir(&path).map_err(Error::io("list", &path));
    let Some(listed) = disk::if_there(listed)? else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for found in listed {
        let found = found.map_err(Error::io("list", &path))?;
        if let Some(index) = found.file_name().to_str().and_then(decimal) {
            all.push((index, found.path()));
        }
    }
    all.sort();
    Ok(all)
}
