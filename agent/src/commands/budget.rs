//! How much memory a node's tables may take.

use std::path::PathBuf;

use bulkhead_compiler::compile::Limits;

use crate::cli::Global;
use crate::config::Config;
use crate::exit::Usage;
use crate::paths::Paths;

/// Where the budget stands.
#[derive(Clone, Debug, clap::Args)]
pub struct Budget {
    /// The agent's configuration, for its limits.table_memory_mib [default: /etc/bulkhead/agent.toml
    /// if it is there; else 256 MiB].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Budget {
    /// What tables may take, as the agent would have it.
    pub fn limits(&self, global: &Global) -> Result<Limits, Usage> {
        let paths = Paths::of(&global.instance)?;
        let config = Config::read(self.config.as_deref(), paths.is_default())?;
        Ok(Limits { bytes: config.table_memory })
    }

    /// The node that the configuration names.
    pub fn node(&self, global: &Global) -> Result<Option<String>, Usage> {
        let paths = Paths::of(&global.instance)?;
        Ok(Config::read(self.config.as_deref(), paths.is_default())?.node)
    }
}
