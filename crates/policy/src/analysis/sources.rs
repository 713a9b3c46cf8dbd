//! Who may begin a conversation with an address of a node: the naive evaluator's verdicts, for every source at once.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::address::AddressSet;
use crate::analysis::reference::own;
use crate::frontend::inventory::{Inventory, Network, Node};
use crate::frontend::policy::Action;
use crate::resolve::Ruleset;

/// What a conversation would be with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Port; ignored for protocols without ports.
    pub port: u16,
}

/// The sources from which a node lets a first packet in to a target, at a time (ns since the Unix epoch): those of
/// which [`judge`](super::reference::judge) says so. Whoever is in `cut_off` is quarantined, which management
/// exemptions alone pass over.
#[must_use]
pub fn sources(
    ruleset: &Ruleset,
    inventory: &Inventory,
    node: &Node,
    target: Target,
    cut_off: &AddressSet,
    now: u64,
) -> AddressSet {
    let network = ruleset.network;
    let node = inventory.host_of(node);
    let own = own(ruleset, inventory, node);
    let here = inventory.workloads_of(&node.name);
    let mut here = here.filter(|own| own.addresses_on(network).contains(&target.destination));
    let expires = here.next().unwrap_or(node).expires;
    let is_local = own.contains(target.destination) || node.routed(network).contains(target.destination);
    if !is_local || expires.is_some_and(|end| now >= end) {
        return AddressSet::default();
    }
    let router = inventory.index(&node.name);
    let is_cut_off = cut_off.contains(target.destination);
    let (mut admitted, mut decided) = (AddressSet::default(), AddressSet::default());
    for rule in ruleset.rules.iter().filter(|rule| rule.expires.is_none_or(|end| now < end)) {
        let mut about = AddressSet::default();
        for block in rule.blocks.iter().filter(|block| block.via.is_none() || block.via == router) {
            let is_about = block.destinations.iter().any(|(id, service)| {
                ruleset.selector(*id).set.contains(target.destination)
                    && ruleset.service(*service).matches(target.protocol, target.port)
            });
            for id in block.sources.iter().filter(|_| is_about) {
                about = about.union(&ruleset.selector(*id).set);
            }
        }
        if rule.action == Action::Accept && (!is_cut_off || rule.is_exempt()) {
            let first = about.minus(&decided);
            let first = if rule.is_exempt() { first } else { first.minus(cut_off) };
            admitted = admitted.union(&first);
        }
        decided = decided.union(&about);
    }
    let none = AddressSet::default();
    let of_family = match target.destination {
        IpAddr::V4(_) => AddressSet { v4: admitted.v4, ..none },
        IpAddr::V6(_) => AddressSet { v6: admitted.v6, ..none },
    };
    of_family.minus(&own).minus(&gone(ruleset, inventory, now))
}

/// Addresses that have ceased to be anybody's.
fn gone(ruleset: &Ruleset, inventory: &Inventory, now: u64) -> AddressSet {
    let network = ruleset.network;
    let is_gone = |node: &&Node| node.expires.is_some_and(|end| now >= end);
    if !inventory.nodes.iter().any(|node| is_gone(&node)) {
        return AddressSet::default();
    }
    let all = || inventory.nodes.iter();
    let routed_by_gone = routed(all().filter(is_gone), network);
    let others = routed(all().filter(|node| !is_gone(node)), network).union(&held(all(), network));
    held(all().filter(is_gone), network).union(&routed_by_gone.minus(&others))
}

fn held<'a>(nodes: impl Iterator<Item = &'a Node>, network: Network) -> AddressSet {
    AddressSet::from_addresses(nodes.flat_map(|node| node.addresses_on(network)).copied())
}

/// A default route is no claim to an address.
fn routed<'a>(nodes: impl Iterator<Item = &'a Node>, network: Network) -> AddressSet {
    let routes = nodes.flat_map(|node| node.routes_on(network));
    AddressSet::from_prefixes(routes.filter(|net| net.prefix_len() > 0))
}

/// Sources, as nodes and as what is no node's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Names of nodes, in the inventory's order.
    pub nodes: Vec<String>,
    /// The other addresses.
    pub others: Vec<IpNet>,
    /// The others are half of all addresses of their family, or more: whoever has any address.
    pub anyone: bool,
}

/// Names sources.
#[must_use]
pub fn name(ruleset: &Ruleset, inventory: &Inventory, sources: &AddressSet) -> Named {
    let of = |node: &Node| node.addresses_on(ruleset.network).to_vec();
    let is_among = |node: &&Node| of(node).iter().any(|address| sources.contains(*address));
    let nodes = inventory.nodes.iter().filter(is_among).map(|node| node.name.clone()).collect();
    let others = sources.minus(&AddressSet::from_addresses(inventory.nodes.iter().flat_map(of)));
    let count4: u64 = others.v4.as_slice().iter().map(|(first, last)| u64::from(last - first) + 1).sum();
    // One less for each interval: all of them are more than a number holds.
    let count6: u128 = others.v6.as_slice().iter().map(|(first, last)| last - first).sum();
    let anyone = count4 >= 1 << 31 || count6 >= 1 << 126;
    let others = if anyone { Vec::new() } else { prefixes(&others) };
    Named { nodes, others, anyone }
}

/// The fewest prefixes that make up a set.
fn prefixes(set: &AddressSet) -> Vec<IpNet> {
    let v4 = set
        .v4
        .as_slice()
        .iter()
        .flat_map(|(first, last)| Ipv4Subnets::new((*first).into(), (*last).into(), 0).map(IpNet::from));
    let v6 = set
        .v6
        .as_slice()
        .iter()
        .flat_map(|(first, last)| Ipv6Subnets::new((*first).into(), (*last).into(), 0).map(IpNet::from));
    v4.chain(v6).collect()
}
