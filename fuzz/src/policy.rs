//! A policy's text in both dialects: read, resolved, and if it holds, proven, compiled for each
//! node, held against the rules as they read, and compared with a variant of itself.

use std::net::IpAddr;
use std::sync::LazyLock;

use bulkhead_abi::Direction;
use bulkhead_engine::Reason;
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::diff::{Difference, Side, diff};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::explain::explain;
use bulkhead_policy::inventory::{self, Inventory, Network, Node};
use bulkhead_policy::policy::{self, Action, Policy};
use bulkhead_policy::reference::{self, Probe, Verdict};
use bulkhead_policy::resolve::{Boundary, Ruleset, SelectorId, placeholder, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, boundaries, proof, unreachable, verify};

const INVENTORY: &str = r#"{"nodes": [
    {"name": "n1", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:a", "tag:b"],
     "underlay": ["203.0.113.7", "198.51.100.200"], "routes": ["10.20.0.0/24", "0.0.0.0/0"], "posture": {"node:os": "linux"}},
    {"name": "n2", "addresses": ["100.64.0.2"], "user": "alice@example.com", "posture": {"custom:level": 3}},
    {"name": "n3", "addresses": ["100.64.0.3"], "user": "bob@example.com", "expires": "2026-12-01T00:00:00Z"},
    {"name": "n4", "addresses": ["100.64.0.4", "fd7a:115c:a1e0::4"], "tags": ["tag:c"], "underlay": ["203.0.113.8"],
     "routes": ["10.20.0.0/25"]}],
 "users": [{"login": "alice@example.com", "roles": ["admin", "auditor"]}, {"login": "bob@example.com"}]}"#;

/// Addresses that are no node's: a venue's, a group, behind a router, elsewhere.
const OTHERS: [&str; 5] = ["198.51.100.10", "198.51.100.20", "233.54.12.1", "10.20.0.9", "192.0.2.1"];

/// Searches over classes take seconds where rules end at many times between many.
const FEW: usize = 24;

static KNOWN: LazyLock<Inventory> = LazyLock::new(|| {
    let known = inventory::parse(&Source::new("inventory", INVENTORY), &mut Findings::default());
    known.unwrap_or_else(|| panic!("the fixed inventory is not valid"))
});

/// Reads a text as a policy in every way that a command does.
///
/// # Panics
/// If tables and rules differ, or a finding has no place in the text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for dialect in [Dialect::Bulkhead, Dialect::Tailscale] {
        let mut findings = Findings::default();
        let source = Source::new("policy", text);
        let policy = policy::parse(&source, dialect, &mut findings);
        placed(&findings, text);
        let Some(policy) = policy else {
            assert!(findings.has_errors(), "refused without a word");
            continue;
        };
        judge(&policy, &KNOWN, dialect, Network::Overlay, findings.clone(), text);
        judge(&policy, &KNOWN, dialect, Network::Underlay, findings.clone(), text);
        judge(&policy, &placeholder(&policy), dialect, Network::Overlay, findings, text);
    }
}

/// Every finding can be shown: it lies in the text.
pub(crate) fn placed(findings: &Findings, text: &str) {
    for finding in &findings.0 {
        let spans = finding.location.iter().chain(finding.related.iter().map(|related| &related.location));
        for location in spans.filter(|location| matches!(&*location.file, "policy" | "inventory")) {
            let span = location.span;
            assert!(
                &*location.file != "policy" || text.get(span.start..span.end).is_some(),
                "{finding} lies outside: {span:?} of {} bytes",
                text.len()
            );
        }
    }
    assert!(findings.0.is_empty() || !findings.to_string().is_empty());
}

fn judge(
    policy: &Policy,
    inventory: &Inventory,
    dialect: Dialect,
    network: Network,
    mut findings: Findings,
    text: &str,
) {
    let ruleset = resolve(policy, inventory, dialect, network, &mut findings);
    boundaries::check(&ruleset, inventory, &mut findings);
    placed(&findings, text);
    if findings.has_errors() {
        return;
    }
    let now = 1_700_000_000_000_000_000;
    verify::run(&ruleset, inventory, now, &mut findings);
    if ruleset.rules.len() <= FEW {
        proven(&ruleset, inventory, now);
        unreachable::check(&ruleset, now, &mut findings);
        compared(&ruleset, inventory, now);
    }
    for node in inventory.nodes.iter().take(4) {
        // Too large is an answer.
        if let Ok(program) = compile(&ruleset, inventory, &node.name, Limits::default()) {
            held(&ruleset, inventory, node, &program, now);
        }
    }
}

/// Every node's addresses, and some that are nobody's.
fn addresses(inventory: &Inventory, network: Network) -> Vec<IpAddr> {
    let nodes = inventory.nodes.iter().take(6).flat_map(|node| node.addresses_on(network)).copied();
    nodes.chain(OTHERS.iter().filter_map(|text| text.parse().ok())).collect()
}

