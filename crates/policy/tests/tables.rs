//! For random policies and inventories, every probe: compiled tables = reference evaluator.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use std::net::IpAddr;

use bulkhead_abi::{
    CELL_ALLOW, CELL_ONE_WAY, CELL_TLS, CELL_TLS_POSTGRES, CELL_TLS_REQUIRED, Cell, Direction, Rate,
    pair_index,
};
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Tables;
use bulkhead_policy::compile::{CompileError, Limits, compile, sizes};
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::{Inventory, Network};
use bulkhead_policy::policy::{Rates, TlsMode};
use bulkhead_policy::reference::{self, Probe, Verdict};
use bulkhead_policy::resolve::Ruleset;
use common::{TIMES, addresses, inventory_text, load, load_on, policy_text, reason, time};
use proptest::prelude::*;

/// Whether the remote end is one that some rule's selector names, which makes it known to the tables.
fn named(ruleset: &Ruleset, probe: &Probe) -> bool {
    ruleset
        .selectors
        .iter()
        .any(|selector| selector.set.contains(probe.source) || selector.set.contains(probe.destination))
}

/// Whether no cell decides anything about remote class 0, and no reply of it is looked for.
fn unknown_is_in_no_rule(tables: &Tables) -> bool {
    let pair = |direction, local| pair_index(direction, local, 0, tables.locals, tables.remotes) as usize;
    [Direction::Ingress, Direction::Egress].into_iter().all(|direction| {
        (1..=tables.locals).all(|local| {
            let pair = tables.pairs.as_flattened()[pair(direction, local)];
            let cells = &tables.cells[pair.row() as usize..][..tables.port_classes as usize];
            !pair.opposite() && cells.iter().all(|cell| *cell == Cell::NONE)
        })
    })
}

const SECOND: u64 = 1_000_000_000;

/// Two nodes, n2 gone at 250 s, under rules that differ in action and expiry only.
fn expiring(rules: &[(&str, Option<u64>)]) -> (Ruleset, Inventory) {
    let rules: Vec<String> = rules
        .iter()
        .map(|(action, end)| {
            let end = end.map(|end| format!(", \"expires\": \"{}\"", time(end))).unwrap_or_default();
            format!("{{\"action\": \"{action}\", \"src\": [\"tag:a\"], \"dst\": [\"tag:b:22\"]{end}}}")
        })
        .collect();
    let policy =
        format!("{{\"acls\": [{}], \"tagOwners\": {{\"tag:a\": [], \"tag:b\": []}}}}", rules.join(","));
    let inventory = format!(
        r#"{{"nodes": [{{"name": "n1", "addresses": ["100.64.0.1"], "tags": ["tag:a"]}},
                      {{"name": "n2", "addresses": ["100.64.0.2"], "tags": ["tag:b"], "expires": "{}"}}]}}"#,
        time(250)
    );
    load(&policy, &inventory)
}

#[test]
fn an_expired_rule_is_absent_and_so_is_a_node() {
    let (ruleset, inventory) =
        expiring(&[("deny", Some(100)), ("accept", Some(50)), ("accept", Some(200)), ("deny", None)]);
    let [source, destination] = ["100.64.0.1", "100.64.0.2"].map(|address| address.parse().unwrap());
    let probe = Probe { source, destination, protocol: 6, port: 22 };
    for (name, direction) in [("n1", Direction::Egress), ("n2", Direction::Ingress)] {
        let program = compile(&ruleset, &inventory, name, Limits::default()).unwrap();
        let at = |now| {
            let found = evaluate(&environment(&program.tables, now), direction, &probe);
            (found.reason, found.rule.map(|rule| program.rules[rule as usize]))
        };
        assert_eq!(at(0), (Reason::DenyRule, Some(0)));
        assert_eq!(at(100 * SECOND - 1), (Reason::DenyRule, Some(0)));
        assert_eq!(at(100 * SECOND), (Reason::Rule, Some(2)));
        assert_eq!(at(200 * SECOND - 1), (Reason::Rule, Some(2)));
        assert_eq!(at(200 * SECOND), (Reason::DenyRule, Some(3)));
        assert_eq!(at(250 * SECOND), (Reason::NoRule, None));
        // Replies must be looked for as long as an accept may come to decide.
        let node = inventory.node(name).unwrap();
        assert_eq!(
            reference::judge(&ruleset, &inventory, node, direction, &probe, 150 * SECOND),
            Verdict::Allow(2)
        );
    }
}

