//! The key that signs: in a file, or in ssh-agent.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bulkhead_grants::agent::Agent;
use bulkhead_grants::{Note, PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::exit::Usage;

/// No key's file is longer, in bytes.
const LONGEST: u64 = 16 << 10;

/// A key that can sign.
pub(in crate::commands) enum Key {
    File(SecretKey),
    Agent(Agent<UnixStream>, PublicKey),
}

fn wrong(error: bulkhead_grants::Error) -> Usage {
    Usage(error.to_string())
}

impl Key {
    /// The one that is named, else the one that ssh-agent has.
    pub(in crate::commands) fn find(path: Option<&Path>) -> Result<Self, Usage> {
        let Some(path) = path else { return Self::only() };
        let at = |error: String| Usage(format!("{}: {error}", path.display()));
        let mut file = File::open(path).map_err(|error| at(error.to_string()))?;
        let found = file.metadata().map_err(|error| at(error.to_string()))?;
        // Read once: what grows would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize + 1));
        file.by_ref().take(LONGEST).read_to_string(&mut text).map_err(|error| at(error.to_string()))?;
        if text.starts_with("-----BEGIN") {
            let mode = found.permissions().mode() & 0o777;
            if mode & 0o177 != 0 {
                return Err(at(format!(
                    "a private key is its owner's alone: it has mode {mode:04o}; `chmod 600` it"
                )));
            }
            return SecretKey::parse(&text).map(Self::File).map_err(|error| at(error.to_string()));
        }
        let key = PublicKey::parse(text.trim()).map_err(|error| at(error.to_string()))?;
        Ok(Self::Agent(connect()?, key))
    }

    fn only() -> Result<Self, Usage> {
        let mut agent = connect()?;
        let mut keys = agent.keys().map_err(wrong)?;
        match (keys.pop(), keys.len()) {
            (Some((key, _)), 0) => Ok(Self::Agent(agent, key)),
            (None, _) => Err(Usage(
                "ssh-agent has no Ed25519 key: `ssh-add` one, or name a private key with --key".to_owned(),
            )),
            (Some(last), _) => {
                let names = keys
                    .iter()
                    .chain([&last])
                    .map(|(key, comment)| format!("{} {comment}", key.fingerprint()));
                let names: Vec<String> = names.collect();
                Err(Usage(format!(
                    "ssh-agent has more than one key: name the .pub of yours with --key ({})",
                    names.join(", ")
                )))
            }
        }
    }

    /// Its public part.
    #[cfg(feature = "agent")]
    pub(in crate::commands) fn public(&self) -> PublicKey {
        match self {
            Self::File(key) => key.public(),
            Self::Agent(_, key) => key.clone(),
        }
    }

    /// Signs bytes.
    #[cfg(feature = "agent")]
    pub(in crate::commands) fn sign_bytes(&mut self, message: &[u8]) -> Result<Vec<u8>, Usage> {
        match self {
            Self::File(key) => Ok(key.sign_bytes(message)),
            Self::Agent(agent, key) => agent.sign_bytes(message, key).map_err(wrong),
        }
    }

    pub(super) fn sign(self, note: &mut Note, name: &str) -> Result<(), Usage> {
        match self {
            Self::File(key) => key.sign(note, name),
            Self::Agent(mut agent, key) => {
                if key.kind().starts_with("sk-") {
                    eprintln!("touch the device of {} if it asks for it", key.fingerprint());
                }
                agent.sign(note, name, &key)
            }
        }
        .map_err(wrong)
    }
}

fn connect() -> Result<Agent<UnixStream>, Usage> {
    let socket = std::env::var_os("SSH_AUTH_SOCK").ok_or_else(|| {
        Usage("no ssh-agent is known (SSH_AUTH_SOCK): start one, or name a private key with --key".to_owned())
    })?;
    let stream = UnixStream::connect(&socket);
    stream
        .map(Agent::new)
        .map_err(|error| Usage(format!("{}: ssh-agent: {error}", Path::new(&socket).display())))
}
