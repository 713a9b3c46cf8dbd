//! Who is there: the nodes that the overlays know, each once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bulkhead_policy::diagnostic::{Findings, Severity};
use bulkhead_policy::inventory::import::{self, Import, Listed, Merged};
use bulkhead_policy::inventory::{Owner, User};
use bulkhead_policy::source::Source;
use ipnet::IpNet;

use super::host::{Host, Overlay, WireGuard};
use super::{netbird, text};

/// What nodes carry of whom nothing is known but a key and addresses.
pub const MESH: &str = "tag:mesh";

/// Who is there.
pub struct Nodes {
    /// This host's name among them.
    pub own: String,
    /// This host's addresses on interfaces that are managed.
    pub addresses: Vec<IpAddr>,
    /// All of them.
    pub merged: Merged,
    /// What the inventory cannot say, for its comments.
    pub notes: Vec<String>,
}

/// The nodes of a host's overlays. What could not be taken over is among the warnings.
pub fn nodes(host: &Host, warnings: &mut Vec<String>) -> Nodes {
    let mut roll = Roll::default();
    let own = text::name(host.name.split('.').next().unwrap_or_default());
    roll.own(listed(if own.is_empty() { "this-host" } else { &own }.to_owned(), None));
    // Before all others: what is this host's is no peer's.
    host.managed().for_each(|(interface, _)| roll.own_addresses(interface.own()));
    let users = tailscale(host, &mut roll, warnings);
    let is_netbird_listed = match host.netbird.as_deref().map(netbird::nodes) {
        Some(Ok(nodes)) => {
            roll.take_list(nodes);
            true
        }
        Some(Err(why)) => {
            warnings.push(format!("what `netbird status --json` prints is not understood: {why}"));
            false
        }
        None => false,
    };
    for (interface, overlay) in host.managed() {
        let is_listed = match overlay {
            Overlay::Tailscale => host.tailscale.is_some(),
            Overlay::NetBird => is_netbird_listed,
            Overlay::WireGuard => false,
        };
        if let Some(wireguard) = interface.wireguard.as_ref().filter(|_| !is_listed) {
            roll.take_peers(&interface.name, wireguard);
        }
    }
    warnings.append(&mut roll.warnings);
    let (own, notes) = (roll.nodes[0].name.clone(), roll.notes);
    let mut addresses = roll.nodes[0].addresses.clone().unwrap_or_default();
    addresses.sort_unstable();
    let merged = import::merge(Import { nodes: roll.nodes, users }, None, &mut Findings::default());
    Nodes { own, addresses, merged, notes }
}

/// Takes over what Tailscale knows; its users.
fn tailscale(host: &Host, roll: &mut Roll, warnings: &mut Vec<String>) -> Vec<User> {
    let Some(status) = &host.tailscale else { return Vec::new() };
    let mut findings = Findings::default();
    let list = Source::new("`tailscale status --json`", status);
    let import = import::tailscale(&list, &mut findings).filter(|_| !findings.has_errors());
    let worth = findings.0.iter().filter(|finding| import.is_none() == (finding.severity == Severity::Error));
    warnings.extend(worth.map(ToString::to_string));
    let Some(import) = import else { return Vec::new() };
    roll.take_list(import.nodes);
    import.users
}

/// A key as WireGuard writes it.
pub fn key(text: &str) -> Option<[u8; 32]> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

fn listed(name: String, key: Option<[u8; 32]>) -> Listed {
    Listed {
        name,
        key,
        addresses: Some(Vec::new()),
        routes: Some(Vec::new()),
        owner: Some(Owner::Tags(vec![MESH.to_owned()])),
        posture: Default::default(),
        posture_expires: Default::default(),
        expires: None,
        jailed: None,
    }
}

