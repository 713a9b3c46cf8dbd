//! A policy's text in both dialects: read, resolved, and if it holds, compiled and held
//! against the rules as they read.

use std::sync::LazyLock;

use bulkhead_compiler::compile::{Limits, compile};
use bulkhead_compiler::diagnostic::Findings;
use bulkhead_compiler::evaluate::{environment, evaluate};
use bulkhead_compiler::inventory::{self, Inventory, Network};
use bulkhead_compiler::policy::{self, Policy};
use bulkhead_compiler::reference::{self, Probe, Verdict};
use bulkhead_compiler::resolve::resolve;
use bulkhead_compiler::source::Source;
use bulkhead_compiler::{Dialect, verify};
use bulkhead_engine::Reason;
use bulkhead_engine::layout::Direction;

const INVENTORY: &str = r#"{"nodes": [
    {"name": "n1", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:a", "tag:b"],
     "underlay": ["203.0.113.7"], "routes": ["10.20.0.0/24", "0.0.0.0/0"], "posture": {"node:os": "linux"}},
    {"name": "n2", "addresses": ["100.64.0.2"], "user": "alice@example.com", "posture": {"custom:level": 3}},
    {"name": "n3", "addresses": ["100.64.0.3"], "user": "bob@example.com", "expires": "2026-12-01T00:00:00Z"}],
 "users": [{"login": "alice@example.com", "roles": ["admin", "auditor"]}, {"login": "bob@example.com"}]}"#;

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
        judge(&policy, &inventory::imagined(&policy), dialect, Network::Overlay, findings, text);
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
    placed(&findings, text);
    if findings.has_errors() {
        return;
    }
    let Some(node) = inventory.nodes.first() else { return };
    // Too large is an answer.
    let Ok(program) = compile(&ruleset, inventory, &node.name, Limits::default()) else { return };
    let now = 1_700_000_000_000_000_000;
    verify::run(&ruleset, inventory, now, &mut findings);
    let memory = environment(&program.tables, now);
    let [Some(own), Some(other)] = [0, 1].map(|index: usize| {
        inventory.nodes.get(index).and_then(|node| node.addresses_on(network).first().copied())
    }) else {
        return;
    };
    if own.is_ipv4() != other.is_ipv4() {
        return;
    }
    for direction in [Direction::Ingress, Direction::Egress] {
        let (source, destination) = if direction == Direction::Ingress { (other, own) } else { (own, other) };
        for (protocol, port) in [(6, 22), (6, 443), (17, 53), (1, 0), (132, 9), (47, 0)] {
            let probe = Probe { source, destination, protocol, port };
            let wanted = reference::judge(&ruleset, inventory, node, direction, &probe, now);
            let found = evaluate(&memory, direction, &probe);
            let rule = found.rule.map(|rule| program.rules[rule as usize]);
            let same = match wanted {
                Verdict::Allow(index) => found.reason == Reason::Rule && rule == Some(index),
                Verdict::Deny(index) => found.reason == Reason::DenyRule && rule == Some(index),
                _ => found.reason != Reason::Rule,
            };
            assert!(same, "{direction:?} {probe:?}: the rules say {wanted:?}, the tables {found:?}");
        }
    }
}
