//! Keys in the format of Go's `note` package and of C2SP signed-note: `NAME+ID+KEY`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// What a key's signatures are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The note's text, as logs sign it.
    Ed25519,
    /// The note's text and a time, as witnesses sign it (C2SP tlog-cosignature, `cosignature/v1`).
    Cosignature,
}

impl Algorithm {
    fn number(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A public key with its owner's name. Printed and parsed as a verifier key, `NAME+ID+KEY`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    algorithm: Algorithm,
    key: VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, algorithm: Algorithm, key: VerifyingKey) -> Self {
        let id = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', algorithm.number()])
            .chain_update(key.as_bytes())
            .finalize();
        Self { name: name.to_owned(), id: [id[0], id[1], id[2], id[3]], algorithm, key }
    }

    /// Reads `NAME+ID+KEY`.
    ///
    /// # Errors
    ///
    /// If the text has another form, another algorithm, or an identifier that does not fit the key.
    pub fn parse(text: &str) -> Result<Self> {
        let malformed =
            || Error::Key(format!("`{text}` is no verifier key: one looks like NAME+12345678+BASE64"));
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        check_name(name)?;
        let key = STANDARD.decode(key).map_err(|_| malformed())?;
        let (&number, key) = key.split_first().ok_or_else(malformed)?;
        let algorithm = match number {
            1 => Algorithm::Ed25519,
            4 => Algorithm::Cosignature,
            _ => return Err(Error::Key(format!("`{name}` has algorithm {number}; 1 and 4 are known"))),
        };
        let key =
            key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok()).ok_or_else(malformed)?;
        let parsed = Self::new(name, algorithm, key);
        if parsed.id_text() != id {
            return Err(Error::Key(format!(
                "`{name}` has identifier {id}, but its key {}",
                parsed.id_text()
            )));
        }
        Ok(parsed)
    }

    /// The owner's name: a log's origin, or a witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures are over.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// That its signatures are a witness's.
    ///
    /// # Errors
    ///
    /// If they are a log's.
    pub fn check_witness(&self) -> Result<()> {
        match self.algorithm {
            Algorithm::Cosignature => Ok(()),
            Algorithm::Ed25519 => {
                let name = &self.name;
                Err(Error::Key(format!(
                    "`{name}` is the key of a log; that of a witness is for cosignatures"
                )))
            }
        }
    }

    /// The four bytes that stand before a signature.
    pub(crate) fn id(&self) -> [u8; 4] {
        self.id
    }

    fn id_text(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id))
    }

    /// Whether `signature`, without the identifier before it, fits `text`.
    pub(crate) fn fits(&self, text: &str, signature: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::Ed25519 => self.fits_bytes(text.as_bytes(), signature),
            Algorithm::Cosignature => signature.split_first_chunk::<8>().is_some_and(|(time, signature)| {
                let signed = cosigned(u64::from_be_bytes(*time), text);
                self.fits_bytes(signed.as_bytes(), signature)
            }),
        }
    }

    fn fits_bytes(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.algorithm.number()];
        key.extend_from_slice(self.key.as_bytes());
        write!(formatter, "{}+{}+{}", self.name, self.id_text(), STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifierKey({self})")
    }
}

/// A private key with its owner's name. Never printed but by [`SignerKey::secret`].
pub struct SignerKey {
    public: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl SignerKey {
    /// Makes a key from the system's random numbers.
    ///
    /// # Errors
    ///
    /// If the name does not fit (see [`check_name`]) or the system has no random numbers.
    pub fn generate(name: &str, algorithm: Algorithm) -> Result<Self> {
        check_name(name)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::Key(format!("no random numbers: {error}")))?;
        Ok(Self::from_seed(name, algorithm, &seed))
    }

    fn from_seed(name: &str, algorithm: Algorithm, seed: &[u8; 32]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        Self { public: VerifierKey::new(name, algorithm, key.verifying_key()), key }
    }

    /// Reads what [`SignerKey::secret`] wrote.
    ///
    /// # Errors
    ///
    /// If the text has another form; it is not repeated in the error.
    pub fn parse(secret: &str) -> Result<Self> {
        let malformed =
            || Error::Key("no signer key: one looks like PRIVATE+KEY+NAME+12345678+BASE64".to_owned());
        let mut parts = secret.strip_prefix("PRIVATE+KEY+").ok_or_else(malformed)?.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        check_name(name)?;
        let key = STANDARD.decode(key).map_err(|_| malformed())?;
        let (algorithm, seed) = match key.split_first().ok_or_else(malformed)? {
            (1, seed) => (Algorithm::Ed25519, seed),
            (4, seed) => (Algorithm::Cosignature, seed),
            _ => return Err(malformed()),
        };
        let parsed = Self::from_seed(name, algorithm, seed.try_into().map_err(|_| malformed())?);
        if parsed.public.id_text() == id { Ok(parsed) } else { Err(malformed()) }
    }

    /// The key as text, `PRIVATE+KEY+NAME+ID+KEY`, as Go's `note` package writes it.
    #[must_use]
    pub fn secret(&self) -> String {
        let mut key = vec![self.public.algorithm.number()];
        key.extend_from_slice(self.key.as_bytes());
        format!("PRIVATE+KEY+{}+{}+{}", self.public.name, self.public.id_text(), STANDARD.encode(key))
    }

    /// The public part.
    #[must_use]
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// A signature of `text`, without the identifier before it. A cosignature is of `time`, in seconds since 1970;
    /// a log's signature has no time.
    pub(crate) fn sign(&self, text: &str, time: u64) -> Vec<u8> {
        match self.public.algorithm {
            Algorithm::Ed25519 => self.key.sign(text.as_bytes()).to_vec(),
            Algorithm::Cosignature => {
                let mut signature = time.to_be_bytes().to_vec();
                signature.extend_from_slice(&self.key.sign(cosigned(time, text).as_bytes()).to_bytes());
                signature
            }
        }
    }
}

impl fmt::Debug for SignerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SignerKey({})", self.public)
    }
}

/// What a witness signs.
fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Whether a name can be a key's, and so a log's origin: not empty, no white space, no plus sign.
///
/// # Errors
///
/// If it cannot.
pub fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control()) {
        return Err(Error::Key(format!(
            "`{name}` is no name: one has no white space, no `+`, and is not empty"
        )));
    }
    Ok(())
}
