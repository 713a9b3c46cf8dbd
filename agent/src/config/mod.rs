//! `agent.toml`: what one agent enforces, where, and how large its tables are.

mod alarms;
#[cfg(feature = "agent")]
mod anchors;
#[cfg(feature = "agent")]
mod collector;
mod events;
mod file;
#[cfg(feature = "agent")]
mod fleet;
mod history;
#[cfg(feature = "agent")]
mod hooks;
#[cfg(feature = "agent")]
mod receivers;
mod roles;
#[cfg(feature = "agent")]
mod sinks;
#[cfg(feature = "agent")]
mod sources;
mod timeouts;
mod tls;
#[cfg(feature = "agent")]
mod trust;
mod underlay;

#[cfg(test)]
mod tests;
#[cfg(all(test, feature = "agent"))]
mod trust_tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bulkhead_abi::{
    AllowedReports, Capacity, DEFAULT_NEW_FLOWS, Rate, Timeouts, default_timeouts, per_second,
};
use bulkhead_api::hook::Kind;
use bulkhead_policy::resolve::{Exemptions, Management, OverlayServices, Underlay, WireGuard};

pub use bulkhead_api::link::Link;
pub use bulkhead_api::mode::Mode;

use crate::exit::Usage;

pub use self::alarms::Alarms;
#[cfg(feature = "agent")]
pub use self::alarms::{ExpiryLimits, Response, Scan, Spike};
#[cfg(feature = "agent")]
pub use self::collector::Collector;
#[cfg(feature = "agent")]
pub use self::fleet::{Fleet, From as FleetFrom};
pub use self::tls::Tls;
#[cfg(feature = "agent")]
pub use self::trust::Trust;

/// Where an agent's configuration is, unless `--config` names another.
pub const DEFAULT: &str = "/etc/bulkhead/agent.toml";

/// The interface on which a host speaks to itself, in every network namespace.
pub const LOOPBACK: &str = "lo";

/// The zone of exchange interfaces, unless they name another.
const EXCHANGE_ZONE: u16 = 3;

/// The zone of underlay interfaces, unless they name another.
const UNDERLAY_ZONE: u16 = 4;

/// The zone of `lo`, unless it names another.
const LOCAL_ZONE: u16 = 5;

/// Where packets are seen at ingress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookChoice {
    /// Native XDP on Ethernet interfaces whose driver has it, else TCX.
    #[default]
    Auto,
    /// TCX.
    Tcx,
    /// XDP: native on Ethernet interfaces, generic on WireGuard and TUN interfaces.
    Xdp,
}

/// Whose packets an interface carries.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Identities', by the policy's rules.
    #[default]
    Overlay,
    /// Venues', by their feeds and sessions alone, and the link protocols that are named.
    Exchange,
    /// The networks beneath the overlay: WireGuard's own transport, flows that are named, and the link protocols
    /// that are named. No venue's.
    Underlay,
    /// What workloads of this host say to each other and to the host itself: `lo`.
    Local,
}

impl Role {
    /// Its name in agent.toml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Exchange => "exchange",
            Self::Underlay => "underlay",
            Self::Local => "local",
        }
    }
}

/// One interface to enforce on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    /// Its name.
    pub name: String,
    /// The interfaces that share flows have one zone. By default overlays share one, Ethernet
    /// interfaces another, exchange interfaces a third, underlay interfaces a fourth, `lo` a fifth.
    pub zone: Option<u16>,
    /// Where packets are seen at ingress.
    pub hook: HookChoice,
    /// It need not be there when the agent starts.
    pub is_optional: bool,
    /// Whose packets it carries.
    pub role: Role,
    /// Link protocols that pass, on Ethernet interfaces.
    pub link: Vec<Link>,
    /// The overlay whose services on this host it leads to.
    pub overlay: Option<OverlayServices>,
}