#[test]
fn a_deny_of_everybody_stops_addresses_that_nobody_knows() {
    let rule =
        |action, src, dst| format!(r#"{{"action": "{action}", "src": ["{src}"], "dst": ["{dst}:22"]}}"#);
    let inventory =
        r#"{"nodes": [{"name": "n1", "addresses": ["100.64.0.1", "fd7a::1"], "tags": ["tag:a"]}]}"#;
    let at = |first: String, second: String, source: &str, destination: &str, direction| {
        let policy = format!(r#"{{"acls": [{first}, {second}], "tagOwners": {{"tag:a": []}}}}"#);
        let (ruleset, inventory) = load(&policy, inventory);
        let program = compile(&ruleset, &inventory, "n1", Limits::default()).unwrap();
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let probe = Probe { source, destination, protocol: 6, port: 22 };
        let found = evaluate(&environment(&program.tables, 0), direction, &probe);
        let node = inventory.node("n1").unwrap();
        assert_eq!(
            reason(&ruleset, reference::judge(&ruleset, &inventory, node, direction, &probe, 0)),
            found.reason
        );
        (found.reason, found.rule.map(|rule| program.rules[rule as usize]))
    };
    let (ingress, egress) = (Direction::Ingress, Direction::Egress);
    for (stranger, prefix, own) in
        [("10.9.9.9", "10.0.0.0/8", "100.64.0.1"), ("2001:db8::9", "2001:db8::/32", "fd7a::1")]
    {
        let admit = rule("accept", prefix, "tag:a");
        let deny = rule("deny", "*", "tag:a");
        assert_eq!(at(deny.clone(), admit.clone(), stranger, own, ingress), (Reason::DenyRule, Some(0)));
        assert_eq!(at(admit, deny, stranger, own, ingress), (Reason::Rule, Some(0)));
        let admit = rule("accept", "tag:a", prefix);
        let deny = rule("deny", "tag:a", "*");
        assert_eq!(at(deny.clone(), admit.clone(), own, stranger, egress), (Reason::DenyRule, Some(0)));
        assert_eq!(at(admit, deny, own, stranger, egress), (Reason::Rule, Some(0)));
        // To admit everybody is to admit whom the inventory knows.
        let all = rule("accept", "*", "*");
        assert_eq!(at(all.clone(), all, stranger, own, ingress), (Reason::UnknownAddress, None));
    }
}

#[test]
fn more_expiring_rules_than_the_kernel_walks_are_refused() {
    let chain = |length: u64| {
        let rules: Vec<_> = (1..=length).map(|end| ("accept", Some(end))).collect();
        let (ruleset, inventory) = expiring(&rules);
        compile(&ruleset, &inventory, "n1", Limits::default())
    };
    assert!(chain(8).is_ok());
    assert!(matches!(chain(9), Err(CompileError::ExpiryChain { .. })), "{:?}", chain(9));
}

#[test]
fn a_table_beyond_the_budget_and_an_unknown_node_are_refused() {
    let (ruleset, inventory) = expiring(&[("accept", None)]);
    let small = compile(&ruleset, &inventory, "n1", Limits { bytes: 1024 });
    assert!(matches!(small, Err(CompileError::Budget { .. })), "{small:?}");
    // Each table alone is within it, all together are not: the message says how large each is.
    let whole = compile(&ruleset, &inventory, "n1", Limits::default()).unwrap();
    let total: u64 = sizes(&whole.tables).iter().map(|(_, bytes)| bytes).sum();
    assert!(compile(&ruleset, &inventory, "n1", Limits { bytes: total }).is_ok());
    let words = compile(&ruleset, &inventory, "n1", Limits { bytes: total - 1 }).unwrap_err().to_string();
    let ports = size_of_val(&whole.tables.ports[..]);
    let named = format!("{total} bytes are needed: ports {ports}, IPv4 trie ");
    assert!(
        words.contains(&named) && words.contains("cells ") && words.contains("table_memory_mib"),
        "{words}"
    );
    let unknown = compile(&ruleset, &inventory, "n11", Limits::default()).unwrap_err();
    assert_eq!(unknown.to_string(), "the inventory has no node \"n11\" (did you mean \"n1\"?)");
}

proptest! {
    // Each case is thousands of probes: an eighth of the usual number of cases.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn tables_agree_with_the_reference(
        policy in policy_text(), inventory in inventory_text(),
        network in prop_oneof![2 => Just(Network::Overlay), 1 => Just(Network::Underlay)],
    ) {
        let (ruleset, inventory) = load_on(&policy, &inventory, network);
        let addresses = addresses();
        for node in inventory.nodes.iter().filter(|node| node.workload.is_none()) {
            let program = compile(&ruleset, &inventory, &node.name, Limits::default()).unwrap();
            prop_assert!(unknown_is_in_no_rule(&program.tables), "{}", node.name);
            for now in TIMES.map(|seconds| seconds * 1_000_000_000) {
                let environment = environment(&program.tables, now);
                for source in &addresses {
                    for destination in addresses.iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
                        for (protocol, port) in [
                            (6, 22), (6, 80), (6, 443), (6, 0), (6, 65535), (17, 53), (17, 8080), (132, 22),
                            (1, 0), (58, 0), (47, 0),
                        ] {
                            for direction in [Direction::Ingress, Direction::Egress] {
                                let probe = Probe { source: *source, destination: *destination, protocol, port };
                                let wanted =
                                    reference::judge(&ruleset, &inventory, node, direction, &probe, now);
                                let found = evaluate(&environment, direction, &probe);
                                let rule = found.rule.map(|rule| program.rules[rule as usize]);
                                let mut reason = reason(&ruleset, wanted);
                                if reason == Reason::UnknownAddress && named(&ruleset, &probe) {
                                    // Named by a rule about something else: known, and no rule.
                                    prop_assert!(matches!(found.reason, Reason::NoRule | Reason::UnknownAddress));
                                    reason = found.reason;
                                }
                                prop_assert_eq!(
                                    (found.reason, rule), (reason, wanted.rule()),
                                    "{} {:?} {:?} at {}", node.name, direction, probe, now
                                );
                                prop_assert_eq!(
                                    found.rejects,
                                    reference::rejects(&ruleset, &inventory, node, direction, &probe, now),
                                    "{} {:?} {:?} at {}", node.name, direction, probe, now
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// Whatever a rule limits is limited wherever it decides, and nothing else; what is one-way is so.
    #[test]
    fn limits_and_flags_follow_the_rules(policy in policy_text(), inventory in inventory_text()) {
        let (ruleset, inventory) = load(&policy, &inventory);
        for node in inventory.nodes.iter().filter(|node| node.workload.is_none()) {
            let program = compile(&ruleset, &inventory, &node.name, Limits::default()).unwrap();
            for cell in program.tables.cells.iter().filter(|cell| cell.action == CELL_ALLOW) {
                let rule = &ruleset.rules[program.rules[cell.rule as usize]];
                prop_assert_eq!(cell.flags & CELL_ONE_WAY != 0, rule.one_way);
                let required = rule.tls.is_some_and(|tls| tls.mode == TlsMode::Required);
                prop_assert_eq!(cell.flags & CELL_TLS != 0, rule.tls.is_some());
                prop_assert_eq!(cell.flags & CELL_TLS_REQUIRED != 0, required);
                let postgres = rule.tls.is_some_and(|tls| tls.starttls.is_some());
                prop_assert_eq!(cell.flags & CELL_TLS_POSTGRES != 0, postgres);
                prop_assert_eq!(cell.limit != 0, rule.rates != Rates::default());
                let limit = program.tables.limits[usize::from(cell.limit)];
                for (rate, Rate { interval, .. }) in
                    [(rule.rates.packets, limit.packets), (rule.rates.new_flows, limit.new_flows)]
                {
                    prop_assert_eq!(interval, rate.map_or(0, |rate| 1_000_000_000_u64.div_ceil(rate.into())));
                }
            }
        }
    }

    /// Replies are looked for wherever the other direction admits something at any time.
    #[test]
    fn opposite_is_set_where_the_other_direction_admits(policy in policy_text(), inventory in inventory_text()) {
        let (ruleset, inventory) = load(&policy, &inventory);
        let addresses = addresses();
        for node in inventory.nodes.iter().filter(|node| node.workload.is_none()) {
            let program = compile(&ruleset, &inventory, &node.name, Limits::default()).unwrap();
            let environment = environment(&program.tables, 0);
            let own: Vec<_> = inventory.overlay_addresses(node).collect();
            for source in &own {
                for other in addresses.iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
                    let probe = Probe { source: *source, destination: *other, protocol: 6, port: 22 };
                    let found = evaluate(&environment, Direction::Egress, &probe);
                    let one_way = found.rule.is_some_and(|rule| ruleset.rules[program.rules[rule as usize]].one_way);
                    if found.reason != Reason::Rule || one_way {
                        continue;
                    }
                    let version = if source.is_ipv4() { 4 } else { 6 };
                    let leaf = |address: &IpAddr| {
                        let address = bulkhead_abi::from_ip(*address);
                        bulkhead_engine::leaf_of(&environment, version, &address).unwrap()
                    };
                    let reply = bulkhead_engine::judge(
                        &environment, Direction::Ingress, [leaf(source).local(), leaf(other).remote()], 6, 50000,
                    );
                    prop_assert!(reply.opposite);
                }
            }
        }
    }
}
