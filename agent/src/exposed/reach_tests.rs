use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_policy::address::AddressSet;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::resolve::{Exemptions, Management, PeerPorts, Underlay, WireGuard};
use bulkhead_policy::source::Source;

use super::{Enforced, Link, Reach, Role, Socket, Standing, Transport, Way, World};
use crate::exposed::links::Interface;

const INVENTORY: &str = r#"{"nodes": [
    {"name": "server", "addresses": ["100.64.0.1", "fd7a::1"], "underlay": ["192.0.2.1"], "tags": ["tag:server"],
     "routes": ["10.20.0.0/24"]},
    {"name": "client", "addresses": ["100.64.0.2", "fd7a::2"], "underlay": ["192.0.2.2"], "tags": ["tag:client"]}]}"#;
const POLICY: &str = r#"{
    "tagOwners": {"tag:server": [], "tag:client": []},
    "acls": [
        {"action": "accept", "src": ["tag:client"], "dst": ["tag:server:8080"]},
        {"action": "accept", "src": ["tag:client"], "dst": ["10.20.0.0/24:9000"]},
        {"action": "accept", "src": ["autogroup:danger-all"], "dst": ["tag:server:443"]}],
    "venues": {"venue:a": {"addresses": ["198.51.100.0/24"], "feeds": [
        {"from": ["198.51.100.10"], "to": ["tag:server"], "proto": "tcp", "ports": "9090"},
        {"from": ["198.51.100.10"], "to": ["tag:server"], "ports": "9091", "groups": ["233.54.12.0/24"]}]}}}"#;

fn enforced() -> Enforced {
    let management =
        Management { sources: vec!["203.0.113.9/32".parse().unwrap()], ports: vec![22], location: None };
    let transport = WireGuard {
        port: 51820,
        peers: vec!["198.51.101.0/24".parse().unwrap()],
        peer_ports: PeerPorts::Same,
        location: None,
    };
    let underlay = Underlay {
        addresses: vec!["198.18.0.1".parse().unwrap()],
        wireguard: vec![transport],
        ..Underlay::default()
    };
    let exemptions = Exemptions {
        node: "server".to_owned(),
        management: vec![management],
        underlay: Some(underlay),
        ..Exemptions::default()
    };
    let scope = Scope { has_exchange: true, exemptions, ..Scope::default() };
    let loaded = Loaded::new(Source::new("p", POLICY), Some(Source::new("i", INVENTORY)), &scope);
    assert!(!loaded.findings.has_errors(), "{}", loaded.findings);
    Enforced {
        node: "server".to_owned(),
        inventory: loaded.inventory.unwrap(),
        overlay: loaded.ruleset.unwrap(),
        exchange: loaded.exchange,
        underlay: loaded.underlay,
        cut_off: AddressSet::default(),
        now: 0,
    }
}

fn interface(index: u32, name: &str, standing: Standing) -> (Interface, Standing) {
    (Interface { name: name.to_owned(), index, vrf: None }, standing)
}

/// `wg0` is an overlay, `x0` an exchange, `eth0` is not managed.
fn world(is_guarded: bool) -> World {
    let addresses = ["127.0.0.1", "::1", "100.64.0.1", "fd7a::1", "192.0.2.1", "10.20.0.1", "198.18.0.1"];
    World {
        interfaces: vec![
            interface(2, "eth0", Standing::Unmanaged),
            interface(3, "wg0", Standing::Judged(Role::Overlay, vec![])),
            interface(4, "x0", Standing::Judged(Role::Exchange, vec![Link::Dhcp])),
        ],
        addresses: addresses.map(|address| address.parse().unwrap()).into_iter().collect(),
        enforced: Some(enforced()),
        is_guarded,
    }
}

fn socket(transport: Transport, address: &str, port: u16) -> Socket {
    let address: IpAddr = address.parse().unwrap();
    Socket { transport, port, address, device: None, is_dual: false, inode: 1, cgroup: None }
}

/// Each way: its interface, and `anyone`, `nobody` or the names.
fn ways(world: &World, socket: &Socket) -> Vec<(String, String)> {
    let who = |way: Way| match way.reach {
        Reach::Anyone { .. } => (way.interface, "anyone".to_owned()),
        Reach::Nobody { .. } => (way.interface, "nobody".to_owned()),
        Reach::Some { nodes, others } => {
            let others = others.iter().map(ToString::to_string);
            (way.interface, nodes.into_iter().chain(others).collect::<Vec<_>>().join(" "))
        }
    };
    world.ways(socket).into_iter().map(who).collect()
}

#[track_caller]
fn assert_ways(world: &World, socket: &Socket, wanted: [&str; 3]) {
    let names = ["eth0", "wg0", "x0"].map(str::to_owned);
    let wanted: Vec<_> = names.into_iter().zip(wanted.map(str::to_owned)).collect();
    assert_eq!(ways(world, socket), wanted);
}

#[test]
fn a_wildcard_is_open_where_nothing_is_managed_and_judged_elsewhere() {
    let world = world(true);
    let tcp = |port| socket(Transport::Tcp, "0.0.0.0", port);
    assert_ways(&world, &tcp(8080), ["anyone", "client", "nobody"]);
    assert_ways(&world, &tcp(8081), ["anyone", "nobody", "nobody"]);
    assert_ways(&world, &tcp(443), ["anyone", "anyone", "nobody"]);
    assert_ways(&world, &tcp(22), ["anyone", "203.0.113.9/32", "203.0.113.9/32"]);
    assert_ways(&world, &tcp(9090), ["anyone", "198.51.100.10/32", "198.51.100.10/32"]);
    // To an address of its own in a network that it routes.
    assert_ways(&world, &tcp(9000), ["anyone", "client", "nobody"]);
    // A feed to groups is of UDP.
    let feed = socket(Transport::Udp, "0.0.0.0", 9091);
    assert_eq!(ways(&world, &feed)[2], ("x0".to_owned(), "198.51.100.10/32".to_owned()));
    assert_ways(&world, &tcp(9091), ["anyone", "nobody", "nobody"]);
}

