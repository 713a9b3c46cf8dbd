//! What the agent's configuration lets through on one node, whatever the policy says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::overlays::{OverlayServices, Served};
use super::resolver::Resolver;
use super::underlay::Underlay;
use super::{Block, Rule, Ruleset, SelectorId, ServiceId};
use crate::address::AddressSet;
use crate::frontend::diagnostic::{Diagnostic, Location, Related, Severity};
use crate::frontend::inventory::Network;
use crate::frontend::policy::{Action, Section};
use crate::interval::Intervals;
use crate::service::{Service, TCP, UDP};

/// What one node lets through before its policy is asked: from its agent.toml, for
/// [`super::resolve_with`]. Neither may touch a venue's addresses: that is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemptions {
    /// The node, by its name in the inventory. Without such a node there is nothing to exempt.
    pub node: String,
    /// Management access, tried before everything else, on both networks. Its cells carry
    /// `CELL_EXEMPT`.
    pub management: Vec<Management>,
    /// WireGuard's own transport, on [`crate::frontend::inventory::Network::Underlay`] only, tried before
    /// the venues.
    pub wireguard: Vec<WireGuard>,
    /// What overlays serve on the node itself, on [`Network::Overlay`] only: the node may begin, and nobody
    /// else.
    pub overlays: Vec<OverlayServices>,
    /// What passes on underlay interfaces, for [`super::underlay()`]; none: the node has no such interface.
    pub underlay: Option<Underlay>,
}

/// Who may always open TCP connections to the node's own addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Management {
    /// From where.
    pub sources: Vec<IpNet>,
    /// To which TCP ports.
    pub ports: Vec<u16>,
    /// Where it is configured, for findings.
    #[serde(skip)]
    pub location: Option<Location>,
}

/// A WireGuard interface whose packets travel over exchange or underlay interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireGuard {
    /// The UDP port on which this node listens: peers may begin.
    pub port: u16,
    /// The peers' own addresses, outside the tunnel.
    pub peers: Vec<IpNet>,
    /// The UDP ports to which this node may begin.
    pub peer_ports: PeerPorts,
    /// Where it is configured, for findings.
    #[serde(skip)]
    pub location: Option<Location>,
}

/// The UDP ports that WireGuard's peers are reached at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerPorts {
    /// The node's own.
    #[default]
    Same,
    /// These.
    Of(Vec<u16>),
    /// Any: the peers are behind translators (NAT), which choose their ports.
    Any,
}

/// What takes in the selectors and services that rules of the agent name.
pub(super) trait Named {
    /// Takes in addresses.
    fn push(&mut self, label: String, set: AddressSet) -> SelectorId;

    /// Takes in a service, once.
    fn service(&mut self, service: Service) -> ServiceId;

    /// Takes in prefixes, each by itself.
    fn prefixes(&mut self, nets: &[IpNet]) -> Vec<SelectorId> {
        nets.iter().map(|net| self.push(net.to_string(), AddressSet::from_prefixes([net]))).collect()
    }

    /// Takes in ports of a protocol.
    fn service_on(&mut self, protocol: u8, ports: &[u16]) -> ServiceId {
        let ports = Intervals::new(ports.iter().map(|port| (*port, *port)).collect());
        self.service(Service::new(Some(protocol), ports, false))
    }

    /// What WireGuard's own transport is between these addresses and its peers, both ways.
    fn transport(&mut self, own: SelectorId, transport: &WireGuard) -> Vec<Block> {
        let peers = self.prefixes(&transport.peers);
        let inward = self.service_on(UDP, &[transport.port]);
        let outward = match &transport.peer_ports {
            PeerPorts::Same => inward,
            PeerPorts::Of(ports) => self.service_on(UDP, ports),
            PeerPorts::Any => self.service(Service::new(Some(UDP), Intervals::all(), false)),
        };
        let destinations = peers.iter().map(|peer| (*peer, outward)).collect();
        vec![
            Block { sources: peers, destinations: vec![(own, inward)], via: None },
            Block { sources: vec![own], destinations, via: None },
        ]
    }
}

impl Named for Resolver<'_> {
    fn push(&mut self, label: String, set: AddressSet) -> SelectorId {
        Resolver::push(self, label, set)
    }

    fn service(&mut self, service: Service) -> ServiceId {
        Resolver::service(self, service)
    }
}

/// That a prefix of the agent's configuration holds a venue's address.
pub(super) fn overlap(
    what: &str,
    net: &IpNet,
    location: &Option<Location>,
    (venue, place): (&str, &Location),
    help: &str,
) -> Diagnostic {
    Diagnostic {
        location: location.clone(),
        help: Some(help.into()),
        related: vec![Related { message: format!("{venue} is here"), location: place.clone() }],
        ..Diagnostic::global(Severity::Error, format!("{what}: \"{net}\" overlaps {venue}"))
    }
}

