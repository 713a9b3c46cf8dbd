//! What passes on underlay interfaces: management, WireGuard's own transport, what `outbound` and presets name, and
//! replies to it; never an overlay's address, and never a venue's.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_abi::Direction;
use bulkhead_engine::Reason;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::Severity;
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::resolve::{
    Exemptions, Management, Outbound, PeerPorts, Preset, Underlay, UnderlayRules, UsedPreset, WireGuard,
};
use bulkhead_policy::source::Source;

const INVENTORY: &str = r#"{"nodes": [
    {"name": "a", "addresses": ["100.64.0.1", "fd7a::1"], "underlay": ["203.0.113.7"], "tags": ["tag:a"]},
    {"name": "b", "addresses": ["100.64.0.2"], "underlay": ["203.0.113.8"], "tags": ["tag:b"]},
    {"name": "c", "addresses": ["100.64.0.3"], "tags": ["tag:b"], "routes": ["10.0.0.0/8"]}]}"#;

const POLICY: &str = r#"{"tagOwners": {"tag:a": [], "tag:b": []},
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
    "venues": {"venue:x": {"addresses": ["198.51.100.0/24"], "feeds": [
        {"from": ["198.51.100.10"], "to": ["tag:a"], "proto": "tcp", "ports": "443"}]}}}"#;

const ANYONE: [&str; 2] = ["0.0.0.0/0", "::/0"];

fn outbound(protocol: u8, to: &[&str], ports: &[u16]) -> Outbound {
    let to = to.iter().map(|net| net.parse().unwrap()).collect();
    Outbound { protocol, to, ports: ports.to_vec(), location: None }
}

fn wireguard(peers: &[&str], peer_ports: PeerPorts) -> WireGuard {
    let peers = peers.iter().map(|net| net.parse().unwrap()).collect();
    WireGuard { port: 51820, peers, peer_ports, location: None }
}

fn load_in(inventory: &str, underlay: Underlay, management: &[&str]) -> Loaded {
    let sources: Vec<_> = management.iter().map(|net| net.parse().unwrap()).collect();
    let management = Management { sources, ports: vec![22], location: None };
    let exemptions = Exemptions {
        node: "a".into(),
        management: vec![management],
        underlay: Some(underlay),
        ..Exemptions::default()
    };
    let scope = Scope { exemptions, ..Scope::default() };
    Loaded::new(Source::new("policy", POLICY), Some(Source::new("inventory", inventory)), &scope)
}

fn load(underlay: Underlay) -> UnderlayRules {
    let loaded = load_in(INVENTORY, underlay, &["192.0.2.9/32", "100.64.0.2/32"]);
    assert!(!loaded.findings.has_errors(), "{}", loaded.findings);
    loaded.underlay.unwrap()
}

fn program(rules: &UnderlayRules) -> Program {
    compile(&rules.ruleset, &rules.inventory, "a", Limits::default()).unwrap()
}

/// Everything worth a packet: own addresses, peers, an operator, venues, overlay addresses, the rest.
const ADDRESSES: [&str; 13] = [
    "203.0.113.7",
    "203.0.113.77",
    "203.0.113.8",
    "192.0.2.9",
    "9.9.9.9",
    "198.51.100.10",
    "100.64.0.1",
    "100.64.0.2",
    "100.64.0.3",
    "10.1.2.3",
    "2001:db8::7",
    "2620:fe::fe",
    "fd7a::1",
];

