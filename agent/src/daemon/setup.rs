//! What `run` was told.

use std::path::PathBuf;
use std::sync::Arc;

use bulkhead_dataplane::Pins;

use crate::config::Config;
use crate::daemon::fleet::Fleet;
use crate::daemon::sources::Sources;
use crate::daemon::state::inputs::CompileOptions;
use crate::daemon::workloads::Keeper;
use crate::guard::Fallback;
use crate::paths::Paths;

/// What to enforce, where, and with which sizes.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The instance.
    pub instance: String,
    /// Its places.
    pub paths: Paths,
    /// For whom.
    pub options: CompileOptions,
    /// The configuration, flags applied.
    pub config: Config,
    /// Where the nftables table for what no program sees is put.
    pub fallback: Arc<dyn Fallback>,
    /// The netlink group that the guard logs to, or why there is none.
    pub log_group: Result<u16, String>,
    /// The operator says that the BPF file system is the host's, which a container cannot know.
    pub bpffs_is_the_hosts: bool,
    /// Seconds to confirm within what is enforced by this start; none: it stays.
    pub confirm: Option<u64>,
    /// Until when open connections that the host forwards are taken up, seconds of the flow clock; 0: never.
    pub forwarded_until: u32,
    /// What holds workloads to their addresses.
    pub workloads: Arc<Keeper>,
    /// What is known of the fleet.
    pub fleet: Arc<Fleet>,
    /// Who exists besides the inventory's nodes.
    pub sources: Arc<Sources>,
}

impl Setup {
    /// The files that `run` names.
    #[must_use]
    pub fn files(&self) -> (PathBuf, PathBuf) {
        (self.config.policy.clone(), self.config.inventory.clone())
    }

    /// The same with other pins.
    #[must_use]
    pub fn with_pins(&self, pins: Pins) -> Self {
        let mut setup = self.clone();
        setup.paths.pins = pins;
        setup
    }
}
