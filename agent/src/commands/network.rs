//! Which network a command asks about.

use bulkhead_policy::Dialect;
use bulkhead_policy::check::Scope;
use bulkhead_policy::inventory::{Inventory, Network};
use bulkhead_policy::resolve::{Ruleset, resolve};

use crate::diagnostics;
use crate::exit::Usage;
use crate::input::{self, Files};

/// The files, and the network whose interfaces are meant.
#[derive(Clone, Debug, clap::Args)]
pub struct On {
    #[command(flatten)]
    pub files: Files,
    /// Which interfaces are meant.
    ///
    /// overlay (WireGuard), where all rules hold, or underlay (exchange interfaces), where the venues do.
    #[arg(long, value_name = "NETWORK", default_value = "overlay")]
    network: Name,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Name {
    Overlay,
    Underlay,
}

impl On {
    /// Loads both files for that network. `None` if there is an error in them, which has been
    /// printed then.
    pub fn load(&self, dialect: Dialect, json: bool) -> Result<Option<(Ruleset, Inventory)>, Usage> {
        self.load_for(&Scope { dialect, ..Scope::default() }, json)
    }

    /// The same for whom a scope says: on the overlay, with what it exempts.
    pub fn load_for(&self, scope: &Scope, json: bool) -> Result<Option<(Ruleset, Inventory)>, Usage> {
        let dialect = scope.dialect;
        if matches!(self.network, Name::Overlay) {
            return input::load_valid(&self.files, scope, json);
        }
        let mut loaded = input::load(&self.files.policy, Some(&self.files.inventory), dialect)?;
        if let (Some(policy), Some(inventory)) = (loaded.policy, loaded.inventory) {
            let ruleset = resolve(&policy, &inventory, dialect, Network::Underlay, &mut loaded.findings);
            if !loaded.findings.has_errors() {
                return Ok(Some((ruleset, inventory)));
            }
        }
        loaded.findings.sort();
        diagnostics::print(&loaded.findings, &loaded.sources, json);
        Ok(None)
    }
}
