//! A new key for a log: the old one signs for it, in an entry.

use crate::disk::{self, PUBLIC};
use crate::error::{Error, Result};
use crate::key::{Algorithm, SignerKey, VerifierKey};
use crate::log::{CHECKPOINT, Log};
use crate::note::Note;
use crate::open::{KEY, read_key, write_key, write_verifier_key};
use crate::reader::Reader;
use crate::statement::{self, PRUNED, ROTATIONS};

/// The new key, until it has taken the old one's place.
const NEXT_KEY: &str = "key.next";

impl Log {
    /// Makes a new key, which signs from now on, and destroys the old one.
    ///
    /// The statement is an entry of its own: a note that the old key signed, with the new one in it. The checkpoint
    /// that covers it is signed by both. Who has the old key can follow to the new one.
    ///
    /// # Errors
    ///
    /// If the system refuses. The old key then still signs, unless the next opening finds the rotation complete.
    pub fn rotate_key(&mut self) -> Result<VerifierKey> {
        self.checkpoint()?;
        let new = SignerKey::generate(&self.signed.origin, Algorithm::Ed25519)?;
        write_key(&self.directory, NEXT_KEY, &new)?;
        self.append(statement::rotation(&self.key, new.public()).to_string().as_bytes())?;
        self.sign(&[&new])?;
        self.complete_rotation(new)?;
        Ok(self.key.public().clone())
    }

    /// Finishes a rotation that a kill interrupted, if the new key has signed; otherwise the new key goes.
    pub(crate) fn resume_rotation(&mut self) -> Result<()> {
        let Some(new) = disk::if_there(read_key(&self.directory, NEXT_KEY))? else { return Ok(()) };
        let note = Note::parse(&disk::read_text(&self.directory.join(CHECKPOINT))?)?;
        if note.signers(std::slice::from_ref(new.public()))?.is_empty() {
            return disk::remove(&self.directory.join(NEXT_KEY));
        }
        self.complete_rotation(new)
    }

    /// The last signed entry is the statement: the rotation's checkpoint is the last one.
    fn complete_rotation(&mut self, new: SignerKey) -> Result<()> {
        let index = self.signed.size - 1;
        let statement = Reader::open(&self.directory)?.entry(index)?;
        let directory = self.directory.join(ROTATIONS);
        match std::fs::create_dir(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", &directory)(error));
            }
            _ => disk::sync_directory(&self.directory)?,
        }
        disk::write_durably(&directory.join(index.to_string()), &statement, PUBLIC)?;
        let first = self.first()?;
        if first > 0 {
            let note = statement::pruned(&new, first).to_string();
            disk::write_durably(&self.directory.join(PRUNED), note.as_bytes(), PUBLIC)?;
        }
        write_verifier_key(&self.directory, new.public())?;
        disk::rename(&self.directory.join(NEXT_KEY), &self.directory.join(KEY))?;
        self.key = new;
        disk::sync_directory(&self.directory)
    }
}
