//! Private keys in files, as `ssh-keygen` writes them (OpenSSH's PROTOCOL.key).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::key::{IN_DEVICE, PLAIN, PublicKey};
use crate::note::{Note, Signature};
use crate::people::check_name;
use crate::wire::Reader;

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// An Ed25519 key that can sign. Never printed, and wiped when it is let go.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Reads a file of `ssh-keygen -t ed25519` without a passphrase. What is decoded on the way is wiped.
    ///
    /// # Errors
    ///
    /// If it is of another kind, has a passphrase, or is damaged. Nothing of it is in the error.
    pub fn parse(file: &str) -> Result<Self> {
        let damaged = || Error::Key("the private key's file is damaged".to_owned());
        let body =
            file.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or_else(|| {
                Error::Key(
                    "the file is no OpenSSH private key: one is made by `ssh-keygen -t ed25519`".to_owned(),
                )
            })?;
        // As long as it can be: what grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(body.len()));
        body.split_ascii_whitespace().for_each(|line| text.push_str(line));
        let blob = Zeroizing::new(STANDARD.decode(&*text).map_err(|_| damaged())?);
        let mut reader = Reader::new(blob.strip_prefix(MAGIC).ok_or_else(damaged)?, "the private key's file");
        let (cipher, _, _) = (reader.text()?, reader.text()?, reader.string()?);
        if cipher != "none" {
            return Err(Error::Key(
                "the private key has a passphrase: `ssh-add` it, and name its .pub file in place of it"
                    .to_owned(),
            ));
        }
        if reader.number()? != 1 {
            return Err(damaged());
        }
        reader.string()?;
        let mut private = Reader::new(reader.string()?, "the private key");
        if private.number()? != private.number()? {
            return Err(damaged());
        }
        match private.text()? {
            PLAIN => {}
            IN_DEVICE => {
                return Err(Error::Key(
                    "the key is in a device: `ssh-add` it, and name its .pub file in place of it".to_owned(),
                ));
            }
            kind => {
                return Err(Error::Key(format!(
                    "a key of type {kind} is not taken: use `ssh-keygen -t ed25519`"
                )));
            }
        }
        let public: [u8; 32] = private.string_of()?;
        let both = Zeroizing::new(private.string_of::<64>()?);
        let key = SigningKey::from_keypair_bytes(&both).map_err(|_| damaged())?;
        if key.verifying_key().as_bytes() != &public {
            return Err(damaged());
        }
        Ok(Self(key))
    }

    /// The key of a seed (RFC 8032, section 5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public part.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::plain(self.0.verifying_key())
    }

    /// Signs bytes: 64 bytes (RFC 8032).
    #[must_use]
    pub fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).to_bytes().to_vec()
    }

    /// Signs a note under a name.
    ///
    /// # Errors
    ///
    /// If the name is none.
    pub fn sign(&self, note: &mut Note, name: &str) -> Result<()> {
        check_name(name)?;
        let bytes = self.0.sign(note.text().as_bytes()).to_bytes().to_vec();
        note.add(Signature { name: name.to_owned(), id: self.public().id(name), bytes });
        Ok(())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretKey({})", self.public())
    }
}
