//! Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::key::{SignerKey, VerifierKey};

const KIND: &str = "signed note";

/// No note is longer: what is read from strangers is bounded.
const MAX_BYTES: usize = 1 << 20;

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
        let signatures = signatures.split('\n').enumerate().map(|(at, line)| {
            signature(line).ok_or_else(|| {
                Error::malformed(KIND, first + at, "no signature: one looks like `— NAME BASE64`")
            })
        });
        Ok(Self { text: text.to_owned(), signatures: signatures.collect::<Result<_>>()? })
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

    /// Takes over the signatures of `keys` from another note of the same text, in place of earlier ones.
    pub(crate) fn take_signatures(&mut self, other: &Self, keys: &[&VerifierKey]) {
        let by_them = |signature: &Signature| keys.iter().any(|key| signature.is_by(key));
        self.signatures.retain(|signature| !by_them(signature));
        self.signatures.extend(other.signatures.iter().filter(|&signature| by_them(signature)).cloned());
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

fn signature(line: &str) -> Option<Signature> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    crate::key::check_name(name).ok()?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>()?;
    (!bytes.is_empty()).then(|| Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}
