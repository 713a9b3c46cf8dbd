//! What a change takes away of tables that run: never what the new ones admit, and at once what people take away most.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use std::net::IpAddr;

use bulkhead_abi::{Cell, Direction};
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Tables;
use bulkhead_policy::compile::{Basis, Limits, Withdrawn, compile, store};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::reference::Probe;
use bulkhead_policy::resolve::Ruleset;
use common::{TIMES, addresses, changed_policy_text, inventory_text, load};
use proptest::prelude::*;

/// A node's tables by the old rules, the same with what the new ones take away ended, and what that is.
fn ended(
    (old, before): (&Ruleset, &Inventory),
    (new, after): (&Ruleset, &Inventory),
    node: &str,
) -> (Tables, Tables, Withdrawn) {
    let program = compile(old, before, node, Limits::default()).unwrap();
    let withdrawn = Basis::new(old.clone(), &program, 0).withdrawn(before, (new, after));
    let mut tables = program.tables.clone();
    let own = before.node(node).unwrap();
    let leaves = withdrawn.addresses.iter().filter(|address| !own.addresses.contains(address));
    let leaves: Vec<_> = leaves.map(|address| (*address, program.unbound.leaf(*address))).collect();
    store(&mut tables, &leaves).unwrap();
    for (first, last) in &withdrawn.ports {
        tables.ports.as_flattened_mut()[*first as usize..=*last as usize].fill(0);
    }
    for cell in &withdrawn.cells {
        let cell = &mut tables.cells[*cell as usize];
        *cell = Cell { action: Cell::NONE.action, flags: 0, ..*cell };
    }
    (program.tables, tables, withdrawn)
}

fn admits(tables: &Tables, now: u64, direction: Direction, probe: &Probe) -> bool {
    evaluate(&environment(tables, now), direction, probe).reason == Reason::Rule
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_both_admit_is_admitted_and_nothing_that_was_not(
        (old, new) in changed_policy_text(), first in inventory_text(), second in inventory_text(), same in any::<bool>(),
    ) {
        let (old, before) = load(&old, &first);
        let (new, after) = load(&new, if same { &first } else { &second });
        for node in ["n1", "n2", "n3"] {
            let (running, ended, _) = ended((&old, &before), (&new, &after), node);
            let next = compile(&new, &after, node, Limits::default()).unwrap().tables;
            let all = addresses();
            for now in TIMES.map(|seconds| seconds * 1_000_000_000) {
                for source in &all {
                    for destination in all.iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
                        for (protocol, port) in [(6, 22), (6, 443), (17, 53), (132, 22), (1, 0), (58, 0), (47, 0)] {
                            for direction in [Direction::Ingress, Direction::Egress] {
                                let probe = Probe { source: *source, destination: *destination, protocol, port };
                                let is = |tables| admits(tables, now, direction, &probe);
                                let (was, is_now, will_be) = (is(&running), is(&ended), is(&next));
                                prop_assert!(is_now || !(was && will_be), "{} {:?} {:?}: both admit it", node, direction, probe);
                                prop_assert!(was || !is_now, "{} {:?} {:?}: it was not admitted", node, direction, probe);
                            }
                        }
                    }
                }
            }
        }
    }
}

const HOSTS: &str = r#"{"nodes": [{"name": "n1", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
    {"name": "n2", "addresses": ["100.64.0.2"], "tags": ["tag:b"]}, {"name": "n3", "addresses": ["100.64.0.3"], "tags": ["tag:b"]}]}"#;

fn policy(rules: &str) -> String {
    format!(r#"{{"acls": [{rules}], "tagOwners": {{"tag:a": [], "tag:b": []}}}}"#)
}

/// What n1 hears of n2 and n3 at two ports by what is left of `old` rules ahead of `new` ones.
fn heard(old: &str, new: (&str, &str)) -> Vec<(&'static str, u16)> {
    let (old, before) = load(&policy(old), HOSTS);
    let (new, after) = load(&policy(new.0), new.1);
    let (_, tables, _) = ended((&old, &before), (&new, &after), "n1");
    let asked = [("100.64.0.2", 22), ("100.64.0.2", 80), ("100.64.0.3", 22), ("100.64.0.3", 80)];
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let probe = |(from, port): (&str, u16)| Probe {
        source: address(from),
        destination: address("100.64.0.1"),
        protocol: 6,
        port,
    };
    asked.into_iter().filter(|ends| admits(&tables, 0, Direction::Ingress, &probe(*ends))).collect()
}

#[test]
fn ports_rules_and_nodes_that_are_taken_away_end_at_once() {
    let both = r#"{"action": "accept", "src": ["tag:b"], "dst": ["tag:a:22,80"]}"#;
    let one = r#"{"action": "accept", "src": ["tag:b"], "dst": ["tag:a:80"]}"#;
    let all = [("100.64.0.2", 22), ("100.64.0.2", 80), ("100.64.0.3", 22), ("100.64.0.3", 80)];
    assert_eq!(heard(both, (both, HOSTS)), all);
    assert_eq!(heard(both, (one, HOSTS)), [all[1], all[3]], "a port");
    assert_eq!(heard(both, ("", HOSTS)), [], "a rule");
    let without = HOSTS.replace(r#", {"name": "n3", "addresses": ["100.64.0.3"], "tags": ["tag:b"]}"#, "");
    assert_ne!(without, HOSTS);
    assert_eq!(heard(both, (both, &without)), all[..2], "a node");
    let everybody = r#"{"action": "accept", "src": ["100.64.0.0/24"], "dst": ["tag:a:22"]}"#;
    let with = format!("{both}, {everybody}");
    assert_eq!(heard(&with, (&with, &without)), all, "a node whose address a rule names");
    let deny = format!(r#"{{"action": "deny", "src": ["*"], "dst": ["*:22"]}}, {both}"#);
    assert_eq!(heard(both, (&deny, HOSTS)), [all[1], all[3]], "what is denied now");
    let later = format!(r#"{both}, {{"action": "deny", "src": ["*"], "dst": ["*:22"]}}"#);
    assert_eq!(heard(both, (&later, HOSTS)), all, "what is denied after it was admitted");
}
