//! `agent.toml`: what one agent enforces, where, and how large its tables are.

mod file;
mod timeouts;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use bulkhead::kernel::{Capacity, Hook, Kind};
use bulkhead_engine::layout::Timeouts;

use crate::exit::Usage;

/// Where an agent's configuration is, unless `--config` names another.
pub const DEFAULT: &str = "/etc/bulkhead/agent.toml";

/// What happens to packets that the policy does not admit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are dropped.
    #[default]
    Enforce,
    /// They are reported and pass.
    Audit,
}

impl Mode {
    /// Its name, as in status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// Where packets are seen at ingress on bare-IP interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookChoice {
    /// TCX.
    #[default]
    Tcx,
    /// Generic XDP.
    Xdp,
}

/// One interface to enforce on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// Its name.
    pub name: String,
    /// The interfaces that share flows have one zone. By default overlays share one, Ethernet
    /// interfaces another.
    pub zone: Option<u16>,
    /// Where packets are seen at ingress.
    pub hook: HookChoice,
    /// It need not be there when the agent starts.
    pub is_optional: bool,
}

impl Managed {
    /// An interface with defaults.
    #[must_use]
    pub fn new(name: &str, hook: HookChoice) -> Self {
        Self { name: name.to_owned(), zone: None, hook, is_optional: false }
    }

    /// Its zone.
    #[must_use]
    pub fn zone(&self, kind: Kind) -> u16 {
        self.zone.unwrap_or(match kind {
            Kind::BareIp => 1,
            Kind::Ethernet => 2,
        })
    }

    /// The hooks to try at ingress, the best first.
    #[must_use]
    pub fn ingress(&self, kind: Kind) -> &'static [Hook] {
        match (kind, self.hook) {
            (Kind::BareIp, HookChoice::Tcx) => &[Hook::TcxIngress],
            (Kind::BareIp, HookChoice::Xdp) => &[Hook::XdpGeneric],
            (Kind::Ethernet, _) => &[Hook::XdpNative, Hook::XdpGeneric],
        }
    }
}

/// One agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The node that this host is.
    pub node: Option<String>,
    /// The policy's file.
    pub policy: PathBuf,
    /// The inventory's file.
    pub inventory: PathBuf,
    /// Enforce or audit.
    pub mode: Mode,
    /// The interfaces.
    pub interfaces: Vec<Managed>,
    /// Seconds of silence that end a flow.
    pub timeouts: Timeouts,
    /// Sizes of the tables that outlive generations, and what is kept spare.
    pub capacity: Capacity,
    /// Bytes that one generation's tables may take.
    pub table_memory: u64,
    /// Keep the nftables guard.
    pub guard: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: None,
            policy: "/etc/bulkhead/policy.hujson".into(),
            inventory: "/etc/bulkhead/inventory.json".into(),
            mode: Mode::default(),
            interfaces: Vec::new(),
            timeouts: timeouts::defaults(),
            capacity: Capacity::default(),
            table_memory: 256 << 20,
            guard: true,
        }
    }
}

impl Config {
    /// Reads the file that `named` names; else the default one, if `fall_back` and it is there;
    /// else there are only defaults.
    ///
    /// # Errors
    /// What is wrong with the file, with its line.
    pub fn read(named: Option<&Path>, fall_back: bool) -> Result<Self, Usage> {
        let path = match named {
            Some(path) => path,
            None if fall_back && Path::new(DEFAULT).exists() => Path::new(DEFAULT),
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Usage(format!("cannot read {}: {error}; name an existing file", path.display()))
        })?;
        file::parse(path, &text)
    }
}
