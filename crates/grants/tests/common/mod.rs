//! People with keys, and a FIDO2 device of software.

#![allow(dead_code, reason = "each test takes what it needs")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulkhead_grants::{Grant, Note, Person, PublicKey, SecretKey, Signature, Window};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

/// A length and bytes, as SSH has them.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// A private key's file, as `ssh-keygen` writes it.
pub fn file(seed: u8) -> String {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = [string(b"ssh-ed25519"), string(key.verifying_key().as_bytes())].concat();
    let private = [
        vec![1, 2, 3, 4, 1, 2, 3, 4],
        public.clone(),
        string(&key.to_keypair_bytes()),
        string(b"somebody"),
        vec![1, 2, 3],
    ];
    let blob = [
        b"openssh-key-v1\0".to_vec(),
        string(b"none"),
        string(b"none"),
        string(b""),
        vec![0, 0, 0, 1],
        string(&public),
        string(&private.concat()),
    ];
    format!(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
        STANDARD.encode(blob.concat())
    )
}

/// Somebody's key.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::parse(&file(seed)).unwrap()
}

/// Somebody with one key.
pub fn person(name: &str, seed: u8) -> Person {
    Person { name: name.to_owned(), keys: vec![key(seed).public()] }
}

/// A grant of an hour.
pub fn grant() -> Grant {
    Grant {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        requester: "alice".to_owned(),
        source: "tag:sre".to_owned(),
        destination: "tag:db:22".to_owned(),
        protocol: "tcp".to_owned(),
        window: Window { from: 1_790_006_400, until: 1_790_010_000 },
        ticket: "OPS-1".to_owned(),
        reason: "a look at 08:00:00".to_owned(),
        break_glass: false,
    }
}

/// A grant's note with signatures.
pub fn signed(signers: &[(&str, u8)]) -> Note {
    let mut note = Note::new(grant().text().unwrap());
    for (name, seed) in signers {
        key(*seed).sign(&mut note, name).unwrap();
    }
    note
}

/// What a FIDO2 device does, in software: it signs as OpenSSH's PROTOCOL.u2f says.
pub struct Device {
    key: SigningKey,
    application: &'static str,
}

/// A device for SSH.
pub fn device(seed: u8) -> Device {
    Device::new(seed, "ssh:")
}

impl Device {
    pub fn new(seed: u8, application: &'static str) -> Self {
        Self { key: SigningKey::from_bytes(&[seed; 32]), application }
    }

    /// What is in the base64 of its `.pub` file.
    pub fn blob(&self) -> Vec<u8> {
        let kind = string(b"sk-ssh-ed25519@openssh.com");
        [kind, string(self.key.verifying_key().as_bytes()), string(self.application.as_bytes())].concat()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::parse(&format!("sk-ssh-ed25519@openssh.com {} dora", STANDARD.encode(self.blob())))
            .unwrap()
    }

    /// Flags, counter and signature of a message.
    pub fn answer(&self, message: &[u8], flags: u8, counter: u32) -> ([u8; 5], [u8; 64]) {
        let mut head = [flags, 0, 0, 0, 0];
        head[1..].copy_from_slice(&counter.to_be_bytes());
        let application = Sha256::digest(self.application);
        let signed = [&application[..], &head, &Sha256::digest(message)].concat();
        (head, self.key.sign(&signed).to_bytes())
    }

    pub fn sign(&self, note: &Note, name: &str, flags: u8, counter: u32) -> Signature {
        let (head, signature) = self.answer(note.text().as_bytes(), flags, counter);
        let bytes = [&head[..], &signature].concat();
        Signature { name: name.to_owned(), id: self.public().id(name), bytes }
    }
}
