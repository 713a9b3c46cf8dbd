//! What overlays serve on a node itself: that node may ask, nobody else may, and nothing more passes.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::net::IpAddr;

use bulkhead_abi::{Direction, FEATURE_EXEMPT};
use bulkhead_engine::Reason;
use bulkhead_policy::compile::{Limits, compile};
use bulkhead_policy::diagnostic::{Findings, Severity};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::resolve::{Exemptions, Overlay, OverlayServices, Ruleset, resolve_with};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy};

const INVENTORY: &str = r#"{"nodes": [
    {"name": "a", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "underlay": ["203.0.113.7"], "tags": ["tag:a"]},
    {"name": "b", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:b"]},
    {"name": "exit", "addresses": ["100.64.0.3"], "tags": ["tag:b"], "routes": ["0.0.0.0/0", "::/0"]}]}"#;

fn load(
    acls: &str,
    inventory: &str,
    network: Network,
    overlays: &[Overlay],
) -> (Ruleset, Inventory, Findings) {
    let overlays =
        overlays.iter().map(|overlay| OverlayServices { overlay: *overlay, location: None }).collect();
    let exemptions = Exemptions { node: "a".into(), overlays, ..Exemptions::default() };
    let mut findings = Findings::default();
    let text = format!(r#"{{"tagOwners": {{"tag:a": [], "tag:b": []}}, {acls}}}"#);
    let inventory = inventory::parse(&Source::new("inventory", inventory), &mut findings).unwrap();
    let policy = policy::parse(&Source::new("policy", &text), Dialect::Bulkhead, &mut findings).unwrap();
    let ruleset = resolve_with(&policy, &inventory, Dialect::Bulkhead, network, &exemptions, &mut findings);
    (ruleset, inventory, findings)
}

/// Everything worth a packet: services' addresses, neighbours of them, nodes.
const ADDRESSES: [&str; 12] = [
    "100.100.100.100",
    "100.100.100.99",
    "100.100.100.101",
    "100.64.255.254",
    "100.64.255.253",
    "100.64.0.1",
    "100.64.0.2",
    "198.51.100.7",
    "fd7a:115c:a1e0::53",
    "fd7a:115c:a1e0::52",
    "fd7a:115c:a1e0::1",
    "fd7a:115c:a1e0::2",
];

/// What passes on a node: the tables and the reference say the same of every packet.
fn admitted(loaded: &(Ruleset, Inventory, Findings), node: &str) -> Vec<String> {
    let (ruleset, inventory, _) = loaded;
    let program = compile(ruleset, inventory, node, Limits::default()).unwrap();
    assert_eq!(program.tables.features() & FEATURE_EXEMPT, 0, "quarantine touches it");
    let environment = environment(&program.tables, 0);
    let who = inventory.node(node).unwrap();
    let mut passes = Vec::new();
    for source in ADDRESSES {
        for destination in ADDRESSES {
            let [from, to] = [source, destination].map(|address| address.parse::<IpAddr>().unwrap());
            if from.is_ipv4() != to.is_ipv4() {
                continue;
            }
            for (protocol, port) in
                [6, 17, 132, 1, 58].iter().flat_map(|p| [0, 52, 53, 54, 80, 443, 8080].map(|port| (*p, port)))
            {
                for direction in [Direction::Ingress, Direction::Egress] {
                    let probe = Probe { source: from, destination: to, protocol, port };
                    let naive = reference::judge(ruleset, inventory, who, direction, &probe, 0);
                    let found = evaluate(&environment, direction, &probe);
                    let rule = found.rule.map(|rule| program.rules[rule as usize]);
                    assert_eq!(rule, naive.rule(), "{node} {direction:?} {probe:?}");
                    assert_eq!(
                        found.reason == Reason::Rule,
                        naive.allows(),
                        "{node} {direction:?} {probe:?}"
                    );
                    if found.reason == Reason::Rule {
                        passes.push(format!("{direction:?} {source} {destination} {protocol} {port}"));
                    }
                }
            }
        }
    }
    passes
}

#[test]
fn a_node_asks_what_is_served_on_itself_and_nothing_more_passes() {
    let deny = r#""acls": [{"action": "deny", "src": ["*"], "dst": ["*:*"]}]"#;
    let tailscale = load(deny, INVENTORY, Network::Overlay, &[Overlay::Tailscale]);
    assert!(!tailscale.2.has_errors(), "{}", tailscale.2);
    let (v4, v6) = ("100.64.0.1 100.100.100.100", "fd7a:115c:a1e0::1 fd7a:115c:a1e0::53");
    let ways = [v4, v6].into_iter();
    let ways =
        ways.flat_map(|ends| ["6 53", "6 80", "6 8080", "17 53"].map(|port| format!("Egress {ends} {port}")));
    let mut wanted: Vec<String> = ways.collect();
    wanted.sort();
    let mut found = admitted(&tailscale, "a");
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(admitted(&tailscale, "b"), Vec::<String>::new(), "it is one node's");
    let netbird = load(deny, INVENTORY, Network::Overlay, &[Overlay::NetBird]);
    let mut found = admitted(&netbird, "a");
    found.sort();
    let there = "Egress 100.64.0.1 100.64.255.254";
    assert_eq!(found, [format!("{there} 17 53"), format!("{there} 6 53")]);
    // Without it nothing does, and on exchange interfaces nothing ever.
    assert_eq!(admitted(&load(deny, INVENTORY, Network::Overlay, &[]), "a"), Vec::<String>::new());
    let both = [Overlay::Tailscale, Overlay::NetBird];
    let underlay = load(deny, INVENTORY, Network::Underlay, &both);
    assert_eq!(admitted(&underlay, "a"), Vec::<String>::new());
    // Rules have the same numbers on both networks.
    let numbers = |loaded: &(Ruleset, Inventory, Findings)| {
        loaded.0.rules.iter().filter(|rule| rule.is_from_agent()).map(|rule| rule.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&underlay), numbers(&load(deny, INVENTORY, Network::Overlay, &both)));
}

#[test]
fn an_address_that_a_node_or_a_venue_has_is_served_by_no_overlay() {
    let claimed = INVENTORY.replace("\"100.64.0.2\"", "\"100.100.100.100\"");
    let routed = |route: &str| {
        let node = INVENTORY.find("\"addresses\"").unwrap();
        format!("{}\"routes\": [\"{route}\"], {}", &INVENTORY[..node], &INVENTORY[node..])
    };
    let venue = r#""acls": [], "venues": {"venue:x": {"addresses": ["100.100.100.0/24"], "feeds": [], "sessions": []}}"#;
    for (acls, inventory, message) in [
        (r#""acls": []"#, &*claimed, "tailscale services: 100.100.100.100 is b's in the inventory"),
        (
            r#""acls": []"#,
            &routed("100.100.0.0/16"),
            "tailscale services: 100.100.100.100 is in the route 100.100.0.0/16 of a in the inventory",
        ),
        (venue, INVENTORY, "tailscale services: \"100.100.100.100/32\" overlaps venue:x"),
    ] {
        let (.., findings) = load(acls, inventory, Network::Overlay, &[Overlay::Tailscale]);
        let errors = findings.0.iter().filter(|finding| finding.severity == Severity::Error);
        let errors: Vec<&str> = errors.map(|finding| finding.message.as_str()).collect();
        assert!(errors.contains(&message), "{errors:?}");
        let distinct: std::collections::BTreeSet<_> = errors.iter().collect();
        assert_eq!(distinct.len(), errors.len(), "each is told once");
    }
    // An exit node routes everything, and claims nothing.
    let (.., findings) = load(r#""acls": []"#, &routed("0.0.0.0/0"), Network::Overlay, &[Overlay::Tailscale]);
    assert!(findings.0.iter().all(|finding| finding.severity != Severity::Error), "{findings:?}");
}

#[test]
fn an_overlay_whose_network_is_not_known_is_told_of_once() {
    let elsewhere = INVENTORY.replace("\"100.64.0.1\", ", "");
    let netbird = load(r#""acls": []"#, &elsewhere, Network::Overlay, &[Overlay::NetBird]);
    let told: Vec<&str> = netbird.2.0.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(told, ["netbird services: a has no address in 100.64.0.0/10, so nothing is let through"]);
    assert_eq!(admitted(&netbird, "a"), Vec::<String>::new());
    let underlay = load(r#""acls": []"#, &elsewhere, Network::Underlay, &[Overlay::NetBird]);
    assert!(underlay.2.0.is_empty(), "{}", underlay.2);
}
