//! The rules of a node's underlay interfaces: management, WireGuard's own transport, and the flows that its
//! agent.toml names. No rule of the policy holds there, and no venue's or overlay's address is let through.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::exemptions::{Exemptions, Named, WireGuard, overlap};
use super::granted::FIRST as FIRST_GRANT;
use super::overlap::translated;
use super::{Block, By, Rule, Ruleset, Selected, SelectorId, ServiceId};
use crate::address::AddressSet;
use crate::frontend::diagnostic::{Findings, Location};
use crate::frontend::inventory::{Inventory, Network};
use crate::frontend::policy::{Action, Section};
use crate::service::{ICMP, ICMPV6, Service, TCP, UDP};

/// Where no single host is: this network, loopback, groups and broadcast (RFC 6890, RFC 4291).
const NOBODY: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "::1/128", "ff00::/8"];

/// What passes on a node's underlay interfaces besides management: one list for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// The addresses that the interfaces have now, besides those that the inventory has as `underlay`.
    pub addresses: Vec<IpAddr>,
    /// WireGuard's own transport.
    pub wireguard: Vec<WireGuard>,
    /// Flows that the node may begin.
    pub outbound: Vec<Outbound>,
    /// Lists of flows by name.
    pub presets: Vec<UsedPreset>,
}

/// Flows that the node may begin, from any of its underlay addresses. Replies pass; nobody else may begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbound {
    /// TCP, UDP or ICMP by its IP protocol number; ICMP stands for ICMPv6 as well, and both for echo.
    pub protocol: u8,
    /// To whom.
    pub to: Vec<IpNet>,
    /// To which ports; none for ICMP.
    pub ports: Vec<u16>,
    /// Where it is configured, for findings.
    #[serde(skip)]
    pub location: Option<Location>,
}

/// A preset, and where it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedPreset {
    /// Which.
    pub preset: Preset,
    /// Where it is configured, for findings.
    #[serde(skip)]
    pub location: Option<Location>,
}

/// What an overlay's own program needs of the networks beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Tailscale: WireGuard and path discovery on UDP 41641, STUN, and TCP 443 to relays and the control server.
    Tailscale,
}

impl Preset {
    /// Its name in agent.toml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tailscale => "tailscale",
        }
    }

    /// The UDP port at which anyone may reach the node.
    #[must_use]
    pub const fn inbound(self) -> u16 {
        match self {
            Self::Tailscale => 41641,
        }
    }

    /// IP protocols and ports at which the node may reach anyone.
    #[must_use]
    pub const fn outbound(self) -> &'static [(u8, &'static [u16])] {
        match self {
            Self::Tailscale => &[(UDP, &[3478, 41641]), (TCP, &[443])],
        }
    }
}

/// The rules of a node's underlay interfaces, and the nodes that have addresses there.
#[derive(Clone, Debug)]
pub struct UnderlayRules {
    /// The rules.
    pub ruleset: Ruleset,
    /// The node, with the addresses that its interfaces have, and others with an `underlay` address.
    pub inventory: Inventory,
    /// The addresses of the interfaces that it was resolved for.
    pub given: Vec<IpAddr>,
    /// Addresses that the interfaces have and that are some node's overlay address, or a venue's, and whose: nothing
    /// passes to or from them.
    pub refused: Vec<(IpAddr, String)>,
}

