//! The two messages of ssh-agent's protocol (draft-ietf-sshm-ssh-agent) that signing takes, over any stream.

use std::io::{Read, Write};

use crate::error::{Error, Result};
use crate::key::{IN_DEVICE, PLAIN, PublicKey};
use crate::note::{Note, Signature};
use crate::people::check_name;
use crate::wire::{Reader, put};

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// No answer is longer, in bytes, as in OpenSSH.
const LONGEST_ANSWER: u32 = 256 << 10;

/// An agent at the other end of a stream.
#[derive(Debug)]
pub struct Agent<S>(S);

impl<S: Read + Write> Agent<S> {
    /// The agent there.
    pub const fn new(stream: S) -> Self {
        Self(stream)
    }

    /// The keys that it has and that can sign notes, each with its comment.
    ///
    /// # Errors
    ///
    /// If it does not answer, or not as agents do.
    pub fn keys(&mut self) -> Result<Vec<(PublicKey, String)>> {
        let answer = self.ask(&[REQUEST_IDENTITIES])?;
        let mut reader = Reader::new(&answer, "ssh-agent's answer");
        if reader.byte()? != IDENTITIES_ANSWER {
            return Err(Error::Agent("it does not list its keys".to_owned()));
        }
        let mut keys = Vec::new();
        for _ in 0..reader.number()? {
            let (blob, comment) = (reader.string()?, reader.string()?);
            // Keys of other types are no concern here.
            if let Ok(key) = PublicKey::from_blob(blob) {
                keys.push((key, String::from_utf8_lossy(comment).into_owned()));
            }
        }
        Ok(keys)
    }

    /// Has a note signed under a name. A device may wait for a touch meanwhile.
    ///
    /// # Errors
    ///
    /// If the name is none, the agent refuses, or what it answers is no signature of this key over this note.
    pub fn sign(&mut self, note: &mut Note, name: &str, key: &PublicKey) -> Result<()> {
        check_name(name)?;
        let bytes = self.signature(note.text().as_bytes(), key)?;
        if key.check(note.text(), &bytes).is_err() {
            return Err(Error::Agent(format!(
                "what it answers is no signature by {} with a touch",
                key.fingerprint()
            )));
        }
        note.add(Signature { name: name.to_owned(), id: key.id(name), bytes });
        Ok(())
    }

    /// Has bytes signed: 64 bytes (RFC 8032).
    ///
    /// # Errors
    ///
    /// If the key is in a device, which signs something else than it is given, the agent refuses, or what it answers is no
    /// signature of this key over these bytes.
    pub fn sign_bytes(&mut self, message: &[u8], key: &PublicKey) -> Result<Vec<u8>> {
        if key.bytes().is_none() {
            return Err(Error::Key(format!(
                "{} is in a device, whose signatures are over what it adds, and TUF knows none such: use a key of \
                 `ssh-keygen -t ed25519`",
                key.fingerprint()
            )));
        }
        let bytes = self.signature(message, key)?;
        if key.has_signed(message, &bytes) {
            Ok(bytes)
        } else {
            Err(Error::Agent(format!("what it answers is no signature by {}", key.fingerprint())))
        }
    }

    /// What it answers to being asked for a signature, as notes have it.
    fn signature(&mut self, message: &[u8], key: &PublicKey) -> Result<Vec<u8>> {
        let mut request = vec![SIGN_REQUEST];
        put(&mut request, &key.blob());
        put(&mut request, message);
        request.extend_from_slice(&0_u32.to_be_bytes());
        let answer = self.ask(&request)?;
        let mut reader = Reader::new(&answer, "ssh-agent's answer");
        if reader.byte()? != SIGN_RESPONSE {
            return Err(Error::Agent(format!(
                "it does not sign by {}: `ssh-add -l` lists its keys, and one in a device must be there and touched",
                key.fingerprint()
            )));
        }
        signature(reader.string()?)
    }

    fn ask(&mut self, request: &[u8]) -> Result<Vec<u8>> {
        let failed = |error: std::io::Error| Error::Agent(error.to_string());
        let mut message = Vec::new();
        put(&mut message, request);
        self.0.write_all(&message).map_err(failed)?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length).map_err(failed)?;
        let length = u32::from_be_bytes(length);
        if length == 0 || length > LONGEST_ANSWER {
            return Err(Error::Agent(format!("an answer of {length} bytes is none")));
        }
        let mut answer = vec![0; length as usize];
        self.0.read_exact(&mut answer).map_err(failed)?;
        Ok(answer)
    }
}

/// A signature as SSH has it, as notes have it.
fn signature(blob: &[u8]) -> Result<Vec<u8>> {
    let mut reader = Reader::new(blob, "ssh-agent's signature");
    let kind = reader.text()?;
    let signature: [u8; 64] = reader.string_of()?;
    let mut bytes = Vec::new();
    match kind {
        PLAIN => {}
        IN_DEVICE => bytes.extend_from_slice(reader.take(5)?),
        kind => return Err(Error::Agent(format!("a signature of type {kind} is not taken"))),
    }
    reader.end()?;
    bytes.extend_from_slice(&signature);
    Ok(bytes)
}
