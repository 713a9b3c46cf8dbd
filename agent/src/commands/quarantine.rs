//! `bulkhead quarantine` and `release`: cutting an identity off at once, and taking it back.

use bulkhead_api::{quarantine, route};

use crate::client;
use crate::commands::status;
use crate::duration;
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// Quarantine a node: cut it off from the next packet on.
///
/// At all its addresses, replies and audit mode included. Without a node: list who is cut off, since when, and which
/// of them by the agent itself.
#[derive(Debug, clap::Args)]
pub struct Quarantine {
    /// A node's name, its WireGuard public key, or an address.
    ///
    /// An address is one of the node's, which means all of them, or one that nobody has.
    #[arg(value_name = "NODE|KEY|ADDRESS")]
    subject: Option<String>,
    /// Release it by itself after this time, such as 10m.
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, requires = "subject")]
    seconds: Option<u64>,
    /// Why, for whoever reads the status.
    #[arg(long, value_name = "TEXT", requires = "subject")]
    reason: Option<String>,
}

/// Release a node from quarantine.
#[derive(Debug, clap::Args)]
pub struct Release {
    /// As it was quarantined, or any other name of the same node.
    #[arg(value_name = "NODE|KEY|ADDRESS")]
    subject: String,
}

impl Quarantine {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let paths = Paths::of(&global.instance)?;
        let Some(subject) = self.subject.clone() else {
            return list(global, &paths);
        };
        let request = quarantine::Request { subject, seconds: self.seconds, reason: self.reason.clone() };
        let answer = client::command(&paths, route::QUARANTINE, &request)?;
        Ok(show(&answer, "quarantined", global.json))
    }
}

impl Release {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let answer = client::command(&Paths::of(&global.instance)?, route::RELEASE, &self.subject)?;
        Ok(show(&answer, "released", global.json))
    }
}

/// Who is cut off, with an agent or without.
fn list(global: &Global, paths: &Paths) -> anyhow::Result<Answer> {
    let status = status::ask(&global.instance, paths)?;
    if global.json {
        println!("{}", serde_json::to_string(&status.quarantined)?);
    } else if status.quarantined.is_empty() {
        println!("nobody is quarantined");
    } else {
        status.quarantined.iter().for_each(|quarantined| println!("{}", status::quarantined(quarantined)));
    }
    Ok(Answer::Yes)
}

fn show(answer: &quarantine::Answer, verb: &str, json: bool) -> Answer {
    if json {
        println!("{}", serde_json::json!(answer));
    } else {
        answer.entries.iter().for_each(|entry| println!("{verb} {}", entry.title()));
        answer.notes.iter().for_each(|note| eprintln!("{note}"));
    }
    if answer.done { Answer::Yes } else { Answer::No }
}
