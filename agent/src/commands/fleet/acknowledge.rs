//! `bulkhead fleet acknowledge`: somebody has looked at what a collector found.

use std::path::PathBuf;

use anyhow::Context as _;

use super::collect::STORE;
use crate::exit::{Answer, Usage};

/// Acknowledge what the collector found of a node's evidence.
///
/// The collector must have ended.
#[derive(Debug, clap::Args)]
pub struct Acknowledge {
    /// The node.
    #[arg(value_name = "NODE", required_unless_present = "strangers")]
    node: Option<String>,
    /// What came from nobody that is known, instead.
    #[arg(long, conflicts_with = "node")]
    strangers: bool,
    /// Set the node's log aside, and take another one from its beginning.
    ///
    /// Also another key: whatever comes first. What was collected is kept in `aside`.
    #[arg(long, conflicts_with = "strangers")]
    begin_anew: bool,
    /// Where the collector keeps what came.
    #[arg(long, value_name = "DIR", default_value = STORE)]
    store: PathBuf,
}

impl Acknowledge {
    pub fn run(&self) -> anyhow::Result<Answer> {
        let node = self.node.as_deref().unwrap_or_default();
        if node.is_empty() && !self.strangers {
            return Err(Usage("NODE: a node has a name".to_owned()).into());
        }
        let aside = bulkhead_collect::acknowledge(&self.store, node, self.begin_anew)
            .with_context(|| format!("acknowledging what was found of '{node}'"))?;
        match aside {
            Some(aside) => println!("set aside: {}", aside.display()),
            None => println!("acknowledged"),
        }
        Ok(Answer::Yes)
    }
}
