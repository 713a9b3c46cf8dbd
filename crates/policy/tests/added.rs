//! One identity added to tables that are there: the same verdicts as those of tables compiled anew.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use bulkhead_abi::Direction;
use bulkhead_policy::compile::{Limits, added, compile, store};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::{Inventory, Network};
use bulkhead_policy::reference::Probe;
use bulkhead_policy::resolve::Ruleset;
use common::{TIMES, addresses, inventory_text, load_on, policy_text};
use proptest::prelude::*;

/// The inventory with n5, which is what a node of it is, at addresses of its own.
fn with_one_more(inventory_text: &str, inventory: &Inventory, like: usize, address: &str) -> String {
    let node = &inventory.nodes[like];
    let owner = match node.user() {
        Some(user) => format!("\"user\": \"{user}\""),
        None => format!("\"tags\": {:?}", node.tags()),
    };
    let posture = serde_json::to_string(&node.posture).unwrap();
    let expires = node
        .expires
        .map_or(String::new(), |time| format!(", \"expires\": \"{}\"", common::time(time / 1_000_000_000)));
    let more = format!(
        r#"{{"nodes": [{{"name": "n5", "addresses": ["{address}", "fd7a:115c:a1e0::5"], "underlay": ["203.0.113.5"], {owner}, "posture": {posture}{expires}}},"#
    );
    inventory_text.replacen("{\"nodes\": [", &more, 1)
}

/// Whether the tables with the stores and those compiled anew agree on everything that is tried.
fn agree(
    (old, before): (&Ruleset, &Inventory),
    (new, after): (&Ruleset, &Inventory),
    node: &str,
) -> Result<bool, TestCaseError> {
    let program = compile(old, before, node, Limits::default()).unwrap();
    let Some(stores) = added(old, before, &program.tables, after.node("n5").unwrap()) else {
        return Ok(false);
    };
    let mut tables = program.tables.clone();
    store(&mut tables, &stores).unwrap();
    let anew = compile(new, after, node, Limits::default()).unwrap();
    let more =
        ["100.64.0.5", "fd7a:115c:a1e0::5", "203.0.113.5", "10.1.0.5"].map(|text| text.parse().unwrap());
    let all: Vec<_> = addresses().into_iter().chain(more).collect();
    for now in TIMES.map(|seconds| seconds * 1_000_000_000) {
        let (here, there) = (environment(&tables, now), environment(&anew.tables, now));
        for source in &all {
            for destination in all.iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
                for (protocol, port) in [(6, 22), (6, 443), (17, 53), (132, 22), (1, 0), (58, 0)] {
                    for direction in [Direction::Ingress, Direction::Egress] {
                        let probe = Probe { source: *source, destination: *destination, protocol, port };
                        let found = evaluate(&here, direction, &probe);
                        let wanted = evaluate(&there, direction, &probe);
                        let found = (found.reason, found.rule.map(|rule| program.rules[rule as usize]));
                        let wanted = (wanted.reason, wanted.rule.map(|rule| anew.rules[rule as usize]));
                        prop_assert_eq!(found, wanted, "{} {:?} {:?} at {}", node, direction, probe, now);
                    }
                }
            }
        }
    }
    Ok(true)
}

#[test]
fn a_node_like_another_takes_that_ones_classes() {
    let policy = r#"{"acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22"]},
        {"action": "accept", "src": ["100.64.0.0/29"], "dst": ["tag:b:80"]}],
        "tagOwners": {"tag:a": [], "tag:b": []}}"#;
    let inventory = r#"{"nodes": [
        {"name": "n1", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:a"]},
        {"name": "n2", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:b"]}]}"#;
    let (old, before) = load_on(policy, inventory, Network::Overlay);
    let at = |like, address: &str| {
        let (new, after) =
            load_on(policy, &with_one_more(inventory, &before, like, address), Network::Overlay);
        agree((&old, &before), (&new, &after), "n2").unwrap()
    };
    assert!(at(0, "100.64.0.5"));
    // One that may not start is another than one that may.
    let jailed = inventory.replacen(r#""tags": ["tag:a"]}"#, r#""tags": ["tag:a"], "jailed": true}"#, 1);
    let (old_jailed, before_jailed) = load_on(policy, &jailed, Network::Overlay);
    let (new, after) =
        load_on(policy, &with_one_more(&jailed, &before_jailed, 0, "100.64.0.5"), Network::Overlay);
    assert!(!agree((&old_jailed, &before_jailed), (&new, &after), "n2").unwrap());
    // Beyond the prefix that the second rule names, or the same as the compiled node itself.
    assert!(!at(0, "100.64.0.9") && !at(1, "100.64.0.5"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn stores_and_compiling_anew_agree(
        policy in policy_text(), inventory in inventory_text(), like in 0..4_usize,
        network in prop_oneof![3 => Just(Network::Overlay), 1 => Just(Network::Underlay)],
    ) {
        let (old, before) = load_on(&policy, &inventory, network);
        let text = with_one_more(&inventory, &before, like, "100.64.0.5");
        let (new, after) = load_on(&policy, &text, network);
        for node in before.nodes.iter().filter(|node| node.workload.is_none()) {
            agree((&old, &before), (&new, &after), &node.name)?;
        }
    }
}
