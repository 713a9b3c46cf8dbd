//! `bulkhead apply`, `confirm`, `rollback`: what the running agent enforces.

use std::path::PathBuf;

use bulkhead_api::change::Change;
use bulkhead_api::history::Summary;
use bulkhead_api::request::{self, Applied};
use bulkhead_api::route;
use bulkhead_api::session::Session;

use crate::client;
use crate::config::Mode;
use crate::duration;
use crate::exit::Answer;
use crate::global::Global;
use crate::input;
use crate::paths::Paths;
use crate::session;

/// Apply a policy and inventory, on all hooks, without a gap.
///
/// Files that are named are read by this command; without them the agent reads those that it was started
/// with anew. What changes is printed. An invalid policy or inventory changes nothing (exit 1), nor does one that
/// would cut the SSH session that the command is run from.
#[derive(Debug, clap::Args)]
pub struct Apply {
    /// The policy; without it the one that the agent was started with.
    #[arg(value_name = "POLICY")]
    policy: Option<PathBuf>,
    /// The inventory; without it the one the agent was started with.
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// The note of who has signed both [default: POLICY.note, if there].
    #[arg(long, value_name = "FILE")]
    note: Option<PathBuf>,
    /// Drop what the policy does not admit, or report it [default: as now].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Undo it unless `bulkhead confirm` comes within this time, such as 60s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm: Option<u64>,
    /// Show what it would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    force: Force,
}

/// Whether the session at hand may be cut.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Force {
    /// Do it also if that cuts the SSH session at hand.
    #[arg(long)]
    force: bool,
}

impl Force {
    /// The session that must not be cut.
    pub fn session(self) -> Option<Session> {
        if self.force { None } else { session::at_hand() }
    }
}

/// Confirm what `--confirm` has put in force: it stays.
#[derive(Debug, clap::Args)]
pub struct Confirm {
    /// The generation that is meant; without it whatever waits.
    ///
    /// By the number that `apply` has printed. Another one that waits is not kept (exit 2).
    #[arg(value_name = "GENERATION")]
    generation: Option<u32>,
}

/// Roll back to the previous policy and inventory at once.
///
/// A second rollback undoes the first. With a number, to that generation of `bulkhead history`.
#[derive(Debug, clap::Args)]
pub struct Rollback {
    /// The generation to return to; without it the previous one.
    #[arg(value_name = "GENERATION")]
    to: Option<u32>,
    /// Undo it unless `bulkhead confirm` comes within this time, such as 60s.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    confirm: Option<u64>,
    #[command(flatten)]
    force: Force,
}

impl Apply {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let change = Change {
            policy: self.policy.as_deref().map(input::text).transpose()?,
            inventory: self.inventory.as_deref().map(input::text).transpose()?,
            note: input::note(self.policy.as_deref(), self.note.as_deref())?,
            mode: self.mode,
            confirm: self.confirm,
            dry_run: self.dry_run,
            session: self.force.session(),
        };
        let answer = client::change(&Paths::of(&global.instance)?, route::APPLY, change)?;
        Ok(show(&answer, global.json))
    }
}

pub(super) fn show(answer: &Applied, json: bool) -> Answer {
    let holds = answer.applied || (answer.dry_run && answer.text.is_empty());
    if json {
        println!("{}", serde_json::json!(answer));
        return if holds { Answer::Yes } else { Answer::No };
    }
    show_difference(&answer.difference);
    if answer.applied {
        println!("generation {}: {} rules, {} mode", answer.generation, answer.rules, answer.mode.name());
        answer.notes.iter().for_each(|note| eprintln!("note: {note}"));
        if let Some(seconds) = answer.confirm_within {
            println!("`bulkhead confirm` within {seconds} s keeps it; else the previous one returns");
        }
    } else if holds {
        println!("dry run: nothing has changed, generation {} is enforced", answer.generation);
    } else {
        eprint!("{}", answer.text);
        eprintln!("nothing has changed: generation {} stays enforced", answer.generation);
    }
    if holds { Answer::Yes } else { Answer::No }
}

/// Prints what a change adds and removes.
pub(super) fn show_difference(difference: &Summary) {
    difference.lines.iter().for_each(|line| println!("{line}"));
    if difference.more != 0 {
        println!("and {} more; `bulkhead diff` shows all", difference.more);
    }
}

impl Confirm {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let request = request::Confirmation { generation: self.generation };
        let confirmed: bool = client::command(&Paths::of(&global.instance)?, route::CONFIRM, &request)?;
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
        let request = request::Rollback { to: self.to, within: self.confirm, session: self.force.session() };
        let answer: Option<Applied> =
            client::command(&Paths::of(&global.instance)?, route::ROLLBACK, &request)?;
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
