//! Which interfaces a command asks about.

use std::net::IpAddr;

use bulkhead_policy::Dialect;
use bulkhead_policy::check::Scope;
use bulkhead_policy::inventory::{Inventory, Network};
use bulkhead_policy::resolve::{Ruleset, resolve};

use crate::config::Config;
use crate::diagnostics;
use crate::exit::Usage;
use crate::input::{self, Files};

/// The files, and the interfaces that are meant.
#[derive(Clone, Debug, clap::Args)]
pub struct On {
    #[command(flatten)]
    pub files: Files,
    /// Which interfaces are meant.
    ///
    /// overlay (WireGuard), where all rules hold; exchange, where the venues do; or underlay: those of agent.toml with
    /// role = "underlay", with the addresses that the inventory and, on the host itself, the kernel have for them.
    /// Where agent.toml has none, underlay is exchange.
    #[arg(long, value_name = "ROLE", default_value = "overlay")]
    network: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    Overlay,
    Exchange,
    Underlay,
}

impl On {
    /// Whether an agent's underlay interfaces are meant: what is said is about its node then.
    pub fn is_underlay(&self, config: Option<&Config>) -> bool {
        self.network == Name::Underlay && config.is_some_and(Config::has_underlay)
    }

    /// Loads both files for those interfaces: on the overlay, with what a scope exempts; beneath it, for a node of
    /// an agent's configuration, by default the one that it names. `None` if there is an error in them, which has been
    /// printed then.
    pub fn load(
        &self,
        scope: &Scope,
        (config, node): (impl FnOnce() -> Result<Option<Config>, Usage>, Option<&str>),
        json: bool,
    ) -> Result<Option<(Ruleset, Inventory)>, Usage> {
        match self.network {
            Name::Overlay => input::load_valid(&self.files, scope, json),
            Name::Exchange => self.exchange(scope.dialect, json),
            Name::Underlay => {
                let config = config()?.unwrap_or_default();
                if config.has_underlay() {
                    self.underlay(scope.dialect, (config, node), json)
                } else {
                    self.exchange(scope.dialect, json)
                }
            }
        }
    }

    fn exchange(&self, dialect: Dialect, json: bool) -> Result<Option<(Ruleset, Inventory)>, Usage> {
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

    fn underlay(
        &self,
        dialect: Dialect,
        (config, node): (Config, Option<&str>),
        json: bool,
    ) -> Result<Option<(Ruleset, Inventory)>, Usage> {
        let node = node.or(config.node.as_deref()).unwrap_or_default();
        let mut exemptions = config.exemptions(node);
        if let Some(underlay) = &mut exemptions.underlay {
            underlay.addresses = addresses(&config);
        }
        let scope = Scope { dialect, exemptions, ..Scope::default() };
        let loaded = input::load_for(&self.files.policy, Some(&self.files.inventory), &scope)?;
        if loaded.findings.has_errors() {
            diagnostics::print(&loaded.findings, &loaded.sources, json);
            return Ok(None);
        }
        let rules = loaded.underlay.map(|rules| (rules.ruleset, rules.inventory));
        let found = rules.ok_or_else(|| {
            Usage(format!(
                "the inventory has no node '{node}', which the underlay interfaces are of; name it as `node`"
            ))
        });
        found.map(Some)
    }
}

/// The addresses that underlay interfaces have on this host; none on another one.
#[cfg(feature = "agent")]
pub(super) fn addresses(config: &Config) -> Vec<IpAddr> {
    use bulkhead_dataplane::Kernel;

    let addresses = crate::daemon::state::addresses::Addresses::default();
    // What cannot be asked for is as on another host.
    let _ = addresses.look(&Kernel, config);
    addresses.now().into_iter().collect()
}

/// Without the agent, no interface is this host's.
#[cfg(not(feature = "agent"))]
pub(super) fn addresses(_: &Config) -> Vec<IpAddr> {
    Vec::new()
}
