//! `bulkhead fleet invite`: a file that enrols one host, once.

use std::path::PathBuf;

use anyhow::Context as _;
use bulkhead_channel::{Account, Offer, invite};
use bulkhead_fleet::{Repository, Tree, below};

use super::broker::{Broker, wrong};
use super::memory::Remembered;
use crate::duration;
use crate::exit::Answer;
use crate::global::Global;

/// No root is longer, in bytes.
const LONGEST_ROOT: u64 = 1 << 20;

/// Make an invitation, by which one host enrols itself, once.
///
/// It is a secret until it is used or over: it brings whoever uses it first in under this name and with these tags. The
/// host runs `bulkhead fleet enrol` on it.
#[derive(Debug, clap::Args)]
pub struct Invite {
    /// The node's name in the inventory.
    #[arg(value_name = "NODE")]
    node: String,
    /// Its address on the overlay; again for others.
    #[arg(long = "address", value_name = "ADDRESS", required = true)]
    addresses: Vec<String>,
    /// A tag of it, such as tag:oms; again for others.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// How long it is good for.
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = |text: &str| duration::within(text, 30))]
    seconds: u64,
    #[command(flatten)]
    broker: Broker,
    /// The directory of `bulkhead fleet account`.
    #[arg(long, value_name = "DIRECTORY")]
    account: PathBuf,
    /// A fleet directory whose first roots the host gets.
    #[arg(long, value_name = "DIRECTORY")]
    fleet: Option<PathBuf>,
    /// Where to write it [default: NODE.invitation here].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    remembered: Remembered,
}

impl Invite {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let account = Account::open(&self.account).map_err(wrong)?;
        let offer =
            Offer { node: self.node.clone(), addresses: self.addresses.clone(), tags: self.tags.clone() };
        let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
        let ca = self.broker.ca.as_ref().map(read).transpose()?;
        let mut made = invite(&account, &offer, self.seconds, &self.broker.servers, ca).map_err(wrong)?;
        if let Some(fleet) = &self.fleet {
            // The host will believe whatever these roots lead to; what is no fleet's root is nothing to hand on.
            let tree = Tree::new(fleet);
            self.remembered.goes_on(&tree)?;
            tree.keyholders().map_err(super::wrong)?;
            let root = |repository: Repository| {
                let path = format!("{repository}/metadata/1.root.json");
                let bytes = below(fleet, &path, LONGEST_ROOT)
                    .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
                bytes.with_context(|| fleet.join(&path).display().to_string())
            };
            made.policy_root = Some(root(Repository::Policy)?);
            made.inventory_root = Some(root(Repository::Inventory)?);
        }
        let default = || format!("{}.invitation", bulkhead_channel::token(&self.node)).into();
        let path = self.output.clone().unwrap_or_else(default);
        made.write(&path).map_err(wrong)?;
        if global.json {
            println!("{}", serde_json::json!({ "node": self.node, "file": path, "seconds": self.seconds }));
        } else {
            println!("{}: enrols {} once; `bulkhead fleet enrol` uses it there", path.display(), self.node);
        }
        Ok(Answer::Yes)
    }
}
