//! `.tlog-proof` files (C2SP tlog-proof): all that is needed to check one entry without the log.

use std::fmt;

use crate::checkpoint::{Checkpoint, decimal};
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::key::VerifierKey;
use crate::note::Note;
use crate::proof::check_inclusion;
use crate::reader::Reader;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
const KIND: &str = "proof";

/// That an entry is in a log whose checkpoint is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The entry's index.
    pub index: u64,
    /// Its path, from the leaf's sibling up.
    pub path: Vec<Hash>,
    /// The checkpoint.
    pub note: Note,
}

impl Reader {
    /// The proof of one entry against the checkpoint that is read up to.
    ///
    /// # Errors
    ///
    /// As [`Reader::inclusion`].
    pub fn prove(&self, index: u64) -> Result<Proof> {
        Ok(Proof { index, path: self.inclusion(index)?, note: self.note().clone() })
    }
}

impl Proof {
    /// Reads a file. Its line `extra`, which nothing protects, is passed over.
    ///
    /// # Errors
    ///
    /// If it is malformed, with the line.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed = |line, what: &str| Error::malformed(KIND, line, what);
        let (head, note) =
            text.split_once("\n\n").ok_or_else(|| malformed(1, "no empty line before a checkpoint"))?;
        let mut lines = (1..).zip(head.split('\n')).peekable();
        if lines.next().is_none_or(|(_, line)| line != FIRST_LINE) {
            return Err(malformed(1, "does not begin with `c2sp.org/tlog-proof@v1`"));
        }
        lines.next_if(|(_, line)| line.starts_with("extra "));
        let (at, line) = lines.next().ok_or_else(|| malformed(2, "no index"))?;
        let index = line.strip_prefix("index ").and_then(decimal);
        let index = index.ok_or_else(|| malformed(at, "no index: one looks like `index 42`"))?;
        let path =
            lines.map(|(at, line)| Hash::parse(line).ok_or_else(|| malformed(at, "no hash in base64")));
        Ok(Self { index, path: path.collect::<Result<_>>()?, note: Note::parse(note)? })
    }

    /// Checks it for an entry, and returns the checkpoint that covers it.
    ///
    /// # Errors
    ///
    /// If none of the log's `keys` signed, or the path does not lead from the entry to the signed root.
    pub fn check(&self, entry: &[u8], keys: &[VerifierKey]) -> Result<Checkpoint> {
        let signers = self.note.require(keys)?;
        let checkpoint = Checkpoint::parse(self.note.text())?;
        if !signers.iter().any(|key| key.name() == checkpoint.origin) {
            return Err(Error::Unsigned(checkpoint.origin));
        }
        check_inclusion(Hash::of_leaf(entry), self.index, checkpoint.size, checkpoint.root, &self.path)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{FIRST_LINE}\nindex {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(formatter, "{hash}"))?;
        write!(formatter, "\n{}", self.note)
    }
}
