//! `bulkhead fleet sign`: a person's signatures under what waits for them.

use std::path::PathBuf;

use bulkhead_api::text::plain;
use bulkhead_fleet::{Draft, Repository, Tree};
use bulkhead_policy::source::Source;

use super::memory::Remembered;
use super::{bundle, now, wrong};
use crate::commands::grants::agrees;
use crate::commands::grants::key::Key;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::input;

/// Sign what waits for your key: roots, a policy, an inventory.
///
/// With --policy or --inventory that file is drafted as the next version, after it was checked as hosts do. What is signed
/// is printed, and asked about in a terminal. Each signature is a file of its own below `drafts`: whoever signs on a copy
/// of the directory puts theirs beside the others'.
#[derive(Debug, clap::Args)]
pub struct Sign {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Draft this policy as the next version.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Draft this inventory as the next version.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Begin a draft anew, over another file.
    #[arg(long)]
    replace: bool,
    /// A private key, or the .pub of one that ssh-agent has.
    ///
    /// Without this ssh-agent signs by its Ed25519 key, if it has one alone. Keys of FIDO2 devices sign something else
    /// than they are given, which TUF does not know, and are refused.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Sign without asking.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    remembered: Remembered,
}

impl Sign {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let tree = Tree::new(&self.directory);
        let mut key = Key::find(self.key.as_deref())?;
        let public = key.public();
        // Before anything of the directory is signed, or drafted on top of it.
        let known = self.remembered.goes_on(&tree)?;
        let Some(drafted) = self.draft(&tree, global)? else { return Ok(Answer::No) };
        let drafts = tree.waiting().map_err(wrong)?;
        // Whoever else can write in the directory does not put another file in its place.
        for named in &drafted {
            let is_there =
                drafts.iter().any(|draft| draft.name() == named.name() && draft.digest() == named.digest());
            if !is_there {
                let words = format!(
                    "{}: somebody else has drafted another file meanwhile; nothing is signed",
                    named.name()
                );
                return Err(Usage(words).into());
            }
        }
        let mine: Vec<&Draft> = drafts.iter().filter(|draft| draft.holder(&public).is_some()).collect();
        if mine.is_empty() {
            let words = match drafts.first() {
                None => "nothing waits for signatures: name a file with --policy or --inventory".to_owned(),
                Some(draft) => format!(
                    "nothing waits for {}: {} is signed by {}",
                    public.fingerprint(),
                    draft.name(),
                    draft.may_sign().join(", ")
                ),
            };
            return Err(Usage(words).into());
        }
        for draft in &mine {
            if let Some(refused) = known.as_ref().and_then(|known| known.refuses(draft)) {
                return Err(Usage(format!(
                    "{refused}: somebody has put an older state back; sign nothing of it"
                ))
                .into());
            }
        }
        let shown: String =
            mine.iter().flat_map(|draft| draft.lines()).map(|line| format!("{}\n", plain(&line))).collect();
        if !global.json {
            print!("{shown}");
        }
        if !self.yes && !agrees(&shown, global.json)? {
            println!("nothing is signed");
            return Ok(Answer::No);
        }
        let mut told = Vec::new();
        for draft in mine {
            let signature = key.sign_bytes(&draft.message().map_err(wrong)?)?;
            let name = draft.add(&public, &signature).map_err(wrong)?;
            let missing = draft.missing().map_err(wrong)?;
            if global.json {
                told.push(serde_json::json!({"draft": draft.name(), "signed": name, "missing": missing}));
            } else {
                let next = missing.unwrap_or_else(|| "`bulkhead fleet publish` puts it in force".to_owned());
                println!("signed {} as {name}; {next}", draft.name());
            }
        }
        if global.json {
            println!("{}", serde_json::Value::from(told));
        }
        Ok(Answer::Yes)
    }

    /// Drafts the files that are named; none: they do not hold.
    fn draft(&self, tree: &Tree, global: &Global) -> anyhow::Result<Option<Vec<Draft>>> {
        let read = |path: &Option<PathBuf>| path.as_deref().map(input::read).transpose();
        let (policy, inventory) = (read(&self.policy)?, read(&self.inventory)?);
        if policy.is_none() && inventory.is_none() {
            return Ok(Some(Vec::new()));
        }
        let published = |repository: Repository, name: &str| -> Result<Option<Source>, Usage> {
            let bundle = tree.bundle(repository).map_err(wrong)?;
            Ok(bundle.map(|(version, text)| Source::new(&format!("{name} version {version}"), &text)))
        };
        let beside = match &inventory {
            Some(inventory) => Some(inventory.clone()),
            None => published(Repository::Inventory, "inventory")?,
        };
        let over = match &policy {
            Some(policy) => Some(policy.clone()),
            None => published(Repository::Policy, "policy")?,
        };
        // The first inventory waits for a policy that says which tags it may give.
        let Some(over) = over else {
            return Err(Usage(
                "no policy is published yet, and it says which tags an inventory may give: sign and publish one first, or \
                 name both"
                    .to_owned(),
            )
            .into());
        };
        if !bundle::holds(over, beside, global) {
            return Ok(None);
        }
        let mut drafted = Vec::new();
        for (repository, file) in [(Repository::Policy, policy), (Repository::Inventory, inventory)] {
            if let Some(file) = file {
                drafted.push(tree.propose(repository, file.text(), now(), self.replace).map_err(wrong)?);
            }
        }
        Ok(Some(drafted))
    }
}
