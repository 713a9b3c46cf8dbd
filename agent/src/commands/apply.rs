//! `bulkhead apply`, `confirm`, `rollback`: what the running agent enforces.

use std::path::{Path, PathBuf};

use bulkhead_api::request::{Applied, Request};

use crate::cli::Global;
use crate::client;
use crate::config::Mode;
use crate::duration;
use crate::exit::{Answer, Usage};
use crate::paths::Paths;

/// Reads policy and inventory anew and enforces them, on all hooks, without a gap. Files that do
/// not hold change nothing (exit 1).
#[derive(Debug, clap::Args)]
pub struct Apply {
    /// The policy; without it the one that the agent was started with.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The inventory; without it the one that the agent was started with.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// What happens to packets that the policy does not admit; without it as before.
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Return to the previous policy by itself unless `bulkhead confirm` comes within this time, such as 60s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm: Option<u64>,
}

/// Keeps what `apply --confirm` has put in force.
#[derive(Debug, clap::Args)]
pub struct Confirm {}

/// Returns to the previous generation's policy and inventory at once. A second rollback undoes the first.
#[derive(Debug, clap::Args)]
pub struct Rollback {}

/// The agent's directory is another one.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Usage> {
    std::path::absolute(path).map_err(|error| Usage(format!("{}: {error}", path.display())))
}

impl Apply {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let request = Request {
            policy: self.policy.as_deref().map(absolute).transpose()?,
            inventory: self.inventory.as_deref().map(absolute).transpose()?,
            mode: self.mode,
            confirm: self.confirm,
        };
        let answer: Applied = client::command(&Paths::of(&global.instance)?, "/apply", &request)?;
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
        let confirmed: bool = client::command(&Paths::of(&global.instance)?, "/confirm", &())?;
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
        let answer: Option<Applied> = client::command(&Paths::of(&global.instance)?, "/rollback", &())?;
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
