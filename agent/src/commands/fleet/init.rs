//! `bulkhead fleet init`: a fleet directory.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::exit::Answer;
use crate::global::Global;

/// Make the directories of a fleet.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Init {
    pub fn run(&self, _global: &Global) -> anyhow::Result<Answer> {
        for below in ["policy/metadata", "policy/targets", "inventory/metadata", "inventory/targets"] {
            let path = self.directory.join(below);
            std::fs::create_dir_all(&path).with_context(|| format!("{}: making it", path.display()))?;
        }
        Ok(Answer::Yes)
    }
}