/// Resolves what passes on a node's underlay interfaces, after the rules of its overlay interfaces: `overlay`, with
/// the same exemptions. `None` if it has no such interface, or the inventory does not have the node.
#[must_use]
pub fn underlay(
    overlay: &Ruleset,
    inventory: &Inventory,
    exemptions: &Exemptions,
    findings: &mut Findings,
) -> Option<UnderlayRules> {
    let config = exemptions.underlay.as_ref()?;
    let node = inventory.node(&exemptions.node)?;
    let of_overlay =
        AddressSet::from_addresses(inventory.nodes.iter().flat_map(|node| node.addresses.clone()));
    let is_own =
        |address: &IpAddr| !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    let venues: Vec<_> = overlay
        .venues
        .iter()
        .map(|venue| (&*venue.name, overlay.selector(venue.addresses).set.clone(), &venue.location))
        .collect();
    let (mut own, mut refused) = (Vec::new(), Vec::new());
    for address in node.underlay.iter().chain(&config.addresses).filter(|address| is_own(address)) {
        let venue = venues.iter().find(|(_, set, _)| set.contains(*address));
        if of_overlay.contains(*address) {
            let holder = inventory.holder(*address).map(|node| node.name.clone()).unwrap_or_default();
            refused.push((*address, format!("{holder} on the overlay")));
        } else if let Some((name, ..)) = venue {
            refused.push((*address, (*name).to_owned()));
        } else if !own.contains(address) {
            own.push(*address);
        }
    }
    let here =
        |other: &&crate::frontend::inventory::Node| other.name == node.name || !other.underlay.is_empty();
    let mut nodes: Vec<_> = inventory.nodes.iter().filter(here).cloned().collect();
    for node in nodes.iter_mut().filter(|other| other.name == node.name) {
        node.underlay.clone_from(&own);
    }
    let mut rules = Rules {
        ruleset: Ruleset::empty(overlay.hosts.clone(), Network::Underlay, overlay.dialect),
        number: overlay
            .rules
            .iter()
            .map(|rule| rule.number)
            .filter(|number| *number < FIRST_GRANT)
            .max()
            .unwrap_or(0),
        own: SelectorId(0),
        venues,
        findings,
    };
    rules.own = rules.push(node.name.clone(), AddressSet::from_addresses(own));
    rules.deny("overlay addresses", of_overlay.clone());
    let venues = rules.venues.iter().fold(AddressSet::default(), |all, (_, set, _)| all.union(set));
    rules.deny("venues", venues);
    rules.management(overlay, exemptions, &of_overlay);
    config.wireguard.iter().zip(1..).for_each(|(transport, index)| rules.wireguard(transport, index));
    config.outbound.iter().zip(1..).for_each(|(outbound, index)| rules.outbound(outbound, index));
    config.presets.iter().for_each(|used| rules.preset(used));
    let Rules { ruleset, .. } = rules;
    Some(UnderlayRules {
        ruleset,
        inventory: Inventory::new(inventory.source.clone(), nodes, None),
        given: config.addresses.clone(),
        refused,
    })
}

struct Rules<'a> {
    ruleset: Ruleset,
    number: u32,
    own: SelectorId,
    venues: Vec<(&'a str, AddressSet, &'a Location)>,
    findings: &'a mut Findings,
}

impl Named for Rules<'_> {
    fn push(&mut self, label: String, set: AddressSet) -> SelectorId {
        self.ruleset.selectors.push(Selected { label, set, narrowed: None, by: By::Address });
        SelectorId(self.ruleset.selectors.len() as u32 - 1)
    }

    fn service(&mut self, service: Service) -> ServiceId {
        let services = &mut self.ruleset.services;
        let known = services.iter().position(|other| *other == service);
        ServiceId(known.unwrap_or_else(|| {
            services.push(service);
            services.len() - 1
        }) as u32)
    }
}

