//! `bulkhead fleet status`: what a fleet directory is at, or how its hosts stand.

use std::path::PathBuf;

use bulkhead_collect::Limits;
use bulkhead_fleet::{Repository, Standing, Tree};

use super::collect::STORE;
use super::memory::Remembered;
use super::{hosts, wrong};
use crate::exit::Answer;
use crate::global::Global;

/// Show what is published and who signed it, or how all hosts stand.
///
/// Of hosts it says who runs what, and who is unenforced, behind, silent or has rolled back, by what a collector has on
/// this machine, whether it runs or not. Exit 1 then if anything is wrong with a host.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// The fleet directory; without it hosts are shown.
    #[arg(value_name = "DIRECTORY", conflicts_with_all = ["collected", "silent_after"])]
    directory: Option<PathBuf>,
    /// Where the collector keeps what came.
    #[arg(long, value_name = "DIR", default_value = STORE)]
    collected: PathBuf,
    /// Seconds without a report after which a node is silent.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().silent_seconds)]
    silent_after: u64,
    #[command(flatten)]
    remembered: Remembered,
}

impl Status {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let Some(directory) = &self.directory else {
            return hosts::run(&self.collected, self.silent_after, global.json);
        };
        let tree = Tree::new(directory);
        self.remembered.warns(&tree);
        let [policy, inventory] = Repository::ALL.map(|repository| tree.standing(repository));
        let standings = [policy.map_err(wrong)?, inventory.map_err(wrong)?];
        if global.json {
            println!("{}", serde_json::to_string(&standings)?);
        } else {
            if let Some(fleet) = &standings[0].fleet {
                println!("fleet {fleet}");
            }
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
