//! Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature.
//!
//! Those of the evidence log are another crate's: they are as long as a log needs, are read from files, and know its
//! keys alone.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};

/// No note of a grant or a policy is longer: what is read from strangers is bounded.
pub const MAX_BYTES: usize = 16 << 10;

/// No note has more signatures.
const MAX_SIGNATURES: usize = 32;

/// What a line of a signature begins with.
const SIGNATURE: &str = "— ";

/// One line of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Whose it says it is.
    pub name: String,
    /// Which key it says it is by.
    pub id: [u8; 4],
    /// What the key's owner has made of the text.
    pub bytes: Vec<u8>,
}

/// A text and its signatures, of which nothing is known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note without signatures. `text` is lines, each with its newline.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self { text, signatures: Vec::new() }
    }

    /// Reads a note; one without signatures too, as requests are.
    ///
    /// # Errors
    ///
    /// If it is too long or malformed, with the line.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::TooLong { limit: MAX_BYTES });
        }
        let malformed = |line, problem: &str| Error::Note { line, problem: problem.to_owned() };
        let lines = |text: &str| text.matches('\n').count();
        let note = str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            malformed(line, "no UTF-8 text: no signed note")
        })?;
        if let Some(at) = note.find(|c: char| c.is_control() && c != '\n') {
            return Err(malformed(lines(&note[..at]) + 1, "a control character: no signed note"));
        }
        let end = note.rfind("\n\n").ok_or_else(|| {
            malformed(1, "no empty line between text and signatures; is it a note, and whole?")
        })?;
        let (text, rest) = (&note[..=end], &note[end + 2..]);
        if rest.is_empty() {
            return Ok(Self::new(text.to_owned()));
        }
        let first = lines(text) + 2;
        let Some(rest) = rest.strip_suffix('\n') else {
            return Err(malformed(lines(note) + 1, "does not end with a newline; is it cut short?"));
        };
        let mut signatures: Vec<Signature> = Vec::new();
        for (line, words) in (first..).zip(rest.split('\n')) {
            let read = signature(words)
                .ok_or_else(|| malformed(line, "no signature: one looks like `— NAME BASE64`"))?;
            if signatures.contains(&read) {
                return Err(Error::Copied { name: read.name, line });
            }
            if signatures.len() == MAX_SIGNATURES {
                return Err(malformed(line, "more signatures than a note has"));
            }
            signatures.push(read);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// What is signed, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its signatures, in their order.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature. One of the same person by the same key is replaced.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.retain(|known| (&known.name, known.id) != (&signature.name, signature.id));
        self.signatures.push(signature);
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.text)?;
        for Signature { name, id, bytes } in &self.signatures {
            let bytes: Vec<u8> = id.iter().chain(bytes).copied().collect();
            writeln!(formatter, "{SIGNATURE}{name} {}", STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (name, encoded) = line.strip_prefix(SIGNATURE)?.split_once(' ')?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+') {
        return None;
    }
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    (!bytes.is_empty()).then(|| Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}