impl Rules<'_> {
    fn rule(
        &mut self,
        (section, action): (Section, Action),
        name: String,
        location: &Option<Location>,
        blocks: Vec<Block>,
    ) {
        self.number += 1;
        let plain = Rule::plain(self.number, section, action);
        self.ruleset.rules.push(Rule { name: Some(name), location: location.clone(), blocks, ..plain });
    }

    fn accept(&mut self, section: Section, name: String, location: &Option<Location>, blocks: Vec<Block>) {
        self.rule((section, Action::Accept), name, location, blocks);
    }

    /// Keeps addresses off, before whatever a prefix below lets through.
    fn deny(&mut self, name: &str, set: AddressSet) {
        if set.is_empty() {
            return;
        }
        let (own, whom) = (self.own, self.push(name.to_owned(), with_translated(&set)));
        let all = self.service(Service::everything());
        let blocks = vec![between(whom, own, all), between(own, whom, all)];
        self.rule((Section::Underlay, Action::Deny), name.to_owned(), &None, blocks);
    }

    /// The management exemptions, under the numbers that they have on other interfaces. Who is on an overlay
    /// comes by it: such a source here is not who it says.
    fn management(&mut self, overlay: &Ruleset, exemptions: &Exemptions, of_overlay: &AddressSet) {
        let known = overlay.rules.iter().filter(|rule| rule.section == Section::Management);
        for (exemption, known) in exemptions.management.iter().zip(known) {
            let sources = exemption.sources.iter().map(|net| {
                let set = AddressSet::from_prefixes([net]).minus(&with_translated(of_overlay));
                self.push(net.to_string(), set)
            });
            let sources = sources.collect();
            let service = self.service_on(TCP, &exemption.ports);
            let block = Block { sources, destinations: vec![(self.own, service)], via: None };
            self.ruleset.rules.push(Rule { blocks: vec![block], ..known.clone() });
        }
    }

    fn wireguard(&mut self, transport: &WireGuard, index: usize) {
        let name = format!("underlay wireguard transport {index}");
        self.no_venue(&name, &transport.peers, &transport.location);
        let blocks = self.transport(self.own, transport);
        self.accept(Section::WireGuard, name, &transport.location, blocks);
    }

    fn outbound(&mut self, outbound: &Outbound, index: usize) {
        let name = format!("outbound {index}");
        self.no_venue(&name, &outbound.to, &outbound.location);
        let destinations = outbound.to.iter().map(|net| {
            let protocol = match (outbound.protocol, net) {
                (ICMP, IpNet::V6(_)) => ICMPV6,
                (protocol, _) => protocol,
            };
            (
                self.push(net.to_string(), AddressSet::from_prefixes([net])),
                self.service_on(protocol, &outbound.ports),
            )
        });
        let destinations = destinations.collect();
        let block = Block { sources: vec![self.own], destinations, via: None };
        self.accept(Section::Underlay, name, &outbound.location, vec![block]);
    }

    fn preset(&mut self, UsedPreset { preset, location }: &UsedPreset) {
        let nobody = NOBODY.map(|net| net.parse::<IpNet>().expect("a prefix"));
        let anyone = AddressSet::all().minus(&AddressSet::from_prefixes(&nobody));
        let (own, anyone) = (self.own, self.push("anyone".to_owned(), anyone));
        let inward = self.service_on(UDP, &[preset.inbound()]);
        let outward =
            preset.outbound().iter().map(|(protocol, ports)| (anyone, self.service_on(*protocol, ports)));
        let destinations = outward.collect();
        let blocks =
            vec![between(anyone, own, inward), Block { sources: vec![own], destinations, via: None }];
        self.accept(Section::Underlay, format!("{} preset", preset.name()), location, blocks);
    }

    /// A prefix that holds a venue's address says what the venues' rule takes back. Every address is no claim.
    fn no_venue(&mut self, what: &str, nets: &[IpNet], location: &Option<Location>) {
        for net in nets.iter().filter(|net| net.prefix_len() != 0) {
            let set = AddressSet::from_prefixes([net]);
            let named = |(_, addresses, _): &&(&str, AddressSet, &Location)| {
                with_translated(addresses).intersects(&set)
            };
            for (venue, _, place) in self.venues.iter().filter(named) {
                let help = "no venue's address passes on an underlay interface: name a prefix without it, or give the \
                            interface that leads to the venue role = \"exchange\"";
                self.findings.push(overlap(what, net, location, (venue, place), help));
            }
        }
    }
}

/// Addresses, and how a NAT64 gateway leads to them.
fn with_translated(set: &AddressSet) -> AddressSet {
    set.union(&translated(&set.v4))
}

fn between(source: SelectorId, destination: SelectorId, service: ServiceId) -> Block {
    Block { sources: vec![source], destinations: vec![(destination, service)], via: None }
}