/// Nodes of which no two share a name, a key or an address. The first is this host.
#[derive(Default)]
struct Roll {
    nodes: Vec<Listed>,
    by_key: HashMap<[u8; 32], usize>,
    by_address: HashMap<IpAddr, usize>,
    names: HashSet<String>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Roll {
    fn own(&mut self, own: Listed) {
        self.names.insert(own.name.clone());
        self.nodes.push(own);
    }

    fn own_addresses(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        addresses.for_each(|address| self.hold(0, address));
    }

    /// A list whose first is this host: what it is called there, it is called here.
    fn take_list(&mut self, list: Vec<Listed>) {
        let mut list = list.into_iter();
        let Some(own) = list.next() else { return };
        if self.nodes[0].key.is_none() && !own.name.is_empty() {
            self.names.remove(&self.nodes[0].name);
            self.names.insert(own.name.clone());
            let before = self.nodes[0].addresses.take();
            let addresses = own.addresses.clone().unwrap_or_default();
            self.nodes[0] = Listed { addresses: before, ..own };
            self.by_key.extend(self.nodes[0].key.map(|key| (key, 0)));
            self.own_addresses(addresses.into_iter());
        } else {
            self.own_key(own.key, "another overlay");
            self.own_addresses(own.addresses.unwrap_or_default().into_iter());
        }
        list.for_each(|listed| self.take(listed, "another overlay"));
    }

    /// A node has one key.
    fn own_key(&mut self, key: Option<[u8; 32]>, place: &str) {
        let Some(key) = key else { return };
        match self.nodes[0].key {
            None => self.nodes[0].key = Some(key),
            Some(other) if other != key => {
                let key = BASE64_STANDARD.encode(key);
                self.notes.push(format!("on {place} this host has the key {key}; a node has one"));
            }
            Some(_) => {}
        }
        self.by_key.insert(key, 0);
    }

    /// The peers of an interface: single addresses are their own, prefixes are what they route.
    fn take_peers(&mut self, interface: &str, wireguard: &WireGuard) {
        self.own_key(wireguard.key, interface);
        let mut peers: Vec<_> = wireguard.peers.iter().collect();
        // As wg lists them is no order.
        peers.sort_by_key(|peer| (peer.allowed.iter().min().copied(), peer.key));
        for peer in peers {
            let (single, prefixes): (Vec<IpNet>, Vec<IpNet>) =
                peer.allowed.iter().partition(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
            let mut addresses: Vec<IpAddr> = single.iter().map(IpNet::addr).collect();
            addresses.sort_unstable();
            let mut routes: Vec<IpNet> = prefixes.iter().map(IpNet::trunc).collect();
            routes.sort_unstable();
            let name = match addresses.first() {
                Some(address) => format!("peer-{}", address.to_string().replace(['.', ':'], "-")),
                None => format!(
                    "peer-{:02x}{:02x}{:02x}{:02x}",
                    peer.key[0], peer.key[1], peer.key[2], peer.key[3]
                ),
            };
            let listed =
                Listed { addresses: Some(addresses), routes: Some(routes), ..listed(name, Some(peer.key)) };
            self.take(listed, interface);
        }
    }

    fn take(&mut self, mut listed: Listed, place: &str) {
        let addresses = listed.addresses.replace(Vec::new()).unwrap_or_default();
        let routes = listed.routes.replace(Vec::new()).unwrap_or_default();
        let known = listed.key.and_then(|key| self.by_key.get(&key).copied());
        let index = known.unwrap_or_else(|| {
            listed.name = self.distinct(listed.name, addresses.first());
            self.by_key.extend(listed.key.map(|key| (key, self.nodes.len())));
            self.nodes.push(listed);
            self.nodes.len() - 1
        });
        for address in addresses {
            if address.is_multicast() || address.is_unspecified() || address.to_canonical() != address {
                self.leave_out(index, &address.to_string(), place, "is nobody's own");
            } else if let Some(other) = self.by_address.get(&address).copied().filter(|other| *other != index)
            {
                let why = format!("is {}'s, and an address is one node's", self.nodes[other].name);
                self.leave_out(index, &address.to_string(), place, &why);
            } else {
                self.hold(index, address);
            }
        }
        for route in routes {
            // 224.0.0.0/4 and ff00::/8: routing protocols have them.
            if route.addr().is_multicast() {
                self.leave_out(index, &route.to_string(), place, "is multicast, which no peer routes");
            } else if let Some(all) = &mut self.nodes[index].routes
                && !all.contains(&route)
            {
                all.push(route);
            }
        }
    }

    fn leave_out(&mut self, index: usize, what: &str, place: &str, why: &str) {
        let name = &self.nodes[index].name;
        self.warnings.push(format!("{what} of {name} on {place} is not in the inventory: it {why}"));
    }

    fn hold(&mut self, index: usize, address: IpAddr) {
        if self.by_address.insert(address, index).is_none()
            && let Some(all) = &mut self.nodes[index].addresses
        {
            all.push(address);
        }
    }

    /// A name that nobody has.
    fn distinct(&mut self, name: String, address: Option<&IpAddr>) -> String {
        let name = match (name.is_empty(), address) {
            (false, _) => name,
            (true, Some(address)) => format!("peer-{}", address.to_string().replace(['.', ':'], "-")),
            (true, None) => "peer".to_owned(),
        };
        let numbered = (2..).map(|number: u32| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        let free = names.find(|name| !self.names.contains(name)).unwrap_or(name);
        self.names.insert(free.clone());
        free
    }
}
