//! A file of credentials, as NATS's own tools write it: a user's JWT and the seed of its key.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use zeroize::Zeroizing;

use super::Claims;
use crate::error::{Error, Result};

/// No file of credentials is longer, in bytes.
const LONGEST: u64 = 64 << 10;

/// Who this is, and the key that shows it.
pub struct Credentials {
    jwt: String,
    name: String,
    key: KeyPair,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.name)
    }
}

impl Credentials {
    /// Of a JWT and the key that it is about.
    ///
    /// # Errors
    /// The JWT is none, or about another key.
    pub fn new(jwt: String, key: KeyPair) -> Result<Self> {
        let claims = Claims::read(&jwt)?;
        if claims.sub != key.public_key() {
            return Err(Error::Settings(format!(
                "the JWT of `{}` is about another key",
                claims.name.escape_debug()
            )));
        }
        if !crate::layout::is_token(&claims.name) {
            return Err(Error::Settings(format!(
                "`{}` names nobody at a broker",
                claims.name.escape_debug()
            )));
        }
        Ok(Self { jwt, name: claims.name, key })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is none of credentials.
    pub fn read(path: &Path) -> Result<Self> {
        let mut text = Zeroizing::new(String::with_capacity(4 << 10));
        let file = std::fs::File::open(path).map_err(|error| Error::file(path, error))?;
        file.take(LONGEST).read_to_string(&mut text).map_err(|error| Error::file(path, error))?;
        Self::parse(&text).map_err(|error| Error::Settings(format!("{}: {error}", path.display())))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// It is none of credentials.
    pub fn parse(text: &str) -> Result<Self> {
        let missing = || Error::Settings("these are no credentials: a JWT and a seed are needed".to_owned());
        let jwt = between(text, "NATS USER JWT").ok_or_else(missing)?;
        let seed = between(text, "USER NKEY SEED").ok_or_else(missing)?;
        let key = KeyPair::from_seed(seed)
            .map_err(|error| Error::Settings(format!("the seed is none: {error}")))?;
        Self::new(jwt.to_owned(), key)
    }

    /// The file's text.
    ///
    /// # Errors
    /// There is no seed.
    pub fn text(&self) -> Result<Zeroizing<String>> {
        let seed =
            self.key.seed().map_err(|error| Error::Settings(format!("a key without its seed: {error}")))?;
        let seed = Zeroizing::new(seed);
        Ok(Zeroizing::new(format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            self.jwt, *seed
        )))
    }

    /// Writes the file, for its owner alone. What was there is replaced whole.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_secret(path, self.text()?.as_bytes())
    }

    /// The user's JWT.
    #[must_use]
    pub fn jwt(&self) -> &str {
        &self.jwt
    }

    /// The user's name at the broker.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user's public key.
    #[must_use]
    pub fn key(&self) -> String {
        self.key.public_key()
    }

    /// Signs what a server asks for, in unpadded URL-safe base64.
    pub fn sign(&self, nonce: &[u8]) -> Result<String> {
        let signature = self.key.sign(nonce);
        let signature =
            signature.map_err(|error| Error::Settings(format!("the seed does not sign: {error}")))?;
        Ok(URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What stands between the lines of a part.
fn between<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {part}-----"))?;
    let (inside, _) = rest.split_once("-----")?;
    let inside = inside.trim().trim_end_matches('-').trim();
    (!inside.is_empty()).then_some(inside)
}

/// Replaces a file that its owner alone may read, whole.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    written().map_err(|error| {
        let _ = std::fs::remove_file(&new);
        Error::file(path, error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nkeys::KeyPair;
    use serde_json::json;

    use super::{Claims, Credentials};

    #[test]
    fn a_file_is_read_as_it_was_written_and_is_its_owners_alone() {
        let key = KeyPair::new_user();
        let claims = |name: &str| Claims::new(&key.public_key(), name, json!({ "type": "user" }));
        let jwt = claims("oms-9").sign(&KeyPair::new_account()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.creds");
        let written =
            Credentials::new(jwt.clone(), KeyPair::from_seed(&key.seed().unwrap()).unwrap()).unwrap();
        written.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Credentials::read(&path).unwrap();
        assert_eq!((read.jwt(), read.name(), read.key()), (&*jwt, "oms-9", key.public_key()));
        assert!(Credentials::new(jwt, KeyPair::new_user()).is_err(), "of another key");
        let wild = claims("*").sign(&KeyPair::new_account()).unwrap();
        assert!(Credentials::new(wild, key).is_err(), "a name that is a pattern");
        assert!(Credentials::parse("nothing").is_err());
    }
}
