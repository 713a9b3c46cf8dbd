//! `bulkhead stage`, `unstage`, `promote`: a candidate that observes before it is enforced.

use std::path::PathBuf;

use bulkhead_api::request::{Applied, Confirmation, Request};

use super::apply::{absolute, show};
use crate::cli::Global;
use crate::client;
use crate::duration;
use crate::exit::Answer;
use crate::paths::Paths;

/// Lets a candidate policy observe beside the one that is enforced: every packet that it would
/// decide otherwise is counted and reported, and goes on as before.
#[derive(Debug, clap::Args)]
pub struct Stage {
    /// The candidate.
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// Its inventory; without it the one that the agent was started with.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
}

/// Takes the staged candidate away.
#[derive(Debug, clap::Args)]
pub struct Unstage {}

/// Enforces the staged candidate, exactly as it was staged.
#[derive(Debug, clap::Args)]
pub struct Promote {
    /// Return to the previous policy by itself unless `bulkhead confirm` comes within this time, such as 60s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm: Option<u64>,
}

impl Stage {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let request = Request {
            policy: Some(absolute(&self.policy)?),
            inventory: self.inventory.as_deref().map(absolute).transpose()?,
            ..Request::default()
        };
        let answer: Applied = client::command(&Paths::of(&global.instance)?, "/stage", &request)?;
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
        let answer: Option<Applied> = client::command(&Paths::of(&global.instance)?, "/unstage", &())?;
        Ok(show_staged(answer.as_ref(), global.json))
    }
}

impl Promote {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let confirmation = Confirmation { within: self.confirm };
        let answer: Option<Applied> =
            client::command(&Paths::of(&global.instance)?, "/promote", &confirmation)?;
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
                eprintln!("nothing is staged; `bulkhead stage POLICY` stages a candidate");
            }
            Answer::No
        }
    }
}