fn probes(source: IpAddr, destination: IpAddr) -> impl Iterator<Item = Probe> {
    let icmp = if source.is_ipv4() { 1 } else { 58 };
    let services = [(6, 22), (6, 443), (6, 9090), (17, 53), (icmp, 0), (132, 9), (47, 0)];
    services.into_iter().map(move |(protocol, port)| Probe { source, destination, protocol, port })
}

/// Tables and rules say the same.
fn held(ruleset: &Ruleset, inventory: &Inventory, node: &Node, program: &Program, now: u64) {
    let memory = environment(&program.tables, now);
    let all = addresses(inventory, ruleset.network);
    for own in node.addresses_on(ruleset.network) {
        for other in all.iter().filter(|other| other.is_ipv4() == own.is_ipv4()) {
            for (direction, source, destination) in
                [(Direction::Ingress, *other, *own), (Direction::Egress, *own, *other)]
            {
                for probe in probes(source, destination) {
                    let wanted = reference::judge(ruleset, inventory, node, direction, &probe, now);
                    let found = evaluate(&memory, direction, &probe);
                    let rule = found.rule.map(|rule| program.rules[rule as usize]);
                    let denied = matches!(found.reason, Reason::DenyRule | Reason::VenueDefaultDeny);
                    let same = match wanted {
                        Verdict::Allow(index) => found.reason == Reason::Rule && rule == Some(index),
                        Verdict::Deny(index) => denied && rule == Some(index),
                        _ => found.reason != Reason::Rule,
                    };
                    assert!(same, "{direction:?} {probe:?}: the rules say {wanted:?}, the tables {found:?}");
                }
                if let Some(probe) = probes(source, destination).next() {
                    let explained = explain(ruleset, inventory, &probe, now);
                    assert!(!explained.allowed || reference::admitted(ruleset, &probe, now), "{explained:?}");
                }
            }
        }
    }
}

/// What was resolved without an error is proven, and no packet says otherwise.
fn proven(ruleset: &Ruleset, inventory: &Inventory, now: u64) {
    let mut found = Findings::default();
    let proofs = proof::prove(ruleset, inventory, now, &mut found);
    let all = proofs.venues.iter().chain(&proofs.boundaries);
    let wrong = all.filter(|proof| !proof.holds).count();
    assert!(wrong == 0 || found.to_string().contains("too many pairs"), "{found}");
    let addresses = addresses(inventory, ruleset.network);
    let pairs = addresses.iter().flat_map(|from| addresses.iter().map(move |to| (*from, *to)));
    for (source, destination) in pairs.filter(|(from, to)| from.is_ipv4() == to.is_ipv4()) {
        for probe in probes(source, destination) {
            let first = reference::first(ruleset, &probe, now).map(|index| &ruleset.rules[index]);
            let Some(rule) = first.filter(|rule| rule.action == Action::Accept) else { continue };
            for (index, venue) in (0..).zip(&ruleset.venues) {
                let set = &ruleset.selector(venue.addresses).set;
                let is_of = set.contains(source) || set.contains(destination);
                assert!(
                    !is_of || rule.venue == Some(index),
                    "{} passes the default deny: {probe:?}",
                    rule.title()
                );
            }
            for boundary in &ruleset.boundaries {
                assert!(!crosses(ruleset, boundary, &probe), "{} crosses: {probe:?}", rule.title());
            }
        }
    }
}

fn crosses(ruleset: &Ruleset, boundary: &Boundary, probe: &Probe) -> bool {
    let holds = |id: &SelectorId, address| ruleset.selector(*id).set.contains(address);
    let side = |address| boundary.sides.iter().position(|ids| ids.iter().any(|id| holds(id, address)));
    let (Some(here), Some(there)) = (side(probe.source), side(probe.destination)) else { return false };
    let excepted = boundary.only.iter().any(|entry| {
        entry.sources.iter().any(|id| holds(id, probe.source))
            && entry.destinations.iter().any(|(id, service)| {
                holds(id, probe.destination) && ruleset.service(*service).matches(probe.protocol, probe.port)
            })
    });
    here != there && !excepted
}

/// A change and its reverse say the same; no change is none.
fn compared(ruleset: &Ruleset, inventory: &Inventory, now: u64) {
    let side = |ruleset| Side { ruleset, inventory };
    // Too large is an answer.
    let Ok(same) = diff(side(ruleset), side(ruleset), now) else { return };
    assert_eq!(same, Difference::default(), "a policy differs from itself");
    let mut variant = ruleset.clone();
    if !variant.rules.is_empty() {
        variant.rules.remove(variant.rules.len() / 2);
    }
    if let Some(first) = variant.rules.first_mut() {
        first.rates.new_flows = Some(7);
    }
    let (Ok(there), Ok(back)) =
        (diff(side(ruleset), side(&variant), now), diff(side(&variant), side(ruleset), now))
    else {
        return;
    };
    assert_eq!((&there.added, &there.removed), (&back.removed, &back.added), "a change and its reverse");
    assert_eq!(there.changed.len(), back.changed.len());
}
