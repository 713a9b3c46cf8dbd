//! `bulkhead approve` and `sign`: signatures of people under grants, and under policies.

use std::path::{Path, PathBuf};

use bulkhead_grants::{Grant, Note, PolicyDigests};

use super::key::Key;
use super::{own_name, parse, read, write};
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::input;

/// Whose signature it is, and by which key.
#[derive(Debug, clap::Args)]
struct By {
    /// A private key, or the .pub of one that ssh-agent has.
    ///
    /// A private key is a file of `ssh-keygen -t ed25519` without a passphrase that only its owner may read. Without
    /// this ssh-agent signs by its Ed25519 key, if it has one alone; keys of FIDO2 devices are among them.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Your name where your key is listed [default: the user who runs this].
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
}

impl By {
    fn sign(&self, note: &mut Note) -> Result<String, Usage> {
        let name = own_name(self.name.as_ref())?;
        Key::find(self.key.as_deref())?.sign(note, &name)?;
        Ok(name)
    }
}

/// Approve a request for access: sign it.
///
/// What is signed is printed. The signature is added to the file.
#[derive(Debug, clap::Args)]
pub struct Approve {
    /// The request's file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    by: By,
}

impl Approve {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let mut note = parse(&self.file, &read(&self.file)?)?;
        let grant = Grant::parse(note.text());
        let grant = grant.map_err(|error| Usage(format!("{}: {error}", self.file.display())))?;
        let now = (input::now() / 1_000_000_000).cast_signed();
        grant.check_time(now).map_err(|error| Usage(format!("{}: {error}", self.file.display())))?;
        if own_name(self.by.name.as_ref())?.eq_ignore_ascii_case(&grant.requester) {
            let words =
                format!("{} has asked for it, and cannot approve it: somebody else has to", grant.requester);
            return Err(Usage(words).into());
        }
        signed(&self.by, &self.file, &mut note, global)
    }
}

/// Sign a policy and an inventory, for agents that ask for it.
///
/// The signature is over the SHA-256 of both files, and is added to the note if that is over the same files: else a new
/// one is begun.
#[derive(Debug, clap::Args)]
pub struct Sign {
    /// The policy.
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// The inventory.
    #[arg(value_name = "INVENTORY")]
    inventory: PathBuf,
    /// Where the note is [default: the policy's name and .note].
    #[arg(long, value_name = "FILE")]
    note: Option<PathBuf>,
    #[command(flatten)]
    by: By,
}

impl Sign {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let (policy, inventory) = (input::read(&self.policy)?, input::read(&self.inventory)?);
        let digests = PolicyDigests::of(policy.text(), inventory.text());
        let path = self.note.clone().unwrap_or_else(|| input::note_beside(&self.policy));
        let new = Note::new(digests.text());
        let mut note = if path.exists() {
            let known = parse(&path, &read(&path)?)?;
            if known.text() == new.text() { known } else { new }
        } else {
            new
        };
        signed(&self.by, &path, &mut note, global)
    }
}

fn signed(by: &By, path: &Path, note: &mut Note, global: &Global) -> anyhow::Result<Answer> {
    if !global.json {
        print!("{}", note.text());
    }
    let name = by.sign(note)?;
    write(path, note)?;
    let names: Vec<&str> = note.signatures().iter().map(|signature| &*signature.name).collect();
    if global.json {
        println!("{}", serde_json::json!({ "file": path, "signed": name, "signatures": names }));
    } else {
        println!("signed by {name}; {} has signatures of {}", path.display(), names.join(", "));
    }
    Ok(Answer::Yes)
}
