//! The naive evaluator: rule by rule, as a person reads the policy. The tables must agree.

use std::net::IpAddr;

use bulkhead_abi::Direction;

use crate::address::AddressSet;
use crate::frontend::inventory::{Inventory, Node};
use crate::frontend::policy::Action;
use crate::resolve::{Rule, Ruleset};
use crate::service::Service;

/// A first packet of a conversation. For ICMP and ICMPv6 it is an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; ignored for protocols without ports.
    pub port: u16,
}

impl Probe {
    /// The end on the side of the node that judges it, and the other one.
    pub(crate) fn ends(&self, direction: Direction) -> (IpAddr, IpAddr) {
        match direction {
            Direction::Ingress => (self.destination, self.source),
            Direction::Egress => (self.source, self.destination),
        }
    }
}

/// What one node does with a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The rule of this index admits it.
    Allow(usize),
    /// The rule of this index denies it.
    Deny(usize),
    /// No rule is about it.
    NoRule,
    /// The other end is nobody, and no rule is about it.
    Unknown,
    /// It is not between the node and another.
    NotLocal,
}

impl Verdict {
    /// Whether the packet passes.
    #[must_use]
    pub fn allows(self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The index of the rule that decided.
    #[must_use]
    pub fn rule(self) -> Option<usize> {
        match self {
            Self::Allow(rule) | Self::Deny(rule) => Some(rule),
            _ => None,
        }
    }
}

/// Whether a rule is about a probe, whatever the time. `router` is the node at whose ingress it
/// is judged, an index into the inventory's nodes: what another router carries is not about it.
/// Without one the question is the policy's, wherever it is enforced.
#[must_use]
pub fn matches(ruleset: &Ruleset, rule: &Rule, probe: &Probe, router: Option<u32>) -> bool {
    matches_service(ruleset, rule, probe, router, |service| service.matches(probe.protocol, probe.port))
}

/// [`matches`], with `service` in place of the probe's protocol and port.
pub(crate) fn matches_service(
    ruleset: &Ruleset,
    rule: &Rule,
    probe: &Probe,
    router: Option<u32>,
    service: impl Fn(&Service) -> bool,
) -> bool {
    rule.blocks.iter().any(|block| {
        (block.via.is_none() || router.is_none() || block.via == router)
            && block.sources.iter().any(|id| ruleset.selector(*id).set.contains(probe.source))
            && block.destinations.iter().any(|(id, of)| {
                ruleset.selector(*id).set.contains(probe.destination) && service(ruleset.service(*of))
            })
    })
}

/// The first of some rules about a probe at a time (ns since the Unix epoch): its index. They
/// are [`Ruleset::rules`] or one of [`Ruleset::assumed`].
#[must_use]
pub fn first_of(
    ruleset: &Ruleset,
    rules: &[Rule],
    probe: &Probe,
    router: Option<u32>,
    now: u64,
) -> Option<usize> {
    rules
        .iter()
        .position(|rule| rule.expires.is_none_or(|end| now < end) && matches(ruleset, rule, probe, router))
}

/// The first rule about a probe at a time (ns since the Unix epoch): its index.
#[must_use]
pub fn first(ruleset: &Ruleset, probe: &Probe, now: u64) -> Option<usize> {
    first_of(ruleset, &ruleset.rules, probe, None, now)
}

/// What the policy says of a probe, wherever it is enforced.
#[must_use]
pub fn admitted(ruleset: &Ruleset, probe: &Probe, now: u64) -> bool {
    first(ruleset, probe, now).is_some_and(|index| ruleset.rules[index].action == Action::Accept)
}

/// When an address stops standing for anybody: the node's expiry, or that of the last node
/// that routes it.
fn expiry(ruleset: &Ruleset, inventory: &Inventory, address: IpAddr) -> Option<u64> {
    let holds = |node: &&Node| node.addresses_on(ruleset.network).contains(&address);
    if let Some(node) = inventory.nodes.iter().find(holds) {
        return node.expires;
    }
    let network = ruleset.network;
    let routes = |node: &&Node| {
        node.routes_on(network).iter().any(|net| net.prefix_len() > 0 && net.contains(&address))
    };
    let ends: Vec<Option<u64>> = inventory.nodes.iter().filter(routes).map(|node| node.expires).collect();
    if ends.contains(&None) { None } else { ends.into_iter().flatten().max() }
}

fn is_known(ruleset: &Ruleset, inventory: &Inventory, address: IpAddr) -> bool {
    inventory.nodes.iter().any(|node| {
        node.addresses_on(ruleset.network).contains(&address)
            || node
                .routes_on(ruleset.network)
                .iter()
                .any(|net| net.prefix_len() > 0 && net.contains(&address))
    })
}

/// What a node does with a probe at a time (ns since the Unix epoch). Of a workload it is its host that does.
#[must_use]
pub fn judge(
    ruleset: &Ruleset,
    inventory: &Inventory,
    node: &Node,
    direction: Direction,
    probe: &Probe,
    now: u64,
) -> Verdict {
    let (local, remote) = probe.ends(direction);
    let node = inventory.host_of(node);
    let own = own(ruleset, inventory, node);
    if own.contains(remote) || !own.union(&node.routed(ruleset.network)).contains(local) {
        return Verdict::NotLocal;
    }
    decide(ruleset, inventory, (node, direction), (local, remote), probe, now)
}

/// Protocols of which denials are told: TCP and UDP.
pub(crate) const TOLD: [u8; 2] = [6, 17];

/// Whether a node tells whoever sends a probe, at a time (ns since the Unix epoch), that it is not admitted.
#[must_use]
pub fn rejects(
    ruleset: &Ruleset,
    inventory: &Inventory,
    node: &Node,
    direction: Direction,
    probe: &Probe,
    now: u64,
) -> bool {
    let (local, remote) = probe.ends(direction);
    let is_told = match judge(ruleset, inventory, node, direction, probe, now) {
        Verdict::Deny(rule) => ruleset.rules[rule].rejects,
        Verdict::NoRule => ruleset.rejects,
        Verdict::Allow(_) | Verdict::Unknown | Verdict::NotLocal => false,
    };
    TOLD.contains(&probe.protocol)
        && is_told
        && is_known(ruleset, inventory, remote)
        && !is_gone(ruleset, inventory, inventory.host_of(node), (local, remote), now)
}

/// The addresses that are a node's and its workloads', and the groups that it receives.
pub(crate) fn own(ruleset: &Ruleset, inventory: &Inventory, node: &Node) -> AddressSet {
    let nodes = std::iter::once(node).chain(inventory.workloads_of(&node.name));
    let own = AddressSet::from_addresses(nodes.flat_map(|node| node.addresses_on(ruleset.network)).copied());
    own.union(&ruleset.groups_of(node))
}

/// What a host does on `lo` with a probe between two of its own addresses, at the hook of a direction and a time (ns
/// since the Unix epoch). `None`: it passes, since neither end is a workload's, or both are one's.
#[must_use]
pub fn judge_loopback(
    ruleset: &Ruleset,
    inventory: &Inventory,
    host: &Node,
    direction: Direction,
    probe: &Probe,
    now: u64,
) -> Option<Verdict> {
    let workload = |address| {
        inventory.workloads_of(&host.name).find(|node| node.addresses_on(ruleset.network).contains(&address))
    };
    let (from, to) = (workload(probe.source), workload(probe.destination));
    match (from, to) {
        (None, None) => return None,
        (Some(one), Some(other)) if one.name == other.name => return None,
        _ => {}
    }
    let (local, remote) = probe.ends(direction);
    let own = own(ruleset, inventory, host);
    if !own.contains(local) {
        return Some(Verdict::NotLocal);
    }
    if !own.contains(remote) {
        return Some(Verdict::Unknown);
    }
    Some(decide(ruleset, inventory, (host, direction), (local, remote), probe, now))
}

/// What the rules say between a local and a remote end that are a node's and another's.
fn decide(
    ruleset: &Ruleset,
    inventory: &Inventory,
    (node, direction): (&Node, Direction),
    (local, remote): (IpAddr, IpAddr),
    probe: &Probe,
    now: u64,
) -> Verdict {
    let gone = is_gone(ruleset, inventory, node, (local, remote), now);
    let router = inventory.index(&node.name).filter(|_| direction == Direction::Ingress);
    match first_of(ruleset, &ruleset.rules, probe, router, now).filter(|_| !gone) {
        Some(index) if ruleset.rules[index].action == Action::Accept => Verdict::Allow(index),
        Some(index) => Verdict::Deny(index),
        None if is_known(ruleset, inventory, remote) => Verdict::NoRule,
        None => Verdict::Unknown,
    }
}

/// Whether an end of a host's conversation, a local and a remote address, is of nobody any more.
fn is_gone(
    ruleset: &Ruleset,
    inventory: &Inventory,
    host: &Node,
    (local, remote): (IpAddr, IpAddr),
    now: u64,
) -> bool {
    let here =
        inventory.workloads_of(&host.name).find(|own| own.addresses_on(ruleset.network).contains(&local));
    let ends = [here.unwrap_or(host).expires, expiry(ruleset, inventory, remote)];
    ends.into_iter().flatten().any(|end| now >= end)
}