impl Resolver<'_> {
    /// The rules of exemptions, in the order in which they are tried: before all others.
    pub(super) fn exempt(&mut self, exemptions: &Exemptions, ruleset: &Ruleset) -> Vec<Rule> {
        let inventory = self.inventory;
        let network = self.sets.directory.network();
        let Some(node) = inventory.node(&exemptions.node) else { return Vec::new() };
        let own = AddressSet::from_addresses(node.addresses_on(network).iter().copied());
        let own = self.push(node.name.clone(), own);
        let venues = self.policy.venues.iter().map(|venue| venue.feeds.len() + venue.sessions.len() + 1);
        let mut number = self.policy.rules() + venues.sum::<usize>() as u32;
        let mut all = Vec::new();
        let mut rule = |section, name: String, location: &Option<Location>, blocks| {
            number += 1;
            let plain = Rule::plain(number, section, Action::Accept);
            all.push(Rule { name: Some(name), location: location.clone(), blocks, ..plain });
        };
        for (index, exemption) in (1..).zip(&exemptions.management) {
            let name = format!("management exemption {index}");
            self.no_venue(&name, &exemption.sources, &exemption.location, ruleset);
            let sources = self.prefixes(&exemption.sources);
            let service = self.service_on(TCP, &exemption.ports);
            let block = Block { sources, destinations: vec![(own, service)], via: None };
            rule(Section::Management, name, &exemption.location, vec![block]);
        }
        for (index, transport) in (1..).zip(&exemptions.wireguard) {
            let name = format!("wireguard transport {index}");
            self.no_venue(&name, &transport.peers, &transport.location, ruleset);
            let blocks = self.transport(own, transport);
            // The numbers are the same on both networks.
            let blocks = if network == Network::Underlay { blocks } else { Vec::new() };
            rule(Section::WireGuard, name, &transport.location, blocks);
        }
        for OverlayServices { overlay, location } in &exemptions.overlays {
            let name = format!("{} services", overlay.name());
            let served = overlay.served(node.addresses_on(Network::Overlay));
            if served.is_empty() && network == Network::Overlay {
                self.none_served(&name, &node.name, location);
            }
            let addresses: BTreeSet<IpAddr> = served.iter().map(|served| served.address).collect();
            addresses.iter().for_each(|address| self.nobodys(&name, *address, location));
            let nets: Vec<IpNet> = addresses.into_iter().map(IpNet::from).collect();
            self.no_venue(&name, &nets, location, ruleset);
            let mut destinations = Vec::new();
            for Served { address, protocol, ports } in served {
                let there = self.push(address.to_string(), AddressSet::from_addresses([address]));
                destinations.push((there, self.service_on(protocol, ports)));
            }
            let block = Block { sources: vec![own], destinations, via: None };
            let blocks = if network == Network::Overlay { vec![block] } else { Vec::new() };
            rule(Section::Overlay, name, location, blocks);
        }
        all
    }

    /// An exemption of nothing would be thought to be one.
    fn none_served(&mut self, what: &str, node: &str, location: &Option<Location>) {
        let message = format!("{what}: {node} has no address in 100.64.0.0/10, so nothing is let through");
        let help =
            "write a rule for the resolver's address: the last but one of the overlay's network".to_owned();
        let warning =
            Diagnostic { location: location.clone(), ..Diagnostic::global(Severity::Warning, message) };
        self.findings.push(warning.help(help));
    }

    /// An overlay's own address is no node's: the exemption would be a way to that node.
    fn nobodys(&mut self, what: &str, address: IpAddr, location: &Option<Location>) {
        let net = IpNet::from(address);
        let routed = self.inventory.nodes.iter().find_map(|node| {
            // The default route of an exit node is no claim to an address.
            let route = node.routes.iter().find(|route| route.prefix_len() != 0 && route.contains(&net))?;
            Some((node, route))
        });
        let (message, help) = match (self.inventory.holder(address), routed) {
            (Some(holder), _) => (
                format!("{what}: {address} is {}'s in the inventory", holder.name),
                "an overlay serves this address on each host itself: remove it from the node".to_owned(),
            ),
            (None, Some((node, route))) => (
                format!("{what}: {address} is in the route {route} of {} in the inventory", node.name),
                "an overlay serves this address on each host itself: take it out of the node's routes"
                    .to_owned(),
            ),
            (None, None) => return,
        };
        let error = Diagnostic { location: location.clone(), ..Diagnostic::global(Severity::Error, message) };
        self.findings.push(error.help(help));
    }

    /// An exemption is tried before the default deny: one that holds a venue's address would undo it.
    fn no_venue(&mut self, what: &str, nets: &[IpNet], location: &Option<Location>, ruleset: &Ruleset) {
        for net in nets {
            let set = AddressSet::from_prefixes([net]);
            for venue in &ruleset.venues {
                if !self.selectors[venue.addresses.0 as usize].set.intersects(&set) {
                    continue;
                }
                let help =
                    "what passes between a venue and this side is its feeds and sessions, without exception";
                let venue = (&*venue.name, &venue.location);
                self.findings.push(overlap(what, net, location, venue, help));
            }
        }
    }
}
