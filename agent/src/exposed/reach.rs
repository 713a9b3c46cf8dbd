//! Who reaches a socket, and by which interface. Pure: what the host and the kernel say is an argument.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use bulkhead_api::link::Link;
use bulkhead_policy::address::AddressSet;
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::resolve::{Ruleset, UnderlayRules};
use bulkhead_policy::service::{TCP, UDP};
use bulkhead_policy::sources::{Target, name, sources};
use ipnet::IpNet;
use serde::Serialize;

use super::links::Interface;
use super::sockets::{Socket, Transport};
use crate::config::Role;

/// What is enforced: rules of the node, and who is cut off.
pub struct Enforced {
    /// The node.
    pub node: String,
    /// Who exists.
    pub inventory: Inventory,
    /// The rules on overlay interfaces.
    pub overlay: Ruleset,
    /// The rules on exchange interfaces.
    pub exchange: Option<Ruleset>,
    /// The rules on underlay interfaces.
    pub underlay: Option<UnderlayRules>,
    /// Addresses of who is quarantined.
    pub cut_off: AddressSet,
    /// When, ns since the Unix epoch.
    pub now: u64,
}

/// What becomes of packets that come in by an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The rules of a role judge them, and these link protocols pass.
    Judged(Role, Vec<Link>),
    /// It is managed, and nothing drops them all the same; why.
    Open(String),
    /// It is not managed: the guard alone is there.
    Unmanaged,
}

/// The host.
pub struct World {
    /// Interfaces by which packets come in, and what becomes of these.
    pub interfaces: Vec<(Interface, Standing)>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// What is enforced, if that is known.
    pub enforced: Option<Enforced>,
    /// The nftables guard keeps overlay addresses off interfaces that are not judged.
    pub is_guarded: bool,
}

/// Who reaches a socket by one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Reach {
    /// Nobody.
    Nobody {
        /// Why.
        why: String,
    },
    /// Those whom the policy lets in.
    Some {
        /// Nodes, by name.
        nodes: Vec<String>,
        /// Addresses of no node.
        others: Vec<IpNet>,
    },
    /// Whoever can route packets here.
    Anyone {
        /// Why.
        why: String,
    },
}

/// A way to a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// The interface.
    pub interface: String,
    /// Whether what no rule admits is dropped there.
    pub enforced: bool,
    /// Who.
    #[serde(flatten)]
    pub reach: Reach,
}

impl Socket {
    /// Whether it takes packets of this host alone.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.is_loopback()
    }

    fn takes(&self, address: IpAddr) -> bool {
        match self.address {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => self.is_dual || address.is_ipv6(),
            own if own.is_unspecified() => address.is_ipv4(),
            own => own == address,
        }
    }

    /// IP protocol and port of a packet to it.
    fn service(&self) -> (u8, u16) {
        match self.transport {
            Transport::Tcp => (TCP, self.port),
            Transport::Udp => (UDP, self.port),
            Transport::Raw => (self.port as u8, 0),
        }
    }
}

impl World {
    /// Whether a socket is on one of this node's overlay addresses, which the guard keeps off other interfaces.
    #[must_use]
    pub fn is_overlay(&self, socket: &Socket) -> bool {
        let node = self.enforced.as_ref().and_then(|enforced| enforced.inventory.node(&enforced.node));
        node.is_some_and(|node| node.addresses.contains(&socket.address))
    }

    /// The ways to a socket: one for each interface whose packets it takes.
    #[must_use]
    pub fn ways(&self, socket: &Socket) -> Vec<Way> {
        if socket.is_loopback() {
            return Vec::new();
        }
        let leads = |interface: &Interface| {
            socket.device.is_none_or(|device| device == interface.index || interface.vrf == Some(device))
        };
        let ways = self.interfaces.iter().filter(|(interface, _)| leads(interface));
        ways.map(|(interface, standing)| Way {
            interface: interface.name.clone(),
            enforced: matches!(standing, Standing::Judged(..)),
            reach: self.reach(socket, standing),
        })
        .collect()
    }