impl Managed {
    /// Its zone.
    #[must_use]
    pub fn zone(&self, kind: Kind) -> u16 {
        self.zone.unwrap_or(match (self.role, kind) {
            (Role::Exchange, _) => EXCHANGE_ZONE,
            (Role::Underlay, _) => UNDERLAY_ZONE,
            (Role::Local, _) => LOCAL_ZONE,
            (Role::Overlay, Kind::BareIp) => 1,
            (Role::Overlay, Kind::Ethernet) => 2,
        })
    }
}

/// What is done where an identity's address is not routed by one of its own keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Binding {
    /// The address is treated as one that nobody has, and that is told.
    #[default]
    Enforce,
    /// It is told alone.
    Report,
    /// Nobody looks.
    Off,
}

/// Which groups may use the agent's socket, besides root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Whose members may ask.
    pub read: Option<String>,
    /// Whose members may change what is enforced, too; they must be in `read` as well.
    pub change: Option<String>,
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
    /// Apply the policy and the inventory whenever their files change.
    pub watch: bool,
    /// How many flows one sender may begin.
    pub new_flows: Rate,
    /// Drops that one CPU reports in a second.
    pub event_budget: u32,
    /// Which flows are told of as rules let them begin.
    pub allowed: AllowedReports,
    /// What is done where an identity's address is not routed by one of its own keys.
    pub binding: Binding,
    /// Seconds between two looks at what the kernel holds; 0: none.
    pub read_back_seconds: u32,
    /// Seconds between two records of coverage and balance.
    pub attest_seconds: u32,
    /// Days that records are kept.
    pub keep_days: u32,
    /// MiB that records may take; the oldest go first.
    pub keep_mib: u32,
    /// Who may always reach this node, whatever the policy says.
    pub management: Vec<Management>,
    /// What is looked at of TLS.
    pub tls: Tls,
    /// Where metrics are served over HTTP, on loopback; none: over the socket alone.
    pub metrics: Option<SocketAddr>,
    /// WireGuard's own transport on exchange interfaces.
    pub wireguard: Vec<WireGuard>,
    /// What passes on underlay interfaces: the lists of all of them.
    pub underlay: Underlay,
    /// Options that lead around the programs on interfaces (`PACKET_QDISC_BYPASS`, AF_XDP) are refused to every process
    /// of a host that has workloads, and not to these alone.
    pub refuse_bypass_to_all: bool,
    /// Who may use the socket.
    pub control: Control,
    /// Who must sign a policy and an inventory; none: nobody need.
    #[cfg(feature = "agent")]
    pub trust: Option<Trust>,
    /// Whose policy and inventory are followed; none: nobody's.
    #[cfg(feature = "agent")]
    pub fleet: Option<Fleet>,
    /// Who collects the event log; none: nobody does.
    #[cfg(feature = "agent")]
    pub collector: Option<Collector>,
    /// What is kept of who used which rule; none: nothing is.
    pub history: Option<History>,
    /// What raises alarms; none: nothing does.
    pub alarms: Option<Alarms>,
    /// Where records of the event log go.
    #[cfg(feature = "agent")]
    pub sinks: Vec<bulkhead_sinks::Settings>,
    /// Where checkpoints of the event log go.
    #[cfg(feature = "agent")]
    pub anchors: Vec<bulkhead_sinks::AnchorSettings>,
    /// Who is asked who exists, besides the inventory's file.
    #[cfg(feature = "agent")]
    pub sources: Vec<bulkhead_sources::Settings>,
}

