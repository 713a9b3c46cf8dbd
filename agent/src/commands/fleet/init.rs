//! `bulkhead fleet init`: a fleet directory, with roots to sign.

use std::path::PathBuf;

use bulkhead_fleet::{Holder, Keyholders, Tree};

use super::memory::Remembered;
use super::{holder, key, now, wrong};
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Begin a fleet: say whose keys it has.
///
/// It writes the first roots of both repositories, for as many people to sign as are asked for. Nothing is in force before
/// they have, and it is published.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Who signs policies: a name and a .pub; once for each.
    #[arg(long = "person", value_name = "NAME=FILE", value_parser = holder, required = true)]
    people: Vec<Holder>,
    /// How many of them must sign.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    threshold: u64,
    /// The .pub of who signs inventories.
    #[arg(long, value_name = "FILE")]
    enroller: PathBuf,
    /// The .pub of who freshens what is signed.
    #[arg(long, value_name = "FILE")]
    online: PathBuf,
    #[command(flatten)]
    remembered: Remembered,
}

impl Init {
    pub fn run(self, global: &Global) -> anyhow::Result<Answer> {
        let keyholders = Keyholders {
            people: self.people,
            threshold: self.threshold,
            enroller: key("enroller", &self.enroller).map_err(Usage)?,
            online: key("online", &self.online).map_err(Usage)?,
        };
        let tree = Tree::new(&self.directory);
        let drafts = tree.begin(&keyholders, now()).map_err(wrong)?;
        self.remembered.begun(&tree)?;
        let fingerprint = tree.identity().map_err(wrong)?.and_then(|identity| identity.fingerprint());
        let fingerprint = fingerprint.unwrap_or_default();
        let names: Vec<String> = drafts.iter().map(bulkhead_fleet::Draft::name).collect();
        if global.json {
            println!("{}", serde_json::json!({"drafted": names, "fleet": fingerprint}));
        } else {
            let directory = self.directory.display();
            println!("drafted {}", names.join(", "));
            println!("fleet {fingerprint}");
            println!("{} people run `bulkhead fleet sign {directory}`", keyholders.threshold);
        }
        Ok(Answer::Yes)
    }
}
