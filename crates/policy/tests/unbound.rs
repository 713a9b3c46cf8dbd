//! An address that is not bound to its identity's keys: no rule counts for it but management exemptions, and nothing
//! changes for anybody else.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use bulkhead_abi::Direction;
use bulkhead_engine::Reason;
use bulkhead_engine::change::change;
use bulkhead_engine::memory::Tables;
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::reference::Probe;
use bulkhead_policy::resolve::{Exemptions, Management, Ruleset, resolve_with};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy};
use common::{addresses, inventory_text, policy_text};
use proptest::prelude::*;

/// A node's rules and tables, with its management exemption for a prefix.
fn compiled(
    policy_text: &str,
    inventory_text: &str,
    node: &str,
    from: &str,
) -> (Ruleset, Inventory, Program) {
    let mut findings = Findings::default();
    let inventory = inventory::parse(&Source::new("inventory", inventory_text), &mut findings).unwrap();
    let policy =
        policy::parse(&Source::new("policy", policy_text), Dialect::Bulkhead, &mut findings).unwrap();
    let management = Management { sources: vec![from.parse().unwrap()], ports: vec![22], location: None };
    let exemptions = Exemptions { node: node.into(), management: vec![management], ..Exemptions::default() };
    let network = Network::Overlay;
    let ruleset = resolve_with(&policy, &inventory, Dialect::Bulkhead, network, &exemptions, &mut findings);
    assert!(!findings.has_errors(), "{findings}");
    let program = compile(&ruleset, &inventory, node, Limits::default()).unwrap();
    (ruleset, inventory, program)
}

/// The inventory with a key for each of its four nodes.
fn with_keys(text: &str) -> String {
    (1..=4).fold(text.to_owned(), |text, number| {
        let name = format!("{{\"name\": \"n{number}\",");
        assert!(text.contains(&name), "{text}");
        text.replace(&name, &format!("{name} \"key\": \"{}{number}A=\",", "A".repeat(41)))
    })
}

/// Verdicts of everything that is tried, each with whether an exemption gave it.
fn verdicts(
    ruleset: &Ruleset,
    program: &Program,
    tables: &Tables,
) -> Vec<(Direction, Probe, Reason, Option<usize>, bool)> {
    let environment = environment(tables, 0);
    let mut found = Vec::new();
    for source in addresses() {
        for destination in addresses().into_iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
            for (protocol, port) in [(6, 22), (6, 443), (17, 53), (132, 22), (1, 0), (58, 0)] {
                for direction in [Direction::Ingress, Direction::Egress] {
                    let probe = Probe { source, destination, protocol, port };
                    let verdict = evaluate(&environment, direction, &probe);
                    let rule = verdict.rule.map(|rule| program.rules[rule as usize]);
                    let is_exempt = rule.is_some_and(|rule| ruleset.rules[rule].is_exempt());
                    found.push((direction, probe, verdict.reason, rule, is_exempt));
                }
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn only_exemptions_count_for_it_and_for_others_nothing_changes(
        policy in policy_text(),
        inventory in inventory_text(),
        from in prop::sample::select(vec!["100.64.0.2/32", "100.64.0.0/29", "fd7a:115c:a1e0::/64", "192.0.2.0/24"]),
        own in 1..=4_usize,
        other in 1..=4_usize,
    ) {
        prop_assume!(own != other);
        let (own, other) = (format!("n{own}"), format!("n{other}"));
        let (plain_rules, _, plain) = compiled(&policy, &inventory, &own, from);
        let (ruleset, inventory, program) = compiled(&policy, &with_keys(&inventory), &own, from);
        let before = verdicts(&ruleset, &program, &program.tables);
        // Keys alone change nothing.
        prop_assert_eq!(&before, &verdicts(&plain_rules, &plain, &plain.tables));
        let mut tables = program.tables.clone();
        let unbound = &inventory.node(&other).unwrap().addresses;
        for address in unbound {
            change(&mut tables, *address, |_| program.unbound.leaf(*address)).unwrap();
        }
        for (before, now) in before.iter().zip(verdicts(&ruleset, &program, &tables)) {
            let (direction, probe, _, _, was_exempt) = before;
            let far = match direction { Direction::Ingress => probe.source, Direction::Egress => probe.destination };
            let is_its = [probe.source, probe.destination].iter().any(|end| unbound.contains(end));
            if !is_its || *was_exempt && unbound.contains(&far) {
                prop_assert_eq!(before, &now);
            } else {
                prop_assert!(now.2.action() == bulkhead_abi::Action::Drop, "{:?}", now);
                prop_assert!(
                    matches!(now.2, Reason::UnknownAddress | Reason::NotLocal | Reason::NoRule),
                    "{:?}",
                    now
                );
            }
        }
    }
}

#[test]
fn an_exemption_is_of_whoever_has_the_address() {
    let policy = r#"{"acls": [{"action": "accept", "src": ["autogroup:danger-all", "100.64.0.2"], "dst": ["tag:a:*"]}],
        "tagOwners": {"tag:a": [], "tag:b": []}}"#;
    let key = |number: u8| format!("{}{number}A=", "A".repeat(41));
    let inventory = format!(
        r#"{{"nodes": [{{"name": "n1", "key": "{}", "addresses": ["100.64.0.1"], "tags": ["tag:a"]}},
            {{"name": "n2", "key": "{}", "addresses": ["100.64.0.2"], "tags": ["tag:b"]}}]}}"#,
        key(1),
        key(2)
    );
    let [source, destination] = ["100.64.0.2", "100.64.0.1"].map(|text| text.parse().unwrap());
    for (from, port, reason) in [
        ("100.64.0.0/24", 22, Reason::Rule),
        ("100.64.0.0/24", 443, Reason::NoRule),
        ("192.0.2.0/24", 22, Reason::UnknownAddress),
        ("192.0.2.0/24", 443, Reason::UnknownAddress),
    ] {
        let (_, _, program) = compiled(policy, &inventory, "n1", from);
        let probe = Probe { source, destination, protocol: 6, port };
        let verdict = |tables: &Tables| evaluate(&environment(tables, 0), Direction::Ingress, &probe).reason;
        assert_eq!(verdict(&program.tables), Reason::Rule, "{from}");
        let mut tables = program.tables.clone();
        change(&mut tables, source, |_| program.unbound.leaf(source)).unwrap();
        assert_eq!(verdict(&tables), reason, "{from} {port}");
    }
}