/// How much is kept of who used which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// For how many days.
    pub days: u64,
    /// Bytes that it may take.
    pub bytes: u64,
    /// Seconds between two looks at the table of flows.
    pub flows_seconds: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { days: 400, bytes: 256 << 20, flows_seconds: 60 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: None,
            policy: "/etc/bulkhead/policy.hujson".into(),
            inventory: "/etc/bulkhead/inventory.json".into(),
            mode: Mode::default(),
            interfaces: Vec::new(),
            timeouts: default_timeouts(),
            capacity: Capacity::default(),
            table_memory: 256 << 20,
            guard: true,
            watch: false,
            new_flows: per_second(DEFAULT_NEW_FLOWS),
            event_budget: 10_000,
            allowed: AllowedReports::NONE,
            binding: Binding::default(),
            read_back_seconds: 60,
            attest_seconds: 60,
            keep_days: 396,
            keep_mib: 4096,
            management: Vec::new(),
            tls: Tls::default(),
            metrics: None,
            wireguard: Vec::new(),
            underlay: Underlay::default(),
            refuse_bypass_to_all: false,
            control: Control::default(),
            #[cfg(feature = "agent")]
            trust: None,
            #[cfg(feature = "agent")]
            fleet: None,
            #[cfg(feature = "agent")]
            collector: None,
            history: Some(History::default()),
            alarms: Some(Alarms::default()),
            #[cfg(feature = "agent")]
            sinks: Vec::new(),
            #[cfg(feature = "agent")]
            anchors: Vec::new(),
            #[cfg(feature = "agent")]
            sources: Vec::new(),
        }
    }
}

impl Config {
    /// Whether any interface carries venues' packets.
    #[must_use]
    pub fn has_exchange(&self) -> bool {
        self.interfaces.iter().any(|managed| managed.role == Role::Exchange)
    }

    /// Whether any interface is to a network beneath the overlay.
    #[must_use]
    pub fn has_underlay(&self) -> bool {
        self.interfaces.iter().any(|managed| managed.role == Role::Underlay)
    }

    /// Whether what workloads say to each other on `lo` is judged.
    #[cfg(feature = "agent")]
    #[must_use]
    pub fn has_local(&self) -> bool {
        self.interfaces.iter().any(|managed| managed.role == Role::Local)
    }

    /// What passes on a node, whatever the policy says.
    #[must_use]
    pub fn exemptions(&self, node: &str) -> Exemptions {
        let (management, wireguard) = (self.management.clone(), self.wireguard.clone());
        let overlays = self.overlays().cloned().collect();
        let underlay = self.has_underlay().then(|| self.underlay.clone());
        Exemptions { node: node.to_owned(), management, wireguard, overlays, underlay }
    }

    /// The overlays whose services on this host pass, each once.
    pub fn overlays(&self) -> impl Iterator<Item = &OverlayServices> {
        let all = || self.interfaces.iter().filter_map(|managed| managed.overlay.as_ref());
        let is_first = move |(index, services): &(usize, &OverlayServices)| {
            !all().take(*index).any(|earlier| earlier.overlay == services.overlay)
        };
        all().enumerate().filter(is_first).map(|(_, services)| services)
    }

    /// The warning that a wrong policy locks the operator out; `None` if there is a management exemption.
    #[must_use]
    pub fn lockout(&self) -> Option<String> {
        self.management.is_empty().then(|| {
            "no management exemption: a policy that is wrong locks the operator out of this node; add \
             [[management]] with `from` and `ports` to agent.toml, and try policies with `--confirm 60s`"
                .to_owned()
        })
    }

    /// Reads the text of a file. Relative paths in it start at the file's directory.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    #[cfg(feature = "agent")]
    pub fn parse(path: &Path, text: &str) -> Result<Self, Usage> {
        file::parse(path, text)
    }

    /// Reads the file that `named` names; else the default one, if `fall_back` and it is there;
    /// else there is none.
    ///
    /// # Errors
    /// What is wrong with the file, with its line.
    pub fn find(named: Option<&Path>, fall_back: bool) -> Result<Option<Self>, Usage> {
        let path = match named {
            Some(path) => path,
            None if fall_back && Path::new(DEFAULT).exists() => Path::new(DEFAULT),
            None => return Ok(None),
        };
        let bytes = std::fs::read(path).map_err(|error| {
            Usage(format!("cannot read {}: {error}; name an existing file", path.display()))
        })?;
        let text = crate::text::decode(bytes)
            .map_err(|error| Usage(format!("cannot read {} as text: {error}", path.display())))?;
        file::parse(path, &text).map(Some)
    }
}
