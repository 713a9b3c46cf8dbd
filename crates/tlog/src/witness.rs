//! Cosignatures of witnesses: others who saw a checkpoint, and that it continued what they had seen before.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::checked::key_beside;
use crate::checkpoint::Checkpoint;
use crate::disk::{self, PUBLIC};
use crate::error::{Error, Result};
use crate::key::VerifierKey;
use crate::note::Note;
use crate::reader::Reader;

/// For each witness the last checkpoint that it signed, one note after the other; the log goes on meanwhile.
pub const COSIGNED: &str = "cosigned";

/// Witnesses answer at the same time, and each answer changes the same file.
static WRITING: Mutex<()> = Mutex::new(());

/// Takes over the cosignatures of `witnesses` on a checkpoint of the log in `directory`, and returns their names.
///
/// They take the place of what these witnesses signed before in the file `cosigned`. Nothing else of the note is kept
/// but the signature of the log's own key.
///
/// # Errors
///
/// If the note is of another log or another tree, if none of `witnesses` signed or the log's key did not, or if a
/// signature of one does not fit; or if the system refuses.
pub fn cosign(directory: &Path, cosigned: &Note, witnesses: &[VerifierKey]) -> Result<Vec<String>> {
    let _held = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let own = [key_beside(directory)?];
    let signers = cosigned.require(witnesses)?;
    let keys = [&cosigned.require(&own)?[..], &signers].concat();
    let checkpoint = Checkpoint::parse(cosigned.text())?;
    let reader = Reader::open(directory)?;
    if checkpoint.origin != reader.checkpoint().origin {
        return Err(Error::Proof("the cosigned checkpoint is of another log"));
    }
    if reader.root_at(checkpoint.size)? != checkpoint.root {
        return Err(Error::Proof("the cosigned checkpoint is of another tree"));
    }
    // What nobody can read is worth less than a signature that is new.
    let mut notes = kept(directory).unwrap_or_default();
    for note in &mut notes {
        note.drop_signatures(&signers);
    }
    notes.retain(|note| note.text() == cosigned.text() || note.has_signature_besides(&checkpoint.origin));
    let at = notes.iter().position(|note| note.text() == cosigned.text());
    match at.and_then(|at| notes.get_mut(at)) {
        Some(same) => same.take_signatures(cosigned, &keys),
        None => {
            let mut new = Note::new(cosigned.text().to_owned());
            new.take_signatures(cosigned, &keys);
            notes.push(new);
        }
    }
    let text: String = notes.iter().map(Note::to_string).collect();
    disk::write_durably(&directory.join(COSIGNED), text.as_bytes(), PUBLIC)?;
    Ok(signers.iter().map(|key| key.name().to_owned()).collect())
}

/// The checkpoints that witnesses have signed; none if there is no such file.
///
/// # Errors
///
/// If the file is malformed, or cannot be read.
pub(crate) fn kept(directory: &Path) -> Result<Vec<Note>> {
    disk::if_there(disk::read_text(&directory.join(COSIGNED)))?
        .map_or_else(|| Ok(Vec::new()), |text| Note::parse_all(&text))
}
