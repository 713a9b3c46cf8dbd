//! The head: what files there are now, and how each is had. It is what a push stores last and what a host asks for.
//!
//! It is a directory of what was put on the broker, and nobody believes it: what files say is signed, and verified by
//! `bulkhead-fleet`. Small ones are in the head itself, so a small change reaches a host by one message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::delta;
use crate::error::{Error, Result};

/// No head is longer, in bytes, as it is stored: one message.
pub(crate) const LONGEST_STORED: usize = 900_000;

/// The same, unpacked.
const LONGEST: usize = 8 << 20;

/// How many times as long as stored one is at most, unpacked, beyond the first bytes: digests and metadata shrink to a
/// third or so, and what shrinks to nothing is made to keep hosts busy.
const MOST_TIMES: usize = 64;
const FIRST_BYTES: usize = 64 << 10;

/// The parts in which what is not in the head is stored, in bytes. At 1 Mbit/s one arrives before it is asked for again.
pub(crate) const PART: usize = 256 << 10;

/// What a head says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// When it was made, in nanoseconds since 1970; each is later than the one before.
    pub made: u64,
    /// Files, by their paths below the fleet directory.
    pub files: BTreeMap<String, File>,
    /// Ways to one of the files from an earlier one.
    pub differences: Vec<Difference>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Hexadecimal SHA-256.
    pub sha256: String,
    /// Bytes.
    pub length: u64,
    /// How it is had.
    pub body: Body,
}

/// A way from one file to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Hexadecimal SHA-256 of the file that one has.
    pub from: String,
    /// Hexadecimal SHA-256 of the file that it makes.
    pub to: String,
    /// How it is had.
    pub body: Body,
}

/// Where bytes are, compressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Text, right here, as it is.
    Text(String),
    /// Right here, compressed, in base64.
    Here(String),
    /// In so many parts of 256 KiB, of so many bytes together.
    Parts {
        /// How many.
        count: u32,
        /// Their bytes.
        bytes: u64,
    },
}

impl Body {
    /// Whether it has as many parts as its bytes need.
    fn is_sound(&self) -> bool {
        match self {
            Self::Parts { count, bytes } => {
                *bytes <= delta::LONGEST && u64::from(*count) == bytes.div_ceil(PART as u64)
            }
            Self::Text(_) | Self::Here(_) => true,
        }
    }
}

impl Difference {
    /// What its parts are stored under.
    pub(crate) fn name(&self) -> String {
        difference_name(&self.from, &self.to)
    }
}

/// What a difference's parts are stored under.
pub(crate) fn difference_name(from: &str, to: &str) -> String {
    format!("{from}-{to}")
}

/// Whether this is a SHA-256 in lower hexadecimal: only such become part of a subject.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Head {
    /// The message of it.
    ///
    /// # Errors
    /// It is longer than one may be.
    pub fn write(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_vec(self).map_err(|error| Error::Content(error.to_string()))?;
        let stored = delta::compress(&text)?;
        if stored.len() > LONGEST_STORED || text.len() > LONGEST {
            return Err(Error::Content(format!(
                "a head of {} files does not fit a message",
                self.files.len()
            )));
        }
        Ok(stored)
    }

    /// Reads a message.
    ///
    /// # Errors
    /// It is no head.
    pub fn read(stored: &[u8]) -> Result<Self> {
        use std::io::Read as _;
        let wrong =
            |error: &dyn std::fmt::Display| Error::Content(format!("the head cannot be read: {error}"));
        let mut decoder = zstd::stream::read::Decoder::new(stored).map_err(|error| wrong(&error))?;
        decoder.window_log_max(24).map_err(|error| wrong(&error))?;
        let mut text = Vec::new();
        let longest = stored.len().saturating_mul(MOST_TIMES).saturating_add(FIRST_BYTES).min(LONGEST);
        (&mut decoder).take(longest as u64 + 1).read_to_end(&mut text).map_err(|error| wrong(&error))?;
        if text.len() > longest {
            return Err(wrong(&"it is too long"));
        }
        let head: Self = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
        if !head.has_digests() {
            return Err(wrong(&"a digest is none"));
        }
        if !head.bodies().all(Body::is_sound) {
            return Err(wrong(&"a file has a wrong number of parts"));
        }
        Ok(head)
    }

    fn has_digests(&self) -> bool {
        let ways = self.differences.iter().flat_map(|way| [&way.from, &way.to]);
        self.files.values().map(|file| &file.sha256).chain(ways).all(|digest| is_digest(digest))
    }

    fn bodies(&self) -> impl Iterator<Item = &Body> {
        let files = self.files.values().map(|file| &file.body);
        files.chain(self.differences.iter().map(|difference| &difference.body))
    }

    /// Names of all that is stored in parts, with how many.
    pub(crate) fn parts(&self) -> BTreeMap<String, u32> {
        let count = |body: &Body| match body {
            Body::Parts { count, .. } => Some(*count),
            Body::Text(_) | Body::Here(_) => None,
        };
        let files = self.files.values().filter_map(|file| Some((file.sha256.clone(), count(&file.body)?)));
        let differences = self.differences.iter();
        let differences =
            differences.filter_map(|difference| Some((difference.name(), count(&difference.body)?)));
        files.chain(differences).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{Body, File, Head, LONGEST, PART};
    use crate::delta::digest;

    fn head(file: File) -> Head {
        Head {
            made: 7,
            files: [("policy/metadata/timestamp.json".to_owned(), file)].into(),
            differences: Vec::new(),
        }
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let file = File { sha256: digest(b"{}"), length: 2, body: Body::Text("{}".to_owned()) };
        let written = head(file);
        assert_eq!(Head::read(&written.write().unwrap()).unwrap(), written);
    }

    #[test]
    fn what_a_broker_makes_up_is_no_head() {
        let parts = |sha256: &str, count, bytes| File {
            sha256: sha256.to_owned(),
            length: 1,
            body: Body::Parts { count, bytes },
        };
        let good = digest(b"");
        assert!(Head::read(&head(parts(&good, 1, 1)).write().unwrap()).is_ok());
        for bad in [
            parts("*", 1, 1),
            parts(&good.to_uppercase(), 1, 1),
            parts(&good, 2, PART as u64),
            parts(&good, u32::MAX, u64::MAX),
        ] {
            assert!(Head::read(&head(bad).write().unwrap()).is_err());
        }
        assert!(Head::read(b"").is_err() && Head::read(b"{}").is_err());
        let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        for _ in 0..64 {
            bomb.write_all(&vec![b' '; LONGEST]).unwrap();
        }
        assert!(Head::read(&bomb.finish().unwrap()).unwrap_err().to_string().contains("too long"));
        // One that is a head, behind megabytes of spaces.
        let text = serde_json::to_string(&Head::default()).unwrap();
        let padded = crate::delta::compress(format!("{}{text}", " ".repeat(LONGEST / 2)).as_bytes()).unwrap();
        assert!(padded.len() < 1_000);
        assert!(Head::read(&padded).unwrap_err().to_string().contains("too long"));
    }
}
