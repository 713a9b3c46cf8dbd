//! `bulkhead history`: what was put in force, when, by whom, and what that changed.

use anyhow::Context as _;
use bulkhead_api::event::Actor;
use bulkhead_api::history::{Entry, Standing};
use bulkhead_api::route;
use hyper::Method;

use super::apply::show_difference;
use super::grants;
use crate::client::{self, PATIENCE};
use crate::daemon::server::history;
use crate::daemon::store::Store;
use crate::exit::{Answer, Usage};
use crate::global::Global;
use crate::paths::Paths;

/// Show what was enforced when, who applied it, and what that changed.
///
/// The newest first, as far back as files are kept to roll back to. Then what is granted for a time, and what
/// was. The event log has every change and attempt.
#[derive(Debug, clap::Args)]
pub struct History {
    /// Only this generation, with what it changed.
    #[arg(value_name = "GENERATION")]
    generation: Option<u32>,
    /// Show what each changed.
    #[arg(long)]
    diff: bool,
}

impl History {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let mut entries = ask(&Paths::of(&global.instance)?)?;
        if let Some(wanted) = self.generation {
            entries.retain(|entry| entry.generation == wanted);
            if entries.is_empty() {
                return Err(Usage(format!(
                    "generation {wanted} is not kept; `bulkhead history` lists those that are"
                ))
                .into());
            }
        }
        if global.json {
            println!("{}", serde_json::to_string(&entries)?);
            return Ok(Answer::Yes);
        }
        if entries.is_empty() {
            println!("nothing was enforced yet, or by an agent that kept no history");
        }
        for entry in &entries {
            println!("{}", line(entry));
            if self.diff || self.generation.is_some() {
                show_difference(&entry.origin.difference);
            }
        }
        if self.generation.is_none() {
            for grant in grants::ask(&Paths::of(&global.instance)?)? {
                println!("grant {}", grants::line(&grant));
            }
        }
        Ok(Answer::Yes)
    }
}

/// The history of an instance: by its agent, or from its state directory without one.
pub fn ask(paths: &Paths) -> anyhow::Result<Vec<Entry>> {
    let answer = client::ask_within(PATIENCE, &paths.socket, Method::GET, route::HISTORY);
    match client::block_on(answer)? {
        Some(entries) => Ok(entries),
        None => {
            let store = Store::new(&paths.state);
            let ledger = store.ledger().context("which of what is kept is enforced is not known")?;
            Ok(history::history(&store, &ledger))
        }
    }
}

fn line(entry: &Entry) -> String {
    let Entry { generation, applied, origin, mode, policy, .. } = entry;
    let count = |sign| origin.difference.lines.iter().filter(|line| line.starts_with(sign)).count();
    let more = if origin.difference.more == 0 { "" } else { " or more" };
    let standing = match entry.standing {
        Standing::Enforced => ", enforced",
        Standing::Unconfirmed => ", enforced until it is confirmed",
        Standing::Previous => ", what `bulkhead rollback` returns to",
        Standing::Lapsed => ", never confirmed",
        Standing::Kept => "",
    };
    format!(
        "{generation:>6}  {applied}  {:<8} {:<7} {policy}  by {}  (+{} -{} ~{}{more}){standing}",
        origin.action.name(),
        mode.name(),
        who(&origin.by),
        count('+'),
        count('-'),
        count('~'),
    )
}

/// Who asked, as short as it is clear.
pub fn who(by: &Actor) -> String {
    match by {
        Actor::Socket { uid, .. } | Actor::Command { uid, .. } => user(*uid),
        Actor::Signal { signal } => signal.clone(),
        Actor::File => "changed files".to_owned(),
        Actor::Source { name } => format!("source {name}"),
        Actor::Fleet { name } => format!("the fleet ({name})"),
        Actor::Agent => "the agent".to_owned(),
    }
}

fn user(uid: u32) -> String {
    bulkhead_host::groups::user_name(uid).unwrap_or_else(|| format!("user {uid}"))
}
