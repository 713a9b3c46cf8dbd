//! `bulkhead fleet notes`: what is posted.

use std::path::PathBuf;

use super::{line, posted};
use crate::exit::Answer;
use crate::global::Global;

/// List the notes that are posted for every host.
///
/// Signatures are shown as they stand there: each host counts them by the policy that it enforces.
#[derive(Debug, clap::Args)]
pub struct List {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl List {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let all = posted(&self.directory)?;
        if global.json {
            let one = |posted: &super::Posted| {
                serde_json::json!({
                    "kind": posted.says.kind(), "id": posted.says.id(), "not_before": posted.says.from(),
                    "not_after": posted.says.until(), "text": posted.note.text(),
                })
            };
            println!("{}", serde_json::Value::from_iter(all.iter().map(one)));
        } else if all.is_empty() {
            println!("no note is posted");
        } else {
            all.iter().for_each(|posted| println!("{}", line(&posted.says, &posted.note)));
        }
        Ok(Answer::Yes)
    }
}
