//! `bulkhead quarantine` and `release`: cutting an identity off at once, and taking it back.

use bulkhead_api::quarantine;

use crate::cli::Global;
use crate::client;
use crate::duration;
use crate::exit::Answer;
use crate::paths::Paths;

/// Cuts a node off at all its addresses from the next packet on, replies and audit mode included.
#[derive(Debug, clap::Args)]
pub struct Quarantine {
    /// A node's name, its WireGuard public key, one of its addresses, or an address that nobody has.
    #[arg(value_name = "NODE|KEY|ADDRESS")]
    subject: String,
    /// Release it by itself after this time, such as 10m.
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    seconds: Option<u64>,
    /// Why, for whoever reads the status.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Ends a quarantine.
#[derive(Debug, clap::Args)]
pub struct Release {
    /// As it was quarantined, or any other name of the same node.
    #[arg(value_name = "NODE|KEY|ADDRESS")]
    subject: String,
}

impl Quarantine {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let request = quarantine::Request {
            subject: self.subject.clone(),
            seconds: self.seconds,
            reason: self.reason.clone(),
        };
        let answer = client::command(&Paths::of(&global.instance)?, "/quarantine", &request)?;
        Ok(show(&answer, "quarantined", global.json))
    }
}

impl Release {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let answer = client::command(&Paths::of(&global.instance)?, "/release", &self.subject)?;
        Ok(show(&answer, "released", global.json))
    }
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
