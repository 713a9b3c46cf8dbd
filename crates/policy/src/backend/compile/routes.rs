//! Which addresses lie behind routers, for the errors that these send about them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use bulkhead_abi::{LpmKey, Routed, from_ip};
use ipnet::IpNet;

use crate::address::{AddressSet, prefixes6};
use crate::frontend::inventory::{Inventory, Network, Node};

/// An address in its IPv6 form, and how many of its bits count.
type Prefix = (u128, u8);

/// The routes through the overlay that others than `node` have, and the nodes among the addresses in them.
///
/// Routers that have a route in common are one group, since either may carry a packet. A node speaks for its
/// own group alone, not for that of a router whose route happens to hold its address. And no route to
/// everywhere leads to a node. A workload's address is its host's own, and no way through it.
pub(super) fn routes(inventory: &Inventory, node: &Node, network: Network) -> Vec<(LpmKey, Routed)> {
    let routers: Vec<(&Node, Vec<IpNet>)> = inventory
        .routers()
        .filter(|router| router.name != node.name)
        .map(|router| (router, ways(inventory, router, network)))
        .filter(|(_, ways)| !ways.is_empty())
        .collect();
    let groups = groups(&routers);
    let mut entries: BTreeMap<Prefix, Routed> = BTreeMap::new();
    let mut lengths: Vec<u8> = Vec::new();
    for ((_, ways), group) in routers.iter().zip(&groups) {
        for route in ways {
            entries.insert(prefix(route), Routed { behind: *group, speaks_for: *group });
            lengths.push(prefix(route).1);
        }
    }
    // A route to every IPv6 address is none to those that stand for IPv4.
    if !entries.is_empty() {
        entries.entry((mapped4(0), 96)).or_default();
    }
    lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
    lengths.dedup();
    let behind = |address: IpAddr| {
        let bits = mapped(address);
        let leads = |length: &&u8| **length > prefix(&everywhere(address)).1;
        let holding =
            lengths.iter().filter(leads).find_map(|length| entries.get(&(truncated(bits, *length), *length)));
        holding.map_or(0, |routed| routed.behind)
    };
    let mut nodes: Vec<(Prefix, Routed)> = Vec::new();
    let mut apart = Vec::new();
    let group_of: HashMap<&str, u32> =
        routers.iter().zip(&groups).map(|((router, _), group)| (&*router.name, *group)).collect();
    for other in &inventory.nodes {
        let speaks_for = group_of.get(&*other.name).copied().unwrap_or(0);
        for address in other.addresses_on(network) {
            let routed = Routed { behind: behind(*address), speaks_for };
            if routed == Routed::default() {
                apart.push(*address);
            } else {
                nodes.push(((mapped(*address), 128), routed));
            }
        }
    }
    // Nobody's router and behind none: of interest only in a route to everywhere. They may be many.
    let to_everywhere =
        |address: &IpAddr| entries.get(&prefix(&everywhere(*address))).is_some_and(|to| to.behind != 0);
    apart.retain(to_everywhere);
    let apart = AddressSet::from_addresses(apart);
    let whole4 = apart.v4.as_slice().iter().map(|(first, last)| (mapped4(*first), mapped4(*last)));
    let whole = whole4.chain(apart.v6.as_slice().iter().copied());
    nodes.extend(
        whole.flat_map(|(first, last)| prefixes6(first, last)).map(|prefix| (prefix, Routed::default())),
    );
    entries.extend(nodes);
    let mut routes: Vec<_> = entries
        .into_iter()
        .map(|((bits, length), routed)| {
            let address = from_ip(IpAddr::V6(bits.into()));
            (LpmKey { prefix: length.into(), address }, routed)
        })
        .collect();
    routes.sort_unstable_by_key(|(key, _)| (key.prefix, key.address));
    routes
}

/// The routes of a node that lead to somebody else.
fn ways(inventory: &Inventory, router: &Node, network: Network) -> Vec<IpNet> {
    let mut routes = router.routes_on(network).to_vec();
    for address in inventory.workloads_of(&router.name).flat_map(|workload| workload.addresses_on(network)) {
        let own = IpNet::from(*address);
        routes.retain(|route| *route != own);
    }
    routes
}

/// The number of each router's group, from 1.
fn groups(routers: &[(&Node, Vec<IpNet>)]) -> Vec<u32> {
    let mut group: Vec<usize> = (0..routers.len()).collect();
    let mut first: HashMap<Prefix, usize> = HashMap::new();
    for (index, (_, ways)) in routers.iter().enumerate() {
        for route in ways {
            let (other, own) = (group[*first.entry(prefix(route)).or_insert(index)], group[index]);
            if other != own {
                group.iter_mut().filter(|group| **group == own).for_each(|group| *group = other);
            }
        }
    }
    group.into_iter().map(|group| group as u32 + 1).collect()
}

