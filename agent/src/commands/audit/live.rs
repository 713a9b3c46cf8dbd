//! `bulkhead audit live`: what the kernel holds is what was approved.

use bulkhead_api::record::Digests;
use bulkhead_policy::held::{Comparison, Difference};
use serde::Serialize;

use crate::client::{self, PATIENCE};
use crate::daemon::quarantine::list::{self, List};
use crate::daemon::read_back::ask;
use crate::daemon::store::Store;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::paths::Paths;

/// Compare what the kernel holds with the files that were approved.
///
/// Reads the running tables back through their pins and compares each entry with a fresh compile of the recorded
/// files of that generation. An entry that differs is named by source, destination and port. Ends with 0 if all is
/// the same, with 1 if not, and with 2 if it could not be looked at.
#[derive(Debug, clap::Args)]
pub struct Live {
    /// Name so many differences at most; the others are counted.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    most: usize,
}

/// The answer, as JSON.
#[derive(Serialize)]
struct Told {
    generation: u32,
    policy: String,
    policy_sha256: String,
    inventory: String,
    inventory_sha256: String,
    same: bool,
    differences: Vec<Difference>,
    omitted: u64,
    meaningless: u64,
}

impl Live {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let told = self.look(&Paths::of(&global.instance)?).map_err(|error| Usage(format!("{error:#}")))?;
        if global.json {
            println!("{}", serde_json::to_string(&told)?);
        } else {
            print(&told);
        }
        Ok(if told.same { Answer::Yes } else { Answer::No })
    }

    fn look(&self, paths: &Paths) -> anyhow::Result<Told> {
        let store = Store::new(&paths.state);
        let (sets, comparison) = ask::look(paths, || quarantined(paths, &store), self.most)?;
        let kept = store.inputs_of(sets.number);
        let (made, digests) = kept
            .and_then(|(_, mut made)| made.digests.take().map(|digests| (made, digests)))
            .ok_or_else(|| anyhow::anyhow!("generation {} has just been replaced; ask again", sets.number))?;
        let Digests { policy: policy_sha256, inventory: inventory_sha256 } = digests;
        let same = comparison.is_same();
        let Comparison { differences, omitted, meaningless } = comparison;
        Ok(Told {
            generation: sets.number,
            policy: made.policy.display().to_string(),
            policy_sha256,
            inventory: made.inventory.display().to_string(),
            inventory_sha256,
            same,
            differences,
            omitted,
            meaningless,
        })
    }
}

/// Who is cut off: by the agent, which knows what its disk has refused, or as it was kept.
fn quarantined(paths: &Paths, store: &Store) -> anyhow::Result<List> {
    let ask = client::ask_within::<bulkhead_api::status::Status>(
        PATIENCE,
        &paths.socket,
        hyper::Method::GET,
        bulkhead_api::route::STATUS,
    );
    match client::block_on(ask)? {
        Some(status) => {
            Ok(List(status.quarantined.into_iter().map(|quarantined| quarantined.entry).collect()))
        }
        None => Ok(store.load(list::FILE)?.unwrap_or_default()),
    }
}

fn print(told: &Told) {
    for difference in &told.differences {
        println!("{difference}");
    }
    if told.omitted != 0 {
        println!("and {} more", told.omitted);
    }
    let count = told.differences.len() as u64 + told.omitted;
    let verdict = if told.same {
        "the kernel holds what was approved".to_owned()
    } else {
        format!("the kernel does not hold what was approved: {count} differences")
    };
    println!("generation {}: {verdict}", told.generation);
    if told.meaningless != 0 {
        println!("changed entries that mean nothing: {}", told.meaningless);
    }
    println!("policy {} (SHA-256 {})", told.policy, told.policy_sha256);
    println!("inventory {} (SHA-256 {})", told.inventory, told.inventory_sha256);
}
