//! How much memory a node's tables may take.

use std::path::PathBuf;

use bulkhead_policy::compile::Limits;

use crate::config::Config;
use crate::exit::Usage;
use crate::global::{Global, is_default};

/// Where the budget stands.
#[derive(Clone, Debug, clap::Args)]
pub struct Budget {
    /// The agent's configuration, for its limits.table_memory_mib.
    ///
    /// By default /etc/bulkhead/agent.toml if it is there; else the limit is 256 MiB.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Budget {
    /// The agent's configuration; `None` if none is named and the default one is not there.
    pub fn config(&self, global: &Global) -> Result<Option<Config>, Usage> {
        Config::find(self.config.as_deref(), is_default(&global.instance)?)
    }

    /// What tables may take, as the agent would have it.
    pub fn limits(&self, global: &Global) -> Result<Limits, Usage> {
        Ok(Limits { bytes: self.config(global)?.unwrap_or_default().table_memory })
    }

    /// The node that the configuration names.
    pub fn node(&self, global: &Global) -> Result<Option<String>, Usage> {
        Ok(self.config(global)?.and_then(|config| config.node))
    }
}
