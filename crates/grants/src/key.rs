//! Public keys as OpenSSH writes them, and signatures by them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::wire::{Reader, put};

/// A key in a file.
pub(crate) const PLAIN: &str = "ssh-ed25519";

/// A key in a FIDO2 device (OpenSSH's PROTOCOL.u2f).
pub(crate) const IN_DEVICE: &str = "sk-ssh-ed25519@openssh.com";

/// That somebody has touched the device, among the flags that it signs.
const TOUCHED: u8 = 1;

/// An Ed25519 public key, in a file or in a FIDO2 device.
///
/// Printed and read as a line of OpenSSH's `.pub` files, without the comment. Signature types and key identifiers in
/// notes are those of C2SP signed-note: type 1 for keys in files, whose signatures are over the note's text as every
/// tool makes them; 0xff with the name of OpenSSH's type for keys in devices, whose signatures are over what the device
/// adds (PROTOCOL.u2f): 1 byte of flags, 4 of a counter, big-endian, and 64 of the signature.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    /// What the device's key is for; none: it is in no device.
    application: Option<String>,
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is over something else.
    Bad,
    /// Nobody has touched the device.
    Untouched,
}

impl PublicKey {
    /// Whether who signs by one of two keys signs by the other: one point on the curve has one private key, in a file
    /// or in a device, and whatever it is for.
    #[must_use]
    pub fn is_of_same_pair(&self, other: &Self) -> bool {
        self.key.to_bytes() == other.key.to_bytes()
    }

    /// The key's 32 bytes (RFC 8032), of a key in a file; none: it is in a device, which signs nothing as it is given.
    #[must_use]
    pub fn bytes(&self) -> Option<[u8; 32]> {
        self.application.is_none().then(|| self.key.to_bytes())
    }

    /// A key in a file, by its 32 bytes.
    ///
    /// # Errors
    ///
    /// If they are none, or a weak one.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let mut blob = Vec::new();
        put(&mut blob, PLAIN.as_bytes());
        put(&mut blob, bytes);
        Self::from_blob(&blob)
    }

    /// Whether a signature over bytes is this key's. None of a key in a device is.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.application.is_none() && self.fits(message, signature).is_ok()
    }

    /// A key in a file.
    pub(crate) fn plain(key: VerifyingKey) -> Self {
        Self { key, application: None }
    }

    /// Reads a line of a `.pub` file: type, base64, and a comment, which is passed over.
    ///
    /// # Errors
    ///
    /// If it is none of `ssh-ed25519` or `sk-ssh-ed25519@openssh.com`, or malformed.
    pub fn parse(line: &str) -> Result<Self> {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(encoded)) = (words.next(), words.next()) else {
            return Err(Error::Key(format!(
                "`{line}` is no public key: one is a line of a .pub file, such as `ssh-ed25519 AAAA… alice`"
            )));
        };
        if ![PLAIN, IN_DEVICE].contains(&kind) {
            return Err(Error::Key(format!(
                "a key of type {kind} is not taken: make one with `ssh-keygen -t ed25519` or `-t ed25519-sk`"
            )));
        }
        let blob = STANDARD.decode(encoded);
        let blob =
            blob.map_err(|_| Error::Key(format!("the {kind} key is not base64; is the line cut short?")))?;
        let key = Self::from_blob(&blob)?;
        if key.kind() == kind {
            return Ok(key);
        }
        Err(Error::Key(format!("the line says {kind}, but the key in it is of type {}", key.kind())))
    }

    /// Reads what is in the base64 of a `.pub` file.
    pub(crate) fn from_blob(blob: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(blob, "a public key");
        let kind = reader.text()?;
        if ![PLAIN, IN_DEVICE].contains(&kind) {
            return Err(Error::Key(format!("a key of type {kind} is not taken")));
        }
        let key = VerifyingKey::from_bytes(&reader.string_of()?);
        let key = key.map_err(|_| Error::Key("the public key is no point of Ed25519".to_owned()))?;
        // Anybody could sign for such a key.
        if key.is_weak() {
            return Err(Error::Key("the public key is a weak one: make another".to_owned()));
        }
        let application = if kind == IN_DEVICE { Some(reader.text()?.to_owned()) } else { None };
        reader.end()?;
        Ok(Self { key, application })
    }

    /// What is in the base64 of a `.pub` file.
    pub(crate) fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        put(&mut blob, self.kind().as_bytes());
        put(&mut blob, self.key.as_bytes());
        if let Some(application) = &self.application {
            put(&mut blob, application.as_bytes());
        }
        blob
    }

    /// The type that OpenSSH gives it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.application.is_some() { IN_DEVICE } else { PLAIN }
    }

    /// What stands before signatures of it in notes under a name: SHA-256 of name, newline, type and key, its first
    /// four bytes.
    #[must_use]
    pub fn id(&self, name: &str) -> [u8; 4] {
        let hash = Sha256::new().chain_update(name).chain_update(b"\n");
        let hash = match &self.application {
            None => hash.chain_update([1]).chain_update(self.key.as_bytes()),
            Some(_) => hash.chain_update([0xff]).chain_update(IN_DEVICE).chain_update(self.blob()),
        };
        let hash = hash.finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// `SHA256:…`, as `ssh-keygen -l` names it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hash = STANDARD.encode(Sha256::digest(self.blob()));
        format!("SHA256:{}", hash.trim_end_matches('='))
    }

    /// Whether a signature, without the identifier before it, fits a text.
    pub(crate) fn check(&self, text: &str, signature: &[u8]) -> std::result::Result<(), Unfit> {
        let Some(application) = &self.application else {
            return self.fits(text.as_bytes(), signature);
        };
        let (head, signature) = signature.split_at_checked(5).ok_or(Unfit::Bad)?;
        let signed = signed_by_device(application, text.as_bytes(), head);
        self.fits(&signed, signature)?;
        if head[0] & TOUCHED == 0 { Err(Unfit::Untouched) } else { Ok(()) }
    }

    fn fits(&self, message: &[u8], signature: &[u8]) -> std::result::Result<(), Unfit> {
        let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| Unfit::Bad)?;
        self.key.verify_strict(message, &signature).map_err(|_| Unfit::Bad)
    }
}

/// What a FIDO2 device signs (PROTOCOL.u2f): SHA-256 of the application, flags and counter, SHA-256 of the message.
fn signed_by_device(application: &str, message: &[u8], head: &[u8]) -> Vec<u8> {
    let mut signed = Sha256::digest(application).to_vec();
    signed.extend_from_slice(head);
    signed.extend_from_slice(&Sha256::digest(message));
    signed
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind(), STANDARD.encode(self.blob()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({self})")
    }
}
