//! `bulkhead fleet status`: what a fleet directory is at.

use std::path::PathBuf;

use bulkhead_fleet::{Repository, Standing, Tree};

use super::wrong;
use crate::exit::Answer;
use crate::global::Global;

/// Show what is published, who signed it, and what waits for whom.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Status {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let tree = Tree::new(&self.directory);
        let [policy, inventory] = Repository::ALL.map(|repository| tree.standing(repository));
        let standings = [policy.map_err(wrong)?, inventory.map_err(wrong)?];
        if global.json {
            println!("{}", serde_json::to_string(&standings)?);
        } else {
            standings.iter().for_each(show);
        }
        Ok(Answer::Yes)
    }
}

fn show(standing: &Standing) {
    let Standing { repository, root, version, signers, .. } = standing;
    let words = |text: &Option<String>| text.clone().unwrap_or_default();
    match (version, root) {
        (Some(version), Some(root)) => {
            let share =
                standing.share.map(|share| format!(", for {share} % of the hosts")).unwrap_or_default();
            let digest = words(&standing.digest);
            println!("{repository}  version {version}{share}, signed by {}", signers.join(", "));
            println!("  SHA-256 {digest}, {} bytes", standing.length.unwrap_or_default());
            println!(
                "  fresh until {}, good until {}",
                words(&standing.fresh_until),
                words(&standing.expires)
            );
            println!("  root {root}, good until {}", words(&standing.root_expires));
        }
        (None, Some(root)) => println!("{repository}  nothing is published; root {root}"),
        (_, None) => println!("{repository}  no root is published"),
    }
    standing.waiting.iter().for_each(|line| println!("  waiting: {line}"));
}
