//! What the numbers in flows mean: who an address is, which interfaces a zone, which rule a number, and after which
//! silence a flow is over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_abi::{FlowValue, Timeouts};
use bulkhead_api::event::{End, Rule};
use bulkhead_dataplane::{Pins, held_settings};
use bulkhead_events::{Enricher, Generations};
use bulkhead_policy::address::AddressSet;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{Inventory, Node, parse};
use ipnet::IpNet;

use crate::daemon::state::Enforcer;
use crate::daemon::state::enricher::Indices;
use crate::daemon::state::generation::ZONES;
use crate::daemon::store::Store;
use crate::exit::Usage;

/// Names of one moment.
pub struct Known {
    /// Whose an address is.
    names: Arc<Enricher>,
    /// Rules of the last generations; none without an agent.
    generations: Option<Arc<Generations>>,
    /// Who exists.
    inventory: Option<Arc<Inventory>>,
    zones: BTreeMap<String, u16>,
    /// None: not known, and then no flow is taken for one that is over.
    timeouts: Option<Timeouts>,
}

/// What was read, or nothing.
fn or_unknown<T: Default>(read: anyhow::Result<T>) -> T {
    read.unwrap_or_else(|error| {
        eprintln!("bulkhead: {error:#}; what it says is not known here");
        T::default()
    })
}

impl Known {
    /// What a running agent knows.
    pub fn of_agent(enforcer: &Enforcer) -> Self {
        let live = enforcer.live();
        Self {
            names: live.built.names.clone(),
            generations: Some(enforcer.shared.names.clone()),
            inventory: Some(live.built.inventory.clone()),
            zones: live.built.zones(),
            timeouts: Some(enforcer.setup.config.timeouts),
        }
    }

    /// What the programs on the hooks tell, and an agent has kept: not which rules the numbers are, which needs the
    /// policy to be compiled as it did. What cannot be read is said, and not known.
    pub fn kept(pins: &Pins, store: &Store) -> Self {
        let running = or_unknown(held_settings(pins).map_err(Into::into));
        let generation = running.values().map(|settings| settings.generation).max();
        let enforced = generation.unwrap_or_else(|| or_unknown(store.ledger()).enforced);
        let inventory = store
            .inputs_of(enforced)
            .and_then(|(files, _)| parse(&files.inventory, &mut Findings::default()));
        let mut zones: BTreeMap<String, u16> = or_unknown(store.load(ZONES)).unwrap_or_default();
        zones.extend(running.iter().map(|(name, settings)| (name.clone(), settings.zone)));
        let indices = Indices::default();
        let names = inventory.as_ref().map_or_else(
            || Enricher::unknown(indices.clone()),
            |inventory| Enricher::new(inventory, Vec::new(), indices.clone(), false),
        );
        Self {
            names: Arc::new(names),
            generations: None,
            inventory: inventory.map(Arc::new),
            zones,
            // Those of an agent are the same for every program.
            timeouts: running.values().next().map(|settings| settings.timeouts),
        }
    }

    /// Whose an address is.
    pub fn end(&self, address: IpAddr) -> End {
        self.names.end(address)
    }

    /// The rule of a number.
    pub fn rule(&self, generation: u32, number: u32) -> Option<Rule> {
        self.generations.as_ref()?.known(generation).rules().get(number as usize).cloned()
    }

    /// The interfaces of a zone.
    pub fn interfaces(&self, zone: u16) -> Vec<String> {
        self.zones.iter().filter(|(_, of)| **of == zone).map(|(name, _)| name.clone()).collect()
    }

    /// The zone of an interface.
    ///
    /// # Errors
    /// It is not managed.
    pub fn zone(&self, interface: &str) -> Result<u16, Usage> {
        self.zones.get(interface).copied().ok_or_else(|| {
            let names: Vec<&str> = self.zones.keys().map(String::as_str).collect();
            Usage(format!("interface {interface} is not managed; there are: {}", names.join(", ")))
        })
    }

    /// Whether a flow has been silent for longer than its time-out: it is none any more, though its place may not
    /// have been taken yet.
    pub fn is_over(&self, flow: &FlowValue, now: u64) -> bool {
        let timeout = self.timeouts.and_then(|timeouts| timeouts.0.get(usize::from(flow.state)).copied());
        timeout.is_some_and(|seconds| now.saturating_sub(flow.last_seen) > u64::from(seconds) * 1_000_000_000)
    }

    /// The addresses that a word stands for.
    ///
    /// # Errors
    /// Nobody is called so.
    pub fn addresses(&self, who: &str) -> Result<AddressSet, Usage> {
        let bare = who.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(who);
        let prefix = bare.parse::<IpNet>().or_else(|_| bare.parse::<IpAddr>().map(IpNet::from));
        if let Ok(prefix) = prefix {
            return Ok(AddressSet::from_prefixes([&prefix.trunc()]));
        }
        let none = || {
            Usage(format!(
                "\"{who}\" is no node, user or tag of the enforced inventory, and no address or prefix"
            ))
        };
        let inventory = self.inventory.as_deref().ok_or_else(none)?;
        let of = |nodes: &mut dyn Iterator<Item = &Node>| {
            let addresses = nodes.flat_map(|node| node.addresses.iter().chain(&node.underlay).copied());
            AddressSet::from_addresses(addresses)
        };
        if let Some(node) = inventory.node(who) {
            return Ok(of(&mut std::iter::once(node)));
        }
        let login = who.to_lowercase();
        let login = inventory.login_of(&login).unwrap_or(&login);
        let is_meant = |node: &&Node| node.user() == Some(login) || node.tags().iter().any(|tag| tag == who);
        let found = of(&mut inventory.nodes.iter().filter(is_meant));
        if found.is_empty() { Err(none()) } else { Ok(found) }
    }
}
