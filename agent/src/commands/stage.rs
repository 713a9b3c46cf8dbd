//! `bulkhead stage`, `unstage`, `promote`: a staged policy that observes before it is enforced.

use std::path::PathBuf;

use bulkhead_api::change::Change;
use bulkhead_api::request::{Applied, Promotion};
use bulkhead_api::route;

use super::apply::{Force, show};
use crate::client;
use crate::config::Mode;
use crate::duration;
use crate::exit::Answer;
use crate::global::Global;
use crate::input;
use crate::paths::Paths;

/// Stage a policy that observes beside the enforced one.
///
/// Every packet that it would decide otherwise is counted and reported, and goes on as before.
#[derive(Debug, clap::Args)]
pub struct Stage {
    /// The policy to stage.
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// Its inventory; without it the one the agent was started with.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// The note of who has signed both [default: POLICY.note, if there].
    #[arg(long, value_name = "FILE")]
    note: Option<PathBuf>,
}

/// Unstage: take the staged policy away.
#[derive(Debug, clap::Args)]
pub struct Unstage {}

/// Promote the staged policy: enforce its files as they were staged.
#[derive(Debug, clap::Args)]
pub struct Promote {
    /// Drop what the policy does not admit, or report it [default: as now].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Undo it unless `bulkhead confirm` comes within this time, such as 60s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm: Option<u64>,
    #[command(flatten)]
    force: Force,
}

impl Stage {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let change = Change {
            policy: Some(input::text(&self.policy)?),
            inventory: self.inventory.as_deref().map(input::text).transpose()?,
            note: input::note(Some(&self.policy), self.note.as_deref())?,
            ..Change::default()
        };
        let answer = client::change(&Paths::of(&global.instance)?, route::STAGE, change)?;
        if answer.applied && !global.json {
            println!(
                "staged: it observes, and `bulkhead status` and `watch` tell what it would decide otherwise"
            );
        }
        Ok(show(&answer, global.json))
    }
}

impl Unstage {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let answer: Option<Applied> = client::command(&Paths::of(&global.instance)?, route::UNSTAGE, &())?;
        Ok(show_staged(answer.as_ref(), global.json))
    }
}

impl Promote {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let promotion = Promotion { mode: self.mode, within: self.confirm, session: self.force.session() };
        let answer: Option<Applied> =
            client::command(&Paths::of(&global.instance)?, route::PROMOTE, &promotion)?;
        Ok(show_staged(answer.as_ref(), global.json))
    }
}

fn show_staged(answer: Option<&Applied>, json: bool) -> Answer {
    match answer {
        Some(answer) => show(answer, json),
        None => {
            if json {
                println!("{}", serde_json::json!({ "applied": false }));
            } else {
                eprintln!("nothing is staged; `bulkhead stage POLICY` stages one");
            }
            Answer::No
        }
    }
}
