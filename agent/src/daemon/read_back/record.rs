//! What a generation was built with besides its files, kept beside them so that whoever reads the kernel's tables
//! back can build the same again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_abi::{AllowedReports, Capacity, Rate, Timeouts};
use bulkhead_api::hook::Kind;
use bulkhead_dataplane::Specialisation;
use bulkhead_policy::Dialect;
use bulkhead_policy::resolve::Exemptions;
use serde::{Deserialize, Serialize};

use crate::config::{HookChoice, Link, Managed, Role};
use crate::daemon::setup::Setup;
use crate::daemon::state::addresses::Addresses;
use crate::daemon::state::inputs::CompileOptions;
use crate::version::VERSION;

/// Its name beside a generation's files.
pub const FILE: &str = "built.json";

/// What a generation was built with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The agent's version: another one may lay tables out otherwise.
    pub version: String,
    /// The node that it was compiled for.
    pub node: String,
    /// The policy's language.
    pub dialect: Dialect,
    /// Bytes that its tables may take.
    pub table_memory: u64,
    /// Whether exchange interfaces have tables of their own.
    pub has_exchange: bool,
    /// Whether `lo` has tables of its own.
    #[serde(default)]
    pub has_local: bool,
    /// What passes, whatever the policy says.
    pub exemptions: Exemptions,
    /// The staged policy that observes beside it.
    pub staged: Option<u32>,
    /// Flows that are tracked at a time.
    pub flows: u32,
    /// Addresses that can be cut off beyond those that have an entry of their own.
    pub spare_addresses: u32,
    /// Seconds of silence that end a flow, by state.
    pub timeouts: Vec<u32>,
    /// The rate at which one sender may begin flows: ns between two, and ns of burst.
    pub new_flows: [u64; 2],
    /// Drops that one CPU reports in a second.
    pub event_budget: u32,
    /// Flows that one CPU tells of in a second as rules let them begin, and one of how many.
    #[serde(default)]
    pub allowed: [u32; 2],
    /// The interfaces.
    pub interfaces: Vec<BuiltInterface>,
}

/// An interface, as far as programs are specialised by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltInterface {
    /// Its managed name.
    pub name: String,
    /// Whose packets it carries.
    pub role: Role,
    /// Its zone; none: that of its role and kind.
    pub zone: Option<u16>,
    /// Link protocols that pass.
    pub link: Vec<Link>,
}

impl BuiltInterface {
    /// What its programs are specialised by.
    #[must_use]
    pub fn specialisation(&self, kind: Kind) -> Specialisation {
        let managed = Managed::new(&self.name, HookChoice::Auto);
        let (zone, role, link) = (self.zone, self.role, self.link.clone());
        Managed { zone, role, link, ..managed }.specialisation(kind)
    }
}

impl Built {
    /// By an agent of this setup, for these addresses of underlay interfaces, with this staged policy.
    #[must_use]
    pub fn of(setup: &Setup, addresses: &BTreeSet<IpAddr>, staged: Option<u32>) -> Self {
        let (config, options) = (&setup.config, &setup.options);
        let mut exemptions = options.exemptions.clone();
        if let Some(underlay) = &mut exemptions.underlay {
            underlay.addresses = addresses.iter().copied().collect();
        }
        let interface = |managed: &Managed| BuiltInterface {
            name: managed.name.clone(),
            role: managed.role,
            zone: managed.zone,
            link: managed.link.clone(),
        };
        Self {
            version: VERSION.to_owned(),
            node: options.node.clone(),
            dialect: options.dialect,
            table_memory: options.table_memory,
            has_exchange: options.has_exchange,
            has_local: options.has_local,
            exemptions,
            staged,
            flows: config.capacity.flows,
            spare_addresses: config.capacity.spare_addresses,
            timeouts: config.timeouts.0.to_vec(),
            new_flows: [config.new_flows.interval, config.new_flows.tolerance],
            event_budget: config.event_budget,
            allowed: [config.allowed.budget, config.allowed.one_in],
            interfaces: config.interfaces.iter().map(interface).collect(),
        }
    }

    /// What its files are compiled with.
    #[must_use]
    pub fn options(&self) -> CompileOptions {
        CompileOptions {
            node: self.node.clone(),
            dialect: self.dialect,
            table_memory: self.table_memory,
            has_exchange: self.has_exchange,
            has_local: self.has_local,
            exemptions: self.exemptions.clone(),
            addresses: Addresses::of(self.exemptions.underlay.iter().flat_map(|all| all.addresses.clone())),
            grants: Arc::default(),
        }
    }

    /// Sizes, as far as they show in tables and programs of a generation.
    #[must_use]
    pub fn capacity(&self) -> Capacity {
        let (flows, spare_addresses) = (self.flows, self.spare_addresses);
        Capacity { flows, spare_addresses, ..Capacity::default() }
    }

    /// Which flows are told of as rules let them begin.
    #[must_use]
    pub fn allowed(&self) -> AllowedReports {
        let [budget, one_in] = self.allowed;
        AllowedReports { budget, one_in }
    }

    /// Time-outs of flows; none if there are not as many as this agent knows.
    #[must_use]
    pub fn timeouts(&self) -> Option<Timeouts> {
        self.timeouts.clone().try_into().ok().map(Timeouts)
    }

    /// The rate at which one sender may begin flows.
    #[must_use]
    pub fn new_flows(&self) -> Rate {
        let [interval, tolerance] = self.new_flows;
        Rate { interval, tolerance }
    }
}
