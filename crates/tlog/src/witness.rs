//! Cosignatures of witnesses: others who saw a checkpoint, and that it continued what they had seen before.

use crate::checkpoint::Checkpoint;
use crate::disk::{self, PUBLIC};
use crate::error::{Error, Result};
use crate::key::VerifierKey;
use crate::log::{CHECKPOINT, Log};
use crate::note::Note;
use crate::reader::Reader;

/// The last checkpoint that witnesses signed; the log goes on meanwhile.
pub const COSIGNED: &str = "cosigned";

impl Log {
    /// Takes over the cosignatures of `witnesses` on a checkpoint of this log, and returns their names.
    ///
    /// They are kept in the file `cosigned`, and in the checkpoint too if it is still the last one.
    ///
    /// # Errors
    ///
    /// If the note is of another log or another tree, if none of `witnesses` signed, or if a signature of one does
    /// not fit; or if the system refuses.
    pub fn cosign(&mut self, cosigned: &Note, witnesses: &[VerifierKey]) -> Result<Vec<String>> {
        let signers = cosigned.require(witnesses)?;
        let checkpoint = Checkpoint::parse(cosigned.text())?;
        if checkpoint.origin != self.signed.origin {
            return Err(Error::Proof("the cosigned checkpoint is of another log"));
        }
        if Reader::open(&self.directory)?.root_at(checkpoint.size)? != checkpoint.root {
            return Err(Error::Proof("the cosigned checkpoint is of another tree"));
        }
        let own = std::slice::from_ref(self.key.public());
        let mut keys = cosigned.require(own)?;
        keys.extend(&signers);
        let path = self.directory.join(COSIGNED);
        let mut kept = match disk::if_there(disk::read_text(&path))? {
            Some(text) => Note::parse(&text).ok().filter(|kept| kept.text() == cosigned.text()),
            None => None,
        }
        .unwrap_or_else(|| Note::new(cosigned.text().to_owned()));
        kept.take_signatures(cosigned, &keys);
        disk::write_durably(&path, kept.to_string().as_bytes(), PUBLIC)?;
        let mut last = self.note()?;
        if last.text() == cosigned.text() {
            last.take_signatures(cosigned, &signers);
            disk::write_durably(&self.directory.join(CHECKPOINT), last.to_string().as_bytes(), PUBLIC)?;
        }
        Ok(signers.iter().map(|key| key.name().to_owned()).collect())
    }
}
