//! `bulkhead approve` and `sign`: signatures of people under grants, and under policies.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use bulkhead_api::text::plain;
use bulkhead_grants::{Note, PolicyDigests, Statement};

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
    /// Sign without asking.
    ///
    /// For scripts: whoever writes one has read what it signs.
    #[arg(long, short)]
    yes: bool,
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
/// Notes of `bulkhead fleet quarantine`, `release` and `revoke` are signed by it as well. What is signed is printed, and asked about in a terminal. The signature is added to the file.
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
        let at = |error: bulkhead_grants::Error| Usage(format!("{}: {error}", self.file.display()));
        let says = Statement::parse(note.text()).map_err(at)?;
        let now = (input::now() / 1_000_000_000).cast_signed();
        says.check_time(now).map_err(at)?;
        let requester = match &says {
            Statement::Grant(grant) => Some(&grant.requester),
            Statement::Order(_) => None,
        };
        let name = own_name(self.by.name.as_ref())?;
        if let Some(requester) = requester.filter(|requester| name.eq_ignore_ascii_case(requester)) {
            let words = format!("{requester} has asked for it, and cannot approve it: somebody else has to");
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
    /// Let them be in force in audit mode too, which drops nothing.
    #[arg(long)]
    audit: bool,
    #[command(flatten)]
    by: By,
}

impl Sign {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let (policy, inventory) = (input::read(&self.policy)?, input::read(&self.inventory)?);
        let digests =
            PolicyDigests { audit: self.audit, ..PolicyDigests::of(policy.text(), inventory.text()) };
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

/// Shows what is signed, asks, and signs. What was not shown is not signed.
fn signed(by: &By, path: &Path, note: &mut Note, global: &Global) -> anyhow::Result<Answer> {
    let shown = shown(note);
    if !global.json {
        print!("{shown}");
    }
    if !by.yes && !agrees(&shown, global.json)? {
        println!("nothing is signed");
        return Ok(Answer::No);
    }
    let name = by.sign(note)?;
    add_to_file(path, note)?;
    let names: Vec<&str> = note.signatures().iter().map(|signature| &*signature.name).collect();
    if global.json {
        let text = note.text();
        println!(
            "{}",
            serde_json::json!({ "file": path, "text": text, "signed": name, "signatures": names })
        );
    } else {
        println!("signed by {name}; {} has signatures of {}", path.display(), names.join(", "));
    }
    Ok(Answer::Yes)
}

/// Puts a note into its file, with what others have added since it was read.
fn add_to_file(path: &Path, note: &mut Note) -> Result<(), Usage> {
    let now = read(path).and_then(|bytes| parse(path, &bytes)).ok();
    if let Some(mut now) = now.filter(|now| now.text() == note.text()) {
        note.signatures().iter().for_each(|signature| now.add(signature.clone()));
        *note = now;
    }
    write(path, note)
}

/// A note's text, as a terminal shows it.
fn shown(note: &Note) -> String {
    note.text().lines().map(|line| format!("{}\n", plain(line))).collect()
}

/// Whether whoever sits there says so. Nobody does: that is an error.
pub(in crate::commands) fn agrees(shown: &str, json: bool) -> Result<bool, Usage> {
    if !std::io::stdin().is_terminal() {
        return Err(Usage(
            "nobody is asked whether to sign it, as this is no terminal: read it, and sign with --yes"
                .to_owned(),
        ));
    }
    if json {
        eprint!("{shown}");
    }
    eprint!("Sign this? [y/N] ");
    let failed = |error: std::io::Error| Usage(format!("reading the answer: {error}"));
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use bulkhead_grants::{Note, Signature};

    use super::{add_to_file, shown};

    #[test]
    fn what_somebody_else_has_signed_meanwhile_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("request");
        let by = |name: &str, byte| Signature { name: name.to_owned(), id: [byte; 4], bytes: vec![byte] };
        let names = |note: &Note| note.signatures().iter().map(|by| by.name.clone()).collect::<Vec<_>>();
        let note = Note::new("a\n".to_owned());
        let [mut ada, mut bob, mut other] = [note.clone(), note, Note::new("b\n".to_owned())];
        ada.add(by("ada", 1));
        bob.add(by("bob", 2));
        other.add(by("eve", 3));
        for note in [&mut ada, &mut bob] {
            add_to_file(&file, note).unwrap();
        }
        assert_eq!(names(&bob), ["ada", "bob"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), bob.to_string());
        add_to_file(&file, &mut other).unwrap();
        assert_eq!(names(&other), ["eve"], "of another text nothing is taken over");
    }

    #[test]
    fn what_is_shown_has_nothing_that_a_terminal_acts_on() {
        let note = Note::new("to: a\u{1b}[2K\u{202e}b\nreason: x\n".to_owned());
        assert_eq!(shown(&note), "to: a\\u{1b}[2K\\u{202e}b\nreason: x\n");
    }
}
