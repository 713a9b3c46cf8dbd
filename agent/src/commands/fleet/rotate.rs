//! `bulkhead fleet rotate`: other keys.

use std::path::PathBuf;

use bulkhead_fleet::{Holder, Tree};

use super::memory::Remembered;
use super::{holder, key, now, wrong};
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Change whose keys the fleet has, or renew its roots.
///
/// It drafts the next roots, and what is published where others are to sign it. Enough of those who signed before and
/// enough of those who sign from now on must sign the roots. Hosts follow by themselves.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Who signs policies from now on; in place of the key of that name.
    #[arg(long = "person", value_name = "NAME=FILE", value_parser = holder)]
    people: Vec<Holder>,
    /// Who signs no more.
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// How many people must sign.
    #[arg(long, value_name = "NUMBER")]
    threshold: Option<u64>,
    /// The .pub of who signs inventories.
    #[arg(long, value_name = "FILE")]
    enroller: Option<PathBuf>,
    /// The .pub of who freshens.
    #[arg(long, value_name = "FILE")]
    online: Option<PathBuf>,
    #[command(flatten)]
    remembered: Remembered,
}

impl Rotate {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let tree = Tree::new(&self.directory);
        self.remembered.goes_on(&tree)?;
        let mut keyholders = tree.keyholders().map_err(wrong)?;
        for name in &self.remove {
            let before = keyholders.people.len();
            keyholders.people.retain(|holder| holder.name != *name);
            if keyholders.people.len() == before {
                let known: Vec<_> = keyholders.people.iter().map(|holder| &*holder.name).collect();
                return Err(Usage(format!("{name} does not sign policies; {} do", known.join(", "))).into());
            }
        }
        for new in self.people {
            keyholders.people.retain(|holder| holder.name != new.name);
            keyholders.people.push(new);
        }
        if let Some(path) = &self.enroller {
            keyholders.enroller = key("enroller", path).map_err(Usage)?;
        }
        if let Some(path) = &self.online {
            keyholders.online = key("online", path).map_err(Usage)?;
        }
        keyholders.threshold = self.threshold.unwrap_or(keyholders.threshold);
        let drafts = tree.rotate(&keyholders, now()).map_err(wrong)?;
        let mut missing = Vec::new();
        for draft in &drafts {
            missing.extend(draft.missing().map_err(wrong)?);
        }
        if global.json {
            let names: Vec<String> = drafts.iter().map(bulkhead_fleet::Draft::name).collect();
            println!("{}", serde_json::json!({"drafted": names, "missing": missing}));
        } else {
            drafts.iter().for_each(|draft| println!("drafted {}", draft.name()));
            missing.iter().for_each(|line| println!("{line}"));
        }
        Ok(Answer::Yes)
    }
}
