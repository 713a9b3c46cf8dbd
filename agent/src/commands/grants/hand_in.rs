//! `bulkhead grant`, `grants` and `revoke`: what the agent is told of grants.

use std::path::PathBuf;

use bulkhead_api::grant::{Answer as Answered, Entry, Request, Revocation, Standing};
use bulkhead_api::route;
use hyper::Method;

use super::read;
use crate::client::{self, PATIENCE};
use crate::daemon::grants::Grants as Kept;
use crate::daemon::store::Store;
use crate::exit::Answer;
use crate::global::Global;
use crate::input;
use crate::paths::Paths;

/// Put a grant in force on this host.
///
/// The agent verifies who has signed it, what it asks for and for how long, against the policy that is enforced.
#[derive(Debug, clap::Args)]
#[command(name = "grant")]
pub struct GrantCommand {
    /// The request with its signatures.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// List what is granted for a time.
#[derive(Debug, clap::Args)]
pub struct Grants {
    /// Those that are over, too, as far as they are remembered.
    #[arg(long)]
    all: bool,
}

/// Revoke a grant at once, with its sessions, for good.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The grant's id, or how it begins.
    #[arg(value_name = "ID")]
    id: String,
    /// Why, for whoever reads the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl GrantCommand {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let note = String::from_utf8_lossy(&read(&self.file)?).into_owned();
        let answer = client::command(&Paths::of(&global.instance)?, route::GRANT, &Request { note })?;
        Ok(show(&answer, "granted", global.json))
    }
}

impl Revoke {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let request = Revocation { id: self.id.clone(), reason: self.reason.clone() };
        let answer = client::command(&Paths::of(&global.instance)?, route::REVOKE, &request)?;
        Ok(show(&answer, "revoked", global.json))
    }
}

impl Grants {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let mut entries = ask(&Paths::of(&global.instance)?)?;
        if !self.all {
            entries.retain(|entry| entry.standing == Standing::Running);
        }
        if global.json {
            println!("{}", serde_json::to_string(&entries)?);
        } else if entries.is_empty() {
            println!("nothing is granted");
        } else {
            entries.iter().for_each(|entry| println!("{}", line(entry)));
        }
        Ok(Answer::Yes)
    }
}

/// Grants that run and that are remembered: by the agent, or from its state directory without one.
pub fn ask(paths: &Paths) -> anyhow::Result<Vec<Entry>> {
    let answer = client::ask_within(PATIENCE, &paths.socket, Method::GET, route::GRANTS);
    let now = (input::now() / 1_000_000_000).cast_signed();
    match client::block_on(answer)? {
        Some(entries) => Ok(entries),
        None => Kept::listed(&Store::new(&paths.state), now),
    }
}

/// A grant in a line.
pub fn line(entry: &Entry) -> String {
    let why = entry.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let standing = if entry.standing == Standing::Running {
        String::new()
    } else {
        format!(" [{}{why}]", entry.standing.name())
    };
    format!("{}  {}{standing}", entry.id, entry.words())
}

fn show(answer: &Answered, verb: &str, json: bool) -> Answer {
    if json {
        println!("{}", serde_json::json!(answer));
    } else {
        answer.grant.iter().for_each(|entry| println!("{verb} {}", line(entry)));
        answer.notes.iter().for_each(|note| eprintln!("{note}"));
    }
    if answer.done { Answer::Yes } else { Answer::No }
}