    fn reach(&self, socket: &Socket, standing: &Standing) -> Reach {
        match (standing, &self.enforced) {
            (Standing::Unmanaged, _) if self.is_guarded && self.is_overlay(socket) => {
                Reach::Nobody { why: "the guard keeps overlay addresses off it".to_owned() }
            }
            (Standing::Unmanaged, _) => Reach::Anyone { why: "not managed".to_owned() },
            (Standing::Open(why), _) => Reach::Anyone { why: why.clone() },
            (Standing::Judged(_, link), _) if by_link(socket, link).is_some() => {
                let protocol = by_link(socket, link).map_or("", Link::name);
                Reach::Anyone { why: format!("its `link` has {protocol}") }
            }
            (Standing::Judged(role, _), Some(enforced)) => enforced.reach(socket, *role, &self.addresses),
            // Not to be taken for closed.
            (Standing::Judged(..), None) => {
                Reach::Anyone { why: "the enforced policy is not known".to_owned() }
            }
        }
    }
}

/// The link protocol that lets datagrams of everybody on the link through to a socket, if one does.
fn by_link(socket: &Socket, link: &[Link]) -> Option<Link> {
    let ports = |protocol: &Link| -> &[u16] {
        match protocol {
            Link::Ptp | Link::PtpUnicast => &[319, 320],
            Link::Dhcp => &[67, 68, 546, 547],
            Link::Bfd => &[3784, 3785],
            Link::BfdMultihop => &[4784],
            Link::BfdLag => &[6784],
            _ => &[],
        }
    };
    let is_meant = |protocol: &&Link| match socket.transport {
        Transport::Udp => ports(protocol).contains(&socket.port),
        Transport::Tcp => false,
        Transport::Raw => **protocol == Link::Vrrp && socket.port == 112,
    };
    link.iter().find(is_meant).copied()
}

impl Enforced {
    /// The rules of a role, and who has which address there.
    fn of_role(&self, role: Role) -> Option<(&Ruleset, &Inventory)> {
        match role {
            Role::Overlay => Some((&self.overlay, &self.inventory)),
            Role::Exchange => self.exchange.as_ref().map(|rules| (rules, &self.inventory)),
            Role::Underlay => self.underlay.as_ref().map(|rules| (&rules.ruleset, &rules.inventory)),
            // Nobody reaches a socket from elsewhere by lo.
            Role::Local => None,
        }
    }

    /// Whom the rules of a role let in to a socket of a host with these addresses.
    fn reach(&self, socket: &Socket, role: Role, addresses: &BTreeSet<IpAddr>) -> Reach {
        let found = self.of_role(role);
        let found =
            found.and_then(|(rules, inventory)| Some((rules, inventory, inventory.node(&self.node)?)));
        let Some((ruleset, inventory, node)) = found else {
            return Reach::Anyone { why: "the enforced policy does not have this node".to_owned() };
        };
        // Of each range of multicast groups, the first: rules are about whole ranges.
        let groups = ruleset.groups_of(node);
        let groups4 = groups.v4.as_slice().iter().map(|(first, _)| IpAddr::V4((*first).into()));
        let groups6 = groups.v6.as_slice().iter().map(|(first, _)| IpAddr::V6((*first).into()));
        let own = addresses.iter().chain(node.addresses_on(ruleset.network)).copied();
        let destinations: BTreeSet<IpAddr> = own
            .chain(groups4)
            .chain(groups6)
            .chain([socket.address])
            .filter(|address| !address.is_unspecified() && socket.takes(*address))
            .collect();
        let (protocol, port) = socket.service();
        let from = |destination: &IpAddr| {
            let target = Target { destination: *destination, protocol, port };
            sources(ruleset, inventory, node, target, &self.cut_off, self.now)
        };
        let all = destinations.iter().map(from).fold(AddressSet::default(), |all, more| all.union(&more));
        let named = name(ruleset, &self.inventory, &all);
        if named.anyone {
            Reach::Anyone { why: "a rule admits every address".to_owned() }
        } else if named.nodes.is_empty() && named.others.is_empty() {
            Reach::Nobody { why: "no rule admits anybody".to_owned() }
        } else {
            Reach::Some { nodes: named.nodes, others: named.others }
        }
    }
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;
