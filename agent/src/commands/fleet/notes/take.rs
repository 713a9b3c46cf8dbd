//! `bulkhead fleet take`: a note, handed in on one host.

use std::path::PathBuf;

use bulkhead_api::grant::{Answer as Answered, Request};
use bulkhead_api::route;

use crate::client;
use crate::commands::grants;
use crate::exit::Answer;
use crate::global::Global;
use crate::paths::Paths;

/// Hand a signed note in on this host.
///
/// For a host that hears nothing of the fleet, such as one that is cut off itself. The agent verifies the note as if the
/// fleet had brought it.
#[derive(Debug, clap::Args)]
pub struct Take {
    /// The note with its signatures.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Take {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let note = String::from_utf8_lossy(&grants::read(&self.file)?).into_owned();
        let answer: Answered =
            client::command(&Paths::of(&global.instance)?, route::NOTE, &Request { note })?;
        if global.json {
            println!("{}", serde_json::json!(answer));
        } else {
            answer.notes.iter().for_each(|note| eprintln!("{note}"));
        }
        Ok(if answer.done { Answer::Yes } else { Answer::No })
    }
}
