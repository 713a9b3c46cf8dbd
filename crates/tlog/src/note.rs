//! Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::disk;
use crate::error::{Error, Result};
use crate::key::{SignerKey, VerifierKey};

const KIND: &str = "signed note";

/// No note is longer: what is read from strangers is bounded.
const MAX_BYTES: usize = 1 << 20;

/// What a line of a signature begins with.
const SIGNATURE: &str = "— ";

/// One line of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl Signature {
    fn is_by(&self, key: &VerifierKey) -> bool {
        self.name == key.name() && self.id == key.id()
    }
}

/// A text and its signatures, of which nothing is known before [`Note::signers`] is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note without signatures. `text` ends with a newline.
    pub(crate) fn new(text: String) -> Self {
        debug_assert!(text.ends_with('\n'));
        Self { text, signatures: Vec::new() }
    }

    /// Reads a note.
    ///
    /// # Errors
    ///
    /// If it is malformed, with the line.
    pub fn parse(note: &str) -> Result<Self> {
        if note.len() > MAX_BYTES {
            return Err(Error::malformed(KIND, 1, format!("more than {MAX_BYTES} bytes")));
        }
        let lines = |text: &str| text.bytes().filter(|&byte| byte == b'\n').count();
        let end = note.rfind("\n\n").ok_or_else(|| {
            Error::malformed(KIND, 1, "no empty line between text and signatures; is it cut short?")
        })?;
        let (text, signatures) = (&note[..=end], &note[end + 2..]);
        let first = lines(text) + 2;
        let Some(signatures) = signatures.strip_suffix('\n') else {
            return Err(Error::malformed(
                KIND,
                lines(note) + 1,
                "does not end with a newline; is it cut short?",
            ));
        };
        Ok(Self { text: text.to_owned(), signatures: lines_of_signatures(signatures, first)? })
    }

    /// Adds signatures, a line each as in a note: what a witness answers (C2SP tlog-witness). Nothing is known of
    /// them before [`Note::signers`] is asked.
    ///
    /// # Errors
    ///
    /// If a line is no signature.
    pub fn add_signatures(&mut self, lines: &str) -> Result<()> {
        self.signatures.extend(lines_of_signatures(lines.trim_end_matches('\n'), 1)?);
        Ok(())
    }

    /// Reads a file of one note, which somebody else may have put there: no link is followed, no pipe waited for.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no regular file, or is malformed.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&disk::read_text(path)?).map_err(|error| Error::damaged(path, error.to_string()))
    }

    /// Reads notes that follow one another. None of them has a line in its text that begins as a signature does.
    ///
    /// # Errors
    ///
    /// If one is malformed, with the line in it.
    pub fn parse_all(notes: &str) -> Result<Vec<Self>> {
        let mut read = Vec::new();
        let (mut start, mut end, mut in_signatures) = (0, 0, false);
        for line in notes.split_inclusive('\n') {
            let is_signature = line.starts_with(SIGNATURE);
            if in_signatures && !is_signature {
                read.push(Self::parse(&notes[start..end])?);
                start = end;
            }
            in_signatures = is_signature;
            end += line.len();
        }
        if start != end {
            read.push(Self::parse(&notes[start..])?);
        }
        Ok(read)
    }

    /// What is signed, with its last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds a signature; for a cosignature `time` is in seconds since 1970, otherwise it is not used.
    pub fn sign(&mut self, key: &SignerKey, time: u64) {
        let bytes = key.sign(&self.text, time);
        let public = key.public();
        self.signatures.push(Signature { name: public.name().to_owned(), id: public.id(), bytes });
    }

    /// Which of `keys` signed. Signatures by other keys are passed over.
    ///
    /// # Errors
    ///
    /// If a signature says that it is by one of `keys` and does not fit.
    pub fn signers<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>> {
        let mut signers: Vec<&VerifierKey> = Vec::new();
        for signature in &self.signatures {
            for key in keys.iter().filter(|key| signature.is_by(key)) {
                if !key.fits(&self.text, &signature.bytes) {
                    return Err(Error::BadSignature(key.name().to_owned()));
                }
                if !signers.contains(&key) {
                    signers.push(key);
                }
            }
        }
        Ok(signers)
    }

    /// The same, where one at least must have signed.
    ///
    /// # Errors
    ///
    /// As [`Note::signers`], and if none of `keys` signed.
    pub fn require<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<&'k VerifierKey>> {
        let signers = self.signers(keys)?;
        if signers.is_empty() {
            let names: Vec<&str> = keys.iter().map(VerifierKey::name).collect();
            return Err(Error::Unsigned(names.join(", ")));
        }
        Ok(signers)
    }

    /// Takes over a signature of each of `keys` from another note of the same text, in place of earlier ones.
    pub(crate) fn take_signatures(&mut self, other: &Self, keys: &[&VerifierKey]) {
        self.drop_signatures(keys);
        let by = |key: &&VerifierKey| other.signatures.iter().rev().find(|signature| signature.is_by(key));
        self.signatures.extend(keys.iter().filter_map(by).cloned());
    }

    /// Forgets the signatures of `keys`.
    pub(crate) fn drop_signatures(&mut self, keys: &[&VerifierKey]) {
        self.signatures.retain(|signature| !keys.iter().any(|key| signature.is_by(key)));
    }

    /// Whether it is signed under another name as well.
    pub(crate) fn has_signature_besides(&self, name: &str) -> bool {
        self.signatures.iter().any(|signature| signature.name != name)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.text)?;
        for Signature { name, id, bytes } in &self.signatures {
            let bytes: Vec<u8> = id.iter().chain(bytes).copied().collect();
            writeln!(formatter, "— {name} {}", STANDARD.encode(bytes))?;
        }
        Ok(())
    }
}

/// Signatures, a line each; `first` is the number of the first line.
fn lines_of_signatures(lines: &str, first: usize) -> Result<Vec<Signature>> {
    let read = |(at, line)| {
        signature(line)
            .ok_or_else(|| Error::malformed(KIND, first + at, "no signature: one looks like `— NAME BASE64`"))
    };
    lines.split('\n').enumerate().map(read).collect()
}

fn signature(line: &str) -> Option<Signature> {
    let (name, encoded) = line.strip_prefix(SIGNATURE)?.split_once(' ')?;
    crate::key::check_name(name).ok()?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    (!bytes.is_empty()).then(|| Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}
