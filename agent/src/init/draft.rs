//! What a host has → the three files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_policy::address::AddressSet;
use bulkhead_policy::inventory::import;
use serde::Serialize;

use super::host::{Host, Interface, Overlay};
use super::nodes::{Nodes, nodes};
use super::place::NAMES;
use super::services::{operators, services};
use super::text::shown;
use super::{config, policy};

/// Files to begin with, and what is to be known of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Draft {
    /// This host's name in the inventory.
    pub node: String,
    /// The interfaces that are enforced on.
    pub interfaces: Vec<String>,
    /// Those of the default route, which are not.
    pub uplinks: Vec<String>,
    /// How many nodes the inventory has, this one among them.
    pub nodes: usize,
    /// TCP and UDP ports that the policy admits to this host, with the program that waits there.
    pub services: Vec<Service>,
    /// Who may always reach this host, by TCP port.
    pub management: BTreeMap<u16, BTreeSet<IpAddr>>,
    /// What is missing, and what to do about it.
    pub warnings: Vec<String>,
    /// agent.toml.
    #[serde(skip)]
    pub config: String,
    /// inventory.json.
    #[serde(skip)]
    pub inventory: String,
    /// policy.hujson.
    #[serde(skip)]
    pub policy: String,
}

impl Draft {
    /// Names and texts of the files, in the order in which they are written: the service starts once there is a
    /// policy.
    #[must_use]
    pub fn files(&self) -> [(&'static str, &str); 3] {
        let [config, inventory, policy] = NAMES;
        [(config, &self.config), (inventory, &self.inventory), (policy, &self.policy)]
    }
}

/// A service of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The program.
    pub program: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its ports.
    pub ports: BTreeSet<u16>,
}

/// The files for a host. The same for the same host.
#[must_use]
pub fn draft(host: &Host) -> Draft {
    let mut warnings: Vec<String> =
        host.unknown.iter().map(|what| format!("not known: {}", shown(what))).collect();
    let nodes = nodes(host, &mut warnings);
    let members = members(&nodes);
    let services = services(host, &nodes.addresses, |address| members.contains(address));
    let management = operators(host);
    warnings.extend(missing(host, &management));
    Draft {
        interfaces: host.managed().map(|(interface, _)| interface.name.clone()).collect(),
        uplinks: uplinks(host),
        nodes: nodes.merged.nodes.len(),
        services: services
            .admitted
            .iter()
            .map(|((program, protocol), ports)| Service {
                program: shown(program),
                protocol,
                ports: ports.clone(),
            })
            .collect(),
        config: config::config(host, &nodes.own, &management),
        inventory: inventory(&nodes),
        policy: policy::policy(&nodes, &services),
        node: nodes.own,
        management,
        warnings,
    }
}

/// Everybody else's addresses and routes, but for an exit's route to everything.
fn members(nodes: &Nodes) -> AddressSet {
    let others = || nodes.merged.nodes.iter().filter(|node| node.name != nodes.own);
    let addresses = others().flat_map(|node| &node.addresses).copied();
    let routes = others().flat_map(|node| &node.routes).filter(|route| route.prefix_len() != 0);
    AddressSet::from_addresses(addresses).union(&AddressSet::from_prefixes(routes))
}

fn uplinks(host: &Host) -> Vec<String> {
    let uplinks =
        host.interfaces.iter().filter(|interface| interface.is_uplink && interface.overlay().is_none());
    uplinks.map(|interface| interface.name.clone()).collect()
}

fn inventory(nodes: &Nodes) -> String {
    let mut text = "// Who exists, as `bulkhead init` found it: a line for each node. Rename them as you like; a node is known\n\
                    // by its key, and agent.toml names this one.\n"
        .to_owned();
    nodes.notes.iter().for_each(|note| text += &format!("// {}\n", shown_long(note)));
    text + &import::write(&nodes.merged)
}

fn shown_long(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect()
}

/// What is missing, and what to do about it.
fn missing(host: &Host, management: &BTreeMap<u16, BTreeSet<IpAddr>>) -> Vec<String> {
    let mut warnings = Vec::new();
    let managed: Vec<(&Interface, Overlay)> = host.managed().collect();
    if managed.is_empty() {
        warnings.push(
            "no WireGuard, Tailscale or NetBird interface is there: bring it up and run `bulkhead init --force` again, or \
             name it as [[interface]] in agent.toml"
                .to_owned(),
        );
    }
    for (interface, overlay) in managed {
        let name = &interface.name;
        if interface.own().next().is_none() {
            warnings.push(format!(
                "{name} has no address: nothing to or from this host could pass there; give it one and run \
                 `bulkhead init --force` again"
            ));
        }
        let is_listed = match overlay {
            Overlay::Tailscale => host.tailscale.is_some(),
            Overlay::NetBird => host.netbird.is_some() || interface.wireguard.is_some(),
            Overlay::WireGuard => interface.wireguard.is_some(),
        };
        if !is_listed {
            warnings.push(format!(
                "the nodes on {name} are not known: add them to inventory.json, or import them (`bulkhead inventory import`)"
            ));
        }
    }
    if host.session.is_none() {
        let others = if management.is_empty() { "nobody" } else { "only who was connected to sshd" };
        warnings.push(format!(
            "this is no SSH session, so {others} is exempt from the policy: add [[management]] with `from` and `ports` to \
             agent.toml for those who operate this host"
        ));
    }
    warnings
}
