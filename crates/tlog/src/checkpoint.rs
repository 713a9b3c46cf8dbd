//! Checkpoints (C2SP tlog-checkpoint): origin, size and root, one a line.

use crate::error::{Error, Result};
use crate::hash::Hash;

const KIND: &str = "checkpoint";

/// What a log says of itself at a moment: the text of a signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Its entries.
    pub size: u64,
    /// The root of the tree of them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text, of three lines.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Reads the text of a note. Lines behind the third are extensions, and passed over.
    ///
    /// # Errors
    ///
    /// If it is malformed, with the line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = text.split('\n');
        let mut line = || lines.next().unwrap_or_default();
        let origin = line().to_owned();
        if origin.is_empty() {
            return Err(Error::malformed(KIND, 1, "no origin"));
        }
        let size = decimal(line()).ok_or_else(|| Error::malformed(KIND, 2, "no size, a decimal number"))?;
        let root =
            Hash::parse(line()).ok_or_else(|| Error::malformed(KIND, 3, "no root, a hash in base64"))?;
        Ok(Self { origin, size, root })
    }
}

/// A number as the formats write it: no sign, no leading zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}
