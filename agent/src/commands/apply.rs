//! `bulkhead apply`, `confirm`, `rollback`: what the running agent enforces.

use std::path::PathBuf;

use bulkhead_api::change::Change;
use bulkhead_api::request::Applied;
use bulkhead_api::route;

use crate::client;
use crate::config::Mode;
use crate::duration;
use crate::exit::Answer;
use crate::global::Global;
use crate::input;
use crate::paths::Paths;

/// Apply a policy and inventory, on all hooks, without a gap.
///
/// Files that are named are read by this command; without them the agent reads those that it was started
/// with anew. An invalid policy or inventory changes nothing (exit 1).
#[derive(Debug, clap::Args)]
pub struct Apply {
    /// The policy; without it the one that the agent was started with.
    #[arg(value_name = "POLICY")]
    policy: Option<PathBuf>,
    /// The inventory; without it the one the agent was started with.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Drop what the policy does not admit, or report it [default: as now].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Undo it unless `bulkhead confirm` comes within this time, such as 60s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm: Option<u64>,
}

/// Confirm what `--confirm` has put in force: it stays.
#[derive(Debug, clap::Args)]
pub struct Confirm {}

/// Roll back to the previous policy and inventory at once.
///
/// A second rollback undoes the first.
#[derive(Debug, clap::Args)]
pub struct Rollback {}

impl Apply {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let change = Change {
            policy: self.policy.as_deref().map(input::text).transpose()?,
            inventory: self.inventory.as_deref().map(input::text).transpose()?,
            mode: self.mode,
            confirm: self.confirm,
        };
        let answer = client::change(&Paths::of(&global.instance)?, route::APPLY, change)?;
        Ok(show(&answer, global.json))
    }
}

pub(super) fn show(answer: &Applied, json: bool) -> Answer {
    if json {
        println!("{}", serde_json::json!(answer));
    } else if answer.applied {
        println!("generation {}: {} rules, {} mode", answer.generation, answer.rules, answer.mode.name());
        answer.notes.iter().for_each(|note| eprintln!("note: {note}"));
        if let Some(seconds) = answer.confirm_within {
            println!("`bulkhead confirm` within {seconds} s keeps it; else the previous one returns");
        }
    } else {
        eprint!("{}", answer.text);
        eprintln!("nothing has changed: generation {} stays enforced", answer.generation);
    }
    if answer.applied { Answer::Yes } else { Answer::No }
}

impl Confirm {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let confirmed: bool = client::command(&Paths::of(&global.instance)?, route::CONFIRM, &())?;
        if global.json {
            println!("{}", serde_json::json!({ "confirmed": confirmed }));
        } else if confirmed {
            println!("confirmed");
        } else {
            eprintln!("nothing waits for a confirmation; `bulkhead status` shows what is enforced");
        }
        Ok(if confirmed { Answer::Yes } else { Answer::No })
    }
}

impl Rollback {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let answer: Option<Applied> = client::command(&Paths::of(&global.instance)?, route::ROLLBACK, &())?;
        match answer {
            Some(answer) => Ok(show(&answer, global.json)),
            None => {
                if global.json {
                    println!("{}", serde_json::json!({ "applied": false }));
                } else {
                    eprintln!("there is no previous generation to return to");
                }
                Ok(Answer::No)
            }
        }
    }
}
