//! People's keys, as TUF writes them.

use bulkhead_grants::{PublicKey, check_name};
use serde::Serialize;
use serde_json::{Value, json};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;

use crate::error::{Error, Result};

/// The member of a key that says whose it is.
const NAME: &str = "x-bulkhead-name";

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The name by which signatures of it are told.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// A key's identifier: SHA-256 of its canonical JSON.
pub(crate) type KeyId = Decoded<Hex>;

impl Holder {
    /// A key in a file, and whose.
    ///
    /// # Errors
    /// If the name is none, or the key is in a device.
    pub fn new(name: &str, key: PublicKey) -> Result<Self> {
        check_name(name).map_err(|error| Error::Asked(error.to_string()))?;
        if key.bytes().is_none() {
            return Err(Error::Asked(format!(
                "the key of {name} is in a device, whose signatures are over what it adds, and TUF knows none such: use a key \
                 of `ssh-keygen -t ed25519`"
            )));
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// As TUF writes it, and its identifier.
    pub(crate) fn tuf(&self) -> Result<(KeyId, Key)> {
        let public = self.key.bytes().map(|bytes| hex(&bytes)).unwrap_or_default();
        let key = json!({
            "keytype": "ed25519",
            "scheme": "ed25519",
            "keyval": {"public": public},
            NAME: self.name,
        });
        let wrong =
            |error: &dyn std::fmt::Display| Error::Asked(format!("the key of {}: {error}", self.name));
        let key: Key = serde_json::from_value(key).map_err(|error| wrong(&error))?;
        Ok((key.key_id().map_err(|error| wrong(&error))?, key))
    }

    /// Whose key a root has.
    pub(crate) fn of(key: &Key) -> Option<Self> {
        let value = serde_json::to_value(key).ok()?;
        let public = unhex(value["keyval"]["public"].as_str()?)?;
        let key = PublicKey::from_bytes(&public.try_into().ok()?).ok()?;
        Some(Self { name: named(&value)?, key })
    }
}

fn named(key: &Value) -> Option<String> {
    key[NAME].as_str().filter(|name| check_name(name).is_ok()).map(str::to_owned)
}

/// Bytes as TUF signs them: canonical JSON (OLPC).
pub(crate) fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut bytes, olpc_cjson::CanonicalFormatter::new());
    value.serialize(&mut to).map_err(|error| Error::Asked(format!("canonical JSON: {error}")))?;
    Ok(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
        u8::from_str_radix(text, 16).ok()
    };
    digits.map(byte).collect()
}
