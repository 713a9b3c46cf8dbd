//! WireGuard keys for a lab's hosts.

use std::fs::File;
use std::io::Read as _;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x25519_dalek::{PublicKey, StaticSecret};

/// A key pair in base64, as configuration files have it.
pub struct Keys {
    /// The private key.
    pub private: String,
    /// Its public key.
    pub public: String,
}

impl Keys {
    /// A new pair.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn generate() -> anyhow::Result<Keys> {
        let mut bytes = [0; 32];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .context("read /dev/urandom")?;
        let secret = StaticSecret::from(bytes);
        let public = PublicKey::from(&secret);
        Ok(Keys { private: STANDARD.encode(secret.as_bytes()), public: STANDARD.encode(public.as_bytes()) })
    }
}

/// A key as WireGuard's cross-platform interface writes it: 64 hexadecimal digits, of one in base64.
///
/// # Errors
/// It is no base64.
pub fn digits(key: &str) -> anyhow::Result<String> {
    Ok(STANDARD.decode(key)?.iter().map(|byte| format!("{byte:02x}")).collect())
}