/// What passes on the node: the tables and the reference say the same of every packet.
fn admitted(rules: &UnderlayRules) -> BTreeSet<String> {
    let program = program(rules);
    let environment = environment(&program.tables, 0);
    let node = rules.inventory.node("a").unwrap();
    let mut passes = BTreeSet::new();
    for source in ADDRESSES {
        for destination in ADDRESSES {
            let [from, to] = [source, destination].map(|address| address.parse::<IpAddr>().unwrap());
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            let ports = [0, 22, 53, 123, 443, 3478, 41641, 51820, 60000];
            for (protocol, port) in [1, 6, 17, 58, 132].iter().flat_map(|p| ports.map(|port| (*p, port))) {
                for direction in [Direction::Ingress, Direction::Egress] {
                    let probe = Probe { source: from, destination: to, protocol, port };
                    let naive =
                        reference::judge(&rules.ruleset, &rules.inventory, node, direction, &probe, 0);
                    let found = evaluate(&environment, direction, &probe);
                    let rule = found.rule.map(|rule| program.rules[rule as usize]);
                    assert_eq!(rule, naive.rule(), "{direction:?} {probe:?}");
                    assert_eq!(found.reason == Reason::Rule, naive.allows(), "{direction:?} {probe:?}");
                    let (port, is_first) = match protocol {
                        1 | 58 => ("echo".to_owned(), port == 0),
                        _ => (port.to_string(), true),
                    };
                    if found.reason == Reason::Rule && is_first {
                        let sign = if direction == Direction::Ingress { '<' } else { '>' };
                        let (own, other) =
                            if sign == '<' { (destination, source) } else { (source, destination) };
                        passes.insert(format!("{own} {sign} {other} {protocol} {port}"));
                    }
                }
            }
        }
    }
    passes
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn nothing_passes_but_what_is_named() {
    let underlay = Underlay {
        addresses: ["2001:db8::7", "203.0.113.77"].map(|own| own.parse().unwrap()).to_vec(),
        wireguard: vec![wireguard(&["203.0.113.8/32"], PeerPorts::Same)],
        outbound: vec![
            outbound(17, &["9.9.9.9/32", "2620:fe::fe/128"], &[53]),
            outbound(1, &["9.9.9.9/32", "2620:fe::fe/128"], &[]),
        ],
        ..Underlay::default()
    };
    let wanted = [
        "203.0.113.7 < 192.0.2.9 6 22",
        "203.0.113.7 < 203.0.113.8 17 51820",
        "203.0.113.7 > 203.0.113.8 17 51820",
        "203.0.113.7 > 9.9.9.9 17 53",
        "203.0.113.7 > 9.9.9.9 1 echo",
        "2001:db8::7 > 2620:fe::fe 17 53",
        "2001:db8::7 > 2620:fe::fe 58 echo",
    ];
    let mut all = set(&wanted);
    all.extend(
        wanted
            .iter()
            .filter(|line| line.starts_with("203.0.113.7 "))
            .map(|line| line.replacen(".7 ", ".77 ", 1)),
    );
    assert_eq!(admitted(&load(underlay)), all);
    // With no list at all, management alone; with no address, nothing.
    assert_eq!(admitted(&load(Underlay::default())), set(&["203.0.113.7 < 192.0.2.9 6 22"]));
    let bare = INVENTORY.replace("\"203.0.113.7\"", "");
    let loaded = load_in(
        &bare,
        Underlay { outbound: vec![outbound(6, &ANYONE, &[443])], ..Underlay::default() },
        &["192.0.2.9/32"],
    );
    assert_eq!(admitted(&loaded.underlay.unwrap()), BTreeSet::new());
}

#[test]
fn who_names_everybody_reaches_no_overlay_and_no_venue() {
    let underlay = Underlay {
        wireguard: vec![wireguard(&ANYONE, PeerPorts::Any)],
        outbound: vec![outbound(6, &ANYONE, &[443])],
        ..Underlay::default()
    };
    let rules = load(underlay);
    let passes = admitted(&rules);
    for refused in ["100.64.0.", "198.51.100.", "fd7a::1"] {
        assert!(passes.iter().all(|line| !line.contains(refused)), "{refused}: {passes:?}");
    }
    // A route leads through the overlay, and its prefix may be this network's as well.
    for line in [
        "203.0.113.7 > 10.1.2.3 6 443",
        "203.0.113.7 > 203.0.113.8 17 60000",
        "203.0.113.7 < 9.9.9.9 17 51820",
        "203.0.113.7 < 192.0.2.9 6 22",
    ] {
        assert!(passes.contains(line), "{line}: {passes:?}");
    }
    assert!(!passes.contains("203.0.113.7 > 9.9.9.9 6 53"), "{passes:?}");
    assert!(!passes.contains("203.0.113.7 < 9.9.9.9 17 60000"), "{passes:?}");
    let program = program(&rules);
    let probe = |source: &str, destination: &str| Probe {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 6,
        port: 443,
    };
    let environment = environment(&program.tables, 0);
    let judged = |direction, probe: &Probe| {
        let found = evaluate(&environment, direction, probe);
        let rule = found.rule.map(|rule| rules.ruleset.rules[program.rules[rule as usize]].title());
        (found.reason, rule.unwrap_or_default())
    };
    let to_venue = judged(Direction::Egress, &probe("203.0.113.7", "198.51.100.10"));
    assert_eq!(to_venue, (Reason::DenyRule, "venues".to_owned()), "an order session, too");
    let to_overlay = judged(Direction::Egress, &probe("203.0.113.7", "100.64.0.2"));
    assert_eq!(to_overlay, (Reason::DenyRule, "overlay addresses".to_owned()));
    let own = judged(Direction::Ingress, &probe("203.0.113.7", "203.0.113.7"));
    assert_eq!(own.0, Reason::NotLocal, "whoever says to be this node");
    let inner = judged(Direction::Ingress, &probe("9.9.9.9", "100.64.0.1"));
    assert_eq!(inner.0, Reason::NotLocal, "the overlay's own end");
}

#[test]
fn a_preset_is_what_the_overlays_program_needs() {
    let used = UsedPreset { preset: Preset::Tailscale, location: None };
    let passes = admitted(&load(Underlay { presets: vec![used], ..Underlay::default() }));
    let others = ["9.9.9.9", "192.0.2.9", "203.0.113.8", "203.0.113.77", "10.1.2.3"];
    let lines = others.iter().flat_map(|other| {
        [("<", 17, 41641), (">", 17, 41641), (">", 17, 3478), (">", 6, 443)]
            .map(|(sign, protocol, port)| format!("203.0.113.7 {sign} {other} {protocol} {port}"))
    });
    let mut wanted: BTreeSet<String> = lines.collect();
    wanted.insert("203.0.113.7 < 192.0.2.9 6 22".into());
    assert_eq!(passes, wanted);
}

#[test]
fn an_interface_that_has_an_overlay_address_does_not_lead_there() {
    let addresses =
        ["100.64.0.1", "100.64.0.3", "198.51.100.20", "203.0.113.7", "224.0.0.1", "127.0.0.1", "0.0.0.0"];
    let addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
    let rules = load(Underlay { addresses, ..Underlay::default() });
    let refused = |(address, holder): (&str, &str)| (address.parse::<IpAddr>().unwrap(), holder.to_owned());
    let expected = [
        ("100.64.0.1", "a on the overlay"),
        ("100.64.0.3", "c on the overlay"),
        ("198.51.100.20", "venue:x"),
    ];
    assert_eq!(rules.refused, expected.map(refused));
    assert_eq!(rules.inventory.node("a").unwrap().underlay, ["203.0.113.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(admitted(&rules), set(&["203.0.113.7 < 192.0.2.9 6 22"]));
}

#[test]
fn a_prefix_that_holds_a_venues_address_is_an_error_with_a_next_step() {
    let underlay = Underlay {
        wireguard: vec![wireguard(&["198.51.0.0/16"], PeerPorts::Same)],
        outbound: vec![outbound(6, &["198.51.100.10/32", "0.0.0.0/0", "64:ff9b::c633:6400/120"], &[443])],
        ..Underlay::default()
    };
    let loaded = load_in(INVENTORY, underlay, &["192.0.2.9/32"]);
    let errors: Vec<_> = loaded.findings.0.iter().filter(|found| found.severity == Severity::Error).collect();
    let messages: Vec<_> = errors.iter().map(|found| &*found.message).collect();
    assert_eq!(
        messages,
        [
            "underlay wireguard transport 1: \"198.51.0.0/16\" overlaps venue:x",
            "outbound 1: \"198.51.100.10/32\" overlaps venue:x",
            "outbound 1: \"64:ff9b::c633:6400/120\" overlaps venue:x"
        ]
    );
    assert!(errors.iter().all(|found| found.help.is_some() && !found.related.is_empty()));
}

#[test]
fn rules_have_their_numbers_after_those_of_the_overlay_and_management_has_the_same() {
    let underlay = Underlay { outbound: vec![outbound(6, &ANYONE, &[443])], ..Underlay::default() };
    let loaded = load_in(INVENTORY, underlay, &["192.0.2.9/32"]);
    let (overlay, rules) = (loaded.ruleset.unwrap(), loaded.underlay.unwrap().ruleset);
    let number = |rules: &[bulkhead_policy::resolve::Rule], title: &str| {
        rules.iter().find(|rule| rule.title() == title).map(|rule| rule.number).unwrap()
    };
    let last = overlay.rules.iter().map(|rule| rule.number).max().unwrap();
    let management = "management exemption 1";
    assert_eq!(number(&rules.rules, management), number(&overlay.rules, management));
    assert!(
        ["overlay addresses", "venues", "outbound 1"].iter().all(|title| number(&rules.rules, title) > last)
    );
    assert!(rules.rules.iter().all(|rule| rule.is_from_agent()));
    assert!(load_in(INVENTORY, Underlay::default(), &[]).underlay.is_some());
}