#[test]
fn an_ipv6_wildcard_takes_ipv4_only_if_it_is_dual() {
    let mut world = world(true);
    let only = socket(Transport::Tcp, "::", 9000);
    assert_ways(&world, &only, ["anyone", "nobody", "nobody"]);
    assert_ways(&world, &Socket { is_dual: true, ..only }, ["anyone", "client", "nobody"]);
    // Nothing is said of the other family by what one family may do.
    let client = "fd7a::2".parse().unwrap();
    world.enforced.as_mut().unwrap().cut_off = AddressSet::from_addresses([client]);
    assert_ways(&world, &socket(Transport::Tcp, "::", 8080), ["anyone", "nobody", "nobody"]);
    assert_ways(&world, &socket(Transport::Tcp, "0.0.0.0", 8080), ["anyone", "client", "nobody"]);
}

#[test]
fn a_specific_address_is_reached_by_every_interface_but_for_guarded_ones() {
    let overlay = socket(Transport::Tcp, "100.64.0.1", 8080);
    assert_ways(&world(true), &overlay, ["nobody", "client", "nobody"]);
    assert_ways(&world(false), &overlay, ["anyone", "client", "nobody"]);
    assert!(world(true).is_overlay(&overlay));
    // Linux takes packets to any of its addresses on any interface.
    let uplink = socket(Transport::Tcp, "198.18.0.1", 8080);
    assert_ways(&world(true), &uplink, ["anyone", "nobody", "nobody"]);
    assert!(!world(true).is_overlay(&uplink));
    assert_eq!(ways(&world(true), &socket(Transport::Tcp, "127.0.0.53", 53)), []);
    assert_eq!(ways(&world(true), &socket(Transport::Udp, "::1", 53)), []);
}

#[test]
fn the_guard_does_not_hold_where_a_managed_interface_drops_nothing() {
    let mut world = world(true);
    world.interfaces[1].1 = Standing::Open("audit mode drops nothing".to_owned());
    assert_ways(&world, &socket(Transport::Tcp, "100.64.0.1", 8080), ["nobody", "anyone", "nobody"]);
}

#[test]
fn a_socket_bound_to_an_interface_has_that_way_alone() {
    let mut world = world(true);
    let bound = Socket { device: Some(3), ..socket(Transport::Tcp, "0.0.0.0", 8080) };
    assert_eq!(ways(&world, &bound), [("wg0".to_owned(), "client".to_owned())]);
    world.interfaces[1].0.vrf = Some(9);
    let of_vrf = Socket { device: Some(9), ..bound.clone() };
    assert_eq!(ways(&world, &of_vrf), ways(&world, &bound));
    assert_eq!(ways(&world, &Socket { device: Some(1), ..bound }), []);
}

#[test]
fn link_protocols_let_everybody_on_the_link_in() {
    assert_ways(&world(true), &socket(Transport::Udp, "0.0.0.0", 68), ["anyone", "nobody", "anyone"]);
    assert_ways(&world(true), &socket(Transport::Tcp, "0.0.0.0", 68), ["anyone", "nobody", "nobody"]);
}

#[test]
fn what_is_not_known_is_not_taken_for_closed() {
    let unknown = World { enforced: None, addresses: BTreeSet::new(), ..world(true) };
    assert_ways(&unknown, &socket(Transport::Tcp, "100.64.0.1", 8080), ["anyone", "anyone", "anyone"]);
}

#[test]
fn a_quarantined_server_is_reached_by_management_alone() {
    let mut world = world(true);
    let own = ["100.64.0.1", "fd7a::1", "192.0.2.1"].map(|address| address.parse().unwrap());
    world.enforced.as_mut().unwrap().cut_off = AddressSet::from_addresses(own);
    assert_ways(&world, &socket(Transport::Tcp, "0.0.0.0", 8080), ["anyone", "nobody", "nobody"]);
    assert_ways(
        &world,
        &socket(Transport::Tcp, "0.0.0.0", 22),
        ["anyone", "203.0.113.9/32", "203.0.113.9/32"],
    );
}

#[test]
fn an_underlay_interface_covers_wildcards() {
    let mut world = world(true);
    world.interfaces[0].1 = Standing::Judged(Role::Underlay, vec![Link::Dhcp]);
    let tcp = |port| socket(Transport::Tcp, "0.0.0.0", port);
    let wildcard = tcp(8080);
    assert_ways(&world, &wildcard, ["nobody", "client", "nobody"]);
    assert!(world.ways(&wildcard).iter().all(|way| way.enforced));
    assert_ways(&world, &tcp(22), ["203.0.113.9/32", "203.0.113.9/32", "203.0.113.9/32"]);
    assert_ways(&world, &socket(Transport::Udp, "0.0.0.0", 51820), ["198.51.101.0/24", "nobody", "nobody"]);
    // An address that the interface alone knows, and the node's overlay address, which is none there.
    assert_ways(&world, &socket(Transport::Tcp, "198.18.0.1", 22), ["203.0.113.9/32", "nobody", "nobody"]);
    assert_ways(&world, &socket(Transport::Tcp, "100.64.0.1", 22), ["nobody", "203.0.113.9/32", "nobody"]);
    assert_ways(&world, &socket(Transport::Udp, "0.0.0.0", 68), ["anyone", "nobody", "anyone"]);
}