fn mapped4(bits: u32) -> u128 {
    Ipv4Addr::from_bits(bits).to_ipv6_mapped().to_bits()
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn prefix(net: &IpNet) -> Prefix {
    let length = net.prefix_len() + if net.addr().is_ipv4() { 96 } else { 0 };
    (truncated(mapped(net.addr()), length), length)
}

fn truncated(bits: u128, length: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// The route to everywhere of an address's family.
fn everywhere(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bulkhead_abi::Routed;

    use super::{mapped, routes, truncated};
    use crate::frontend::diagnostic::Findings;
    use crate::frontend::inventory::{self, Inventory, Network};
    use crate::frontend::source::Source;

    const INVENTORY: &str = r#"{"nodes": [
        {"name": "here", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:a"], "routes": ["10.1.0.0/16"]},
        {"name": "peer", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:a"]},
        {"name": "other", "addresses": ["100.64.0.3", "fd7a:115c:a1e0::3"], "tags": ["tag:a"]},
        {"name": "office", "addresses": ["100.64.0.4"], "tags": ["tag:a"], "routes": ["10.20.0.0/16"]},
        {"name": "spare", "addresses": ["100.64.0.5"], "tags": ["tag:a"], "routes": ["10.20.0.0/16"]},
        {"name": "lab", "addresses": ["100.64.0.6"], "tags": ["tag:a"], "routes": ["10.20.5.0/24"]},
        {"name": "printer", "addresses": ["10.20.0.9"], "tags": ["tag:a"]},
        {"name": "exit", "addresses": ["100.64.0.7", "fd7a:115c:a1e0::7"], "tags": ["tag:a"],
         "routes": ["0.0.0.0/0", "::/0"]}
    ]}"#;

    /// What programs find.
    fn look_up(table: &[(bulkhead_abi::LpmKey, Routed)], address: &str) -> Routed {
        let bits = mapped(address.parse::<IpAddr>().unwrap());
        let holds = |key: &bulkhead_abi::LpmKey| {
            let words = key.address.iter().fold(0, |bits, word| bits << 32 | u128::from(u32::from_be(*word)));
            truncated(bits, key.prefix as u8) == words
        };
        table.iter().rev().find(|(key, _)| holds(key)).map(|(_, routed)| *routed).unwrap_or_default()
    }

    fn inventory(text: &str) -> Inventory {
        inventory::parse(&Source::new("inventory.json", text), &mut Findings::default()).unwrap()
    }

    #[test]
    fn errors_are_believed_of_who_has_an_address_or_routes_it() {
        let inventory = inventory(INVENTORY);
        let table = routes(&inventory, inventory.node("here").unwrap(), Network::Overlay);
        let may_know = |source: &str, destination: &str| {
            let behind = look_up(&table, destination).behind;
            source == destination || behind != 0 && look_up(&table, source).speaks_for == behind
        };
        for (source, destination) in [
            ("100.64.0.4", "10.20.0.7"),
            ("100.64.0.5", "10.20.0.7"),
            ("10.20.0.1", "10.20.0.7"),
            ("10.20.5.1", "10.20.5.7"),
            ("100.64.0.6", "10.20.5.7"),
            ("100.64.0.7", "192.0.2.1"),
            ("198.51.100.1", "192.0.2.1"),
            ("fd7a:115c:a1e0::7", "2001:db8::1"),
            ("2001:db8:ffff::1", "2001:db8::1"),
            ("100.64.0.4", "10.20.0.9"),
        ] {
            assert!(may_know(source, destination), "{source} of {destination}");
        }
        for (source, destination) in [
            // Nodes of each other, the exit node and routers of nodes, and of each other's routes.
            ("100.64.0.3", "100.64.0.2"),
            ("fd7a:115c:a1e0::3", "fd7a:115c:a1e0::2"),
            ("100.64.0.7", "100.64.0.2"),
            ("fd7a:115c:a1e0::7", "fd7a:115c:a1e0::2"),
            ("100.64.0.4", "100.64.0.2"),
            ("198.51.100.1", "100.64.0.2"),
            ("100.64.0.3", "10.20.0.7"),
            ("100.64.0.6", "10.20.0.7"),
            ("100.64.0.7", "10.20.0.7"),
            ("100.64.0.4", "192.0.2.1"),
            ("100.64.0.3", "192.0.2.1"),
            // A node in somebody's route is not that router.
            ("10.20.0.9", "10.20.0.7"),
            ("10.20.0.1", "10.20.5.7"),
            // IPv4 is not behind the IPv6 exit by its mapped form.
            ("100.64.0.3", "100.64.0.4"),
        ] {
            assert!(!may_know(source, destination), "{source} of {destination}");
        }
        assert!(routes(&inventory, inventory.node("here").unwrap(), Network::Underlay).is_empty());
    }

    #[test]
    fn an_ipv6_exit_is_none_for_ipv4() {
        let text = r#"{"nodes": [{"name": "here", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
            {"name": "exit", "addresses": ["fd7a:115c:a1e0::7"], "tags": ["tag:a"], "routes": ["::/0"]}]}"#;
        let inventory = inventory(text);
        let table = routes(&inventory, inventory.node("here").unwrap(), Network::Overlay);
        assert_eq!(look_up(&table, "192.0.2.1"), Routed::default());
        assert_ne!(look_up(&table, "2001:db8::1"), Routed::default());
    }

    #[test]
    fn nobody_routes_and_nothing_is_asked() {
        let text = r#"{"nodes": [{"name": "here", "addresses": ["100.64.0.1"], "tags": ["tag:a"], "routes": ["0.0.0.0/0"]},
            {"name": "peer", "addresses": ["100.64.0.2"], "tags": ["tag:a"]}]}"#;
        let inventory = inventory(text);
        assert!(routes(&inventory, inventory.node("here").unwrap(), Network::Overlay).is_empty());
        let there = routes(&inventory, inventory.node("peer").unwrap(), Network::Overlay);
        assert_eq!(look_up(&there, "192.0.2.1"), look_up(&there, "192.0.2.9"));
    }
}
