//! Proofs of venues and boundaries: no yes where the reference evaluator finds a counterexample.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use std::net::IpAddr;

use bulkhead_policy::diagnostic::{Findings, Severity};
use bulkhead_policy::inventory::{self, Inventory, Network, Node};
use bulkhead_policy::policy::Action;
use bulkhead_policy::proof::{Proof, prove};
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, boundaries, policy};
use common::{addresses, inventory_text, policy_text};
use proptest::prelude::*;
use proptest::sample::select;

const PORTS: [(u8, u16); 10] =
    [(6, 22), (6, 80), (6, 443), (6, 65535), (17, 53), (17, 8080), (132, 22), (1, 0), (58, 0), (47, 0)];
const TIMES: [u64; 5] = [0, 50, 100, 150, 250];

fn load(policy: &str, inventory: &str) -> (Ruleset, Inventory, Findings) {
    let mut findings = Findings::default();
    let inventory = inventory::parse(&Source::new("inventory", inventory), &mut findings).unwrap();
    let policy = policy::parse(&Source::new("policy", policy), Dialect::Bulkhead, &mut findings).unwrap();
    let ruleset = resolve(&policy, &inventory, Dialect::Bulkhead, Network::Overlay, &mut findings);
    boundaries::check(&ruleset, &inventory, &mut findings);
    (ruleset, inventory, findings)
}

fn routers(ruleset: &Ruleset) -> Vec<Option<u32>> {
    let named = ruleset.rules.iter().flat_map(|rule| &rule.blocks).filter_map(|block| block.via);
    [None, Some(u32::MAX)].into_iter().chain(named.map(Some)).collect()
}

/// Every packet of the test's space with what the reference says of it, at some router and time.
fn packets(ruleset: &Ruleset, mut each: impl FnMut(&Probe, bool, u64)) {
    let routers = routers(ruleset);
    for source in addresses() {
        for destination in addresses().into_iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
            let other = if source.is_ipv4() { 58 } else { 1 };
            for (protocol, port) in PORTS.into_iter().filter(|(protocol, _)| *protocol != other) {
                let probe = Probe { source, destination, protocol, port };
                for now in TIMES.map(|seconds| seconds * 1_000_000_000) {
                    for router in &routers {
                        let first = reference::first_of(ruleset, &ruleset.rules, &probe, *router, now);
                        let admitted = first.is_some_and(|rule| ruleset.rules[rule].action == Action::Accept);
                        each(&probe, admitted, now);
                    }
                }
            }
        }
    }
}

const SIMPLE: &str = r#"{"nodes": [
    {"name": "eu-1", "addresses": ["100.64.0.1", "fd7a::1"], "tags": ["tag:eu"]},
    {"name": "eu-2", "addresses": ["100.64.0.2"], "tags": ["tag:eu", "tag:ledger"]},
    {"name": "us-1", "addresses": ["100.64.0.3", "fd7a::3"], "tags": ["tag:us"]},
    {"name": "us-2", "addresses": ["100.64.0.4"], "tags": ["tag:us", "tag:ledger"]},
    {"name": "mon", "addresses": ["100.64.0.5"], "tags": ["tag:mon"]}]}"#;

fn simple(acls: &str, only: &str) -> (Vec<String>, Vec<Proof>) {
    let policy = format!(
        r#"{{"acls": [{acls}],
           "boundaries": [{{"name": "eu-us", "between": [["tag:eu"], ["tag:us"]], "only": [{only}]}}],
           "tagOwners": {{"tag:eu": [], "tag:us": [], "tag:ledger": [], "tag:mon": []}}}}"#
    );
    let (ruleset, inventory, findings) = load(&policy, SIMPLE);
    let said = findings.0.iter().map(|finding| finding.message.clone()).collect();
    (said, prove(&ruleset, &inventory, 0, &mut Findings::default()).boundaries)
}

fn accept(src: &str, dst: &str) -> String {
    format!(r#"{{"action": "accept", "src": ["{src}"], "dst": ["{dst}"], "proto": "tcp"}}"#)
}

#[test]
fn a_rule_that_crosses_a_boundary_is_refused_with_a_packet() {
    let (said, proofs) = simple(&accept("tag:eu", "tag:ledger:5432"), "");
    assert_eq!(
        said,
        ["rule 1 crosses the boundary \"eu-us\": eu-1 (100.64.0.1) to us-2 (100.64.0.4):5432/tcp"]
    );
    assert!(!proofs[0].holds);
    // What stays on one side, or leads to neither, crosses nothing.
    for fine in
        [accept("tag:eu", "tag:eu:*"), accept("tag:mon", "tag:*:9100"), accept("tag:us", "tag:mon:80")]
    {
        let (said, proofs) = simple(&fine, "");
        assert_eq!(said, [""; 0], "{fine}");
        assert_eq!((proofs[0].holds, proofs[0].admitted), (true, 0));
    }
    // Nor does what an earlier rule denies, as long as it does.
    let deny = r#"{"action": "deny", "src": ["tag:eu"], "dst": ["tag:us:*"]}"#;
    assert_eq!(simple(&format!("{deny}, {}", accept("tag:eu", "tag:ledger:5432")), "").0, [""; 0]);
    let ending = deny.replace("]}", "], \"expires\": \"2030-01-01T00:00:00Z\"}");
    assert_eq!(simple(&format!("{ending}, {}", accept("tag:eu", "tag:ledger:5432")), "").0.len(), 1);
    // A star crosses.
    let (said, _) = simple(&accept("*", "*:22"), "");
    assert!(said[0].starts_with("rule 1 crosses the boundary"), "{said:?}");
}

#[test]
fn only_names_what_may_cross_and_admits_nothing_itself() {
    let only = r#"{"src": ["tag:ledger"], "dst": ["tag:ledger:5432"], "proto": "tcp"}"#;
    let (said, proofs) = simple(&accept("tag:ledger", "tag:ledger:5432"), only);
    assert_eq!(said, [""; 0]);
    // eu-2 to us-2 and back.
    assert_eq!((proofs[0].holds, proofs[0].admitted), (true, 2));
    let (said, _) = simple(&accept("tag:ledger", "tag:ledger:5432-5433"), only);
    assert!(said[0].ends_with("eu-2 (100.64.0.2) to us-2 (100.64.0.4):5433/tcp"), "{said:?}");
    let (said, _) = simple(&accept("tag:ledger", "tag:us:5432"), only);
    assert!(said[0].ends_with("eu-2 (100.64.0.2) to us-1 (100.64.0.3):5432/tcp"), "{said:?}");
    let (said, proofs) = simple("", only);
    assert_eq!((said.len(), proofs[0].admitted), (0, 0));
}

#[test]
fn nobody_is_on_two_sides() {
    let policy = r#"{"acls": [], "boundaries": [{"name": "b", "between": [["tag:eu"], ["tag:us"], ["tag:ledger"]]}],
        "tagOwners": {"tag:eu": [], "tag:us": [], "tag:ledger": [], "tag:mon": []}}"#;
    let (.., findings) = load(policy, SIMPLE);
    let said: Vec<String> = findings.0.iter().map(|finding| finding.message.clone()).collect();
    assert_eq!(
        said,
        [
            "eu-2 (100.64.0.2) is on two sides of the boundary \"b\"",
            "us-2 (100.64.0.4) is on two sides of the boundary \"b\"",
        ]
    );
}

#[test]
fn a_node_is_on_its_side_with_everything_that_belongs_to_it() {
    let inventory = r#"{"nodes": [
        {"name": "eu-1", "addresses": ["100.64.0.1", "fd7a::1"], "tags": ["tag:eu"], "routes": ["10.1.0.0/16", "0.0.0.0/0"]},
        {"name": "us-1", "addresses": ["100.64.0.3", "fd7a::3"], "underlay": ["192.0.2.3"], "tags": ["tag:us"]},
        {"name": "mon", "addresses": ["100.64.0.5"], "tags": ["tag:mon"]}]}"#;
    let said = |between: &str, acl: &str, inventory: &str| {
        let policy = format!(
            r#"{{"acls": [{acl}], "boundaries": [{{"name": "b", "between": {between}}}],
               "tagOwners": {{"tag:eu": [], "tag:us": [], "tag:mon": []}}}}"#
        );
        let (ruleset, loaded, findings) = load(&policy, inventory);
        let errors = findings.0.iter().filter(|finding| finding.severity == Severity::Error);
        let errors: Vec<String> = errors.map(|finding| finding.message.clone()).collect();
        let proof = prove(&ruleset, &loaded, 0, &mut Findings::default()).boundaries[0].clone();
        assert!(acl.is_empty() || proof.holds == errors.is_empty(), "{acl}: {errors:?}");
        errors
    };
    let tags = r#"[["tag:eu"], ["tag:us"]]"#;
    // By what a node routes, by its address on another network, by its address of the other family.
    for (acl, wanted) in [
        (accept("10.1.2.0/24", "tag:us:22"), "10.1.2.0 to us-1 (100.64.0.3):22/tcp"),
        (accept("tag:us", "10.1.2.3:22"), "us-1 (100.64.0.3) to 10.1.2.3:22/tcp"),
        (accept("tag:eu", "192.0.2.0/24:22"), "eu-1 (100.64.0.1) to us-1 (192.0.2.3):22/tcp"),
        (accept("fd7a::1", "[fd7a::3]:22"), "eu-1 (fd7a::1) to us-1 (fd7a::3):22/tcp"),
    ] {
        let found = said(tags, &acl, inventory);
        assert_eq!(found, [format!("rule 1 crosses the boundary \"b\": {wanted}")]);
    }
    let found = said(r#"[["100.64.0.1"], ["100.64.0.3"]]"#, &accept("fd7a::1", "[fd7a::3]:22"), inventory);
    assert_eq!(found.len(), 1);
    // Elsewhere through the exit, or to who is on no side, crosses nothing.
    for acl in [accept("tag:us", "autogroup:internet:443"), accept("tag:us", "tag:mon:22")] {
        assert_eq!(said(tags, &acl, inventory), [""; 0]);
    }
    // A network that both sides route is on both.
    let both =
        inventory.replace("\"tags\": [\"tag:us\"]", "\"tags\": [\"tag:us\"], \"routes\": [\"10.1.9.0/24\"]");
    let found = said(tags, "", &both);
    assert_eq!(found, ["what eu-1 and us-1 route (10.1.9.0) is on two sides of the boundary \"b\""]);
}

/// Who is on a side that a word names: whom it means, with all that belongs to them.
fn belongs(word: &str, inventory: &Inventory, address: IpAddr) -> bool {
    let holder = |address| inventory.nodes.iter().find(|node| node.addresses.contains(&address));
    if means(word, holder(address), address) {
        return true;
    }
    let mut theirs = inventory.nodes.iter().filter(|node| {
        let mut all = node.addresses.iter().chain(&node.underlay);
        all.any(|address| means(word, holder(*address), *address))
    });
    theirs.any(|node| {
        node.underlay.contains(&address)
            || node.routes.iter().any(|route| route.prefix_len() > 0 && route.contains(&address))
    })
}

/// Whom a word of the tests below means, worked out from the inventory by hand.
fn means(word: &str, node: Option<&Node>, address: IpAddr) -> bool {
    match (word, node) {
        ("10.1.0.0/16", _) => matches!(address, IpAddr::V4(v4) if v4.octets()[..2] == [10, 1]),
        ("tag:*", Some(node)) => !node.tags().is_empty(),
        ("autogroup:member", Some(node)) => node.user().is_some(),
        ("group:g", Some(node)) => matches!(node.user(), Some("u1@x.y" | "u3@x.y")),
        (tag, Some(node)) if tag.starts_with("tag:") => node.tags().iter().any(|carried| carried == tag),
        (login, Some(node)) if login.contains('@') => node.user() == Some(login),
        (written, _) => written.parse() == Ok(address),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn a_boundary_that_is_proven_is_not_crossed(
        policy in policy_text(), inventory in inventory_text(),
        sides in select(vec![
            ("tag:a", "tag:b"), ("u1@x.y", "tag:c"), ("tag:c", "10.1.0.0/16"), ("u1@x.y", "u2@x.y"),
            ("autogroup:member", "tag:*"), ("100.64.0.2", "fd7a:115c:a1e0::3"), ("group:g", "tag:a"),
        ]),
        only in select(vec![None, Some(("tag:a", "tag:b", 443)), Some(("u1@x.y", "tag:c", 22)), Some(("group:g", "tag:*", 443))]),
    ) {
        let exception = only.map_or(String::new(), |(src, dst, port)| {
            format!(r#"{{"src": ["{src}"], "dst": ["{dst}:{port}"], "proto": "tcp"}}"#)
        });
        let boundary = format!(
            r#"{{"boundaries": [{{"name": "b", "between": [["{}"], ["{}"]], "only": [{exception}]}}], "#, sides.0, sides.1
        );
        let (ruleset, inventory, findings) = load(&policy.replacen('{', &boundary, 1), &inventory);
        let apart = !findings.0.iter().any(|finding| finding.message.contains("two sides"));
        prop_assume!(apart);
        let refused = findings.has_errors();
        let proof = prove(&ruleset, &inventory, 0, &mut Findings::default()).boundaries[0].clone();
        prop_assert_eq!(proof.holds, !refused, "{:?} {}", proof, findings);
        let holder = |address| inventory.nodes.iter().find(|node| node.addresses.contains(&address));
        let is = |word: &str, address| means(word, holder(address), address);
        let mut crossed = None;
        packets(&ruleset, |probe, admitted, _| {
            let (from, to) = (probe.source, probe.destination);
            let on = |word: &str, address| belongs(word, &inventory, address);
            let crosses = (on(sides.0, from) && on(sides.1, to)) || (on(sides.1, from) && on(sides.0, to));
            let named = only.is_some_and(|(src, dst, port)| {
                is(src, from) && is(dst, to) && (probe.protocol, probe.port) == (6, port)
            });
            if crosses && admitted && !named {
                crossed = Some(*probe);
            }
        });
        if let Some(probe) = crossed {
            prop_assert!(!proof.holds, "{:?}\n{}", probe, policy);
        }
    }

    #[test]
    fn a_venue_that_is_proven_admits_its_lanes_and_nothing_else(
        policy in policy_text(), inventory in inventory_text(), at in any::<prop::sample::Index>(), how in 0..3,
    ) {
        let (mut ruleset, inventory, findings) = load(&policy, &inventory);
        prop_assert!(!findings.has_errors(), "{}", findings);
        prop_assume!(!ruleset.venues.is_empty());
        // As resolved, with rules in a wrong order, or with one missing: the proof must notice.
        match how {
            0 => {}
            1 => {
                let rule = ruleset.rules.remove(at.index(ruleset.rules.len()));
                ruleset.rules.insert(0, rule);
            }
            _ => {
                let denies: Vec<usize> = (0..ruleset.rules.len()).filter(|i| ruleset.rules[*i].is_default_deny()).collect();
                ruleset.rules.remove(denies[at.index(denies.len())]);
            }
        }
        let mut found = Findings::default();
        let proofs = prove(&ruleset, &inventory, 0, &mut found).venues;
        let wrong = proofs.iter().filter(|proof| !proof.holds).count();
        prop_assert_eq!(wrong, found.0.iter().filter(|finding| finding.severity == Severity::Error).count());
        if how == 0 {
            prop_assert_eq!(wrong, 0, "{}", found);
        }
        for (index, venue) in (0..).zip(&ruleset.venues) {
            let held = |address| ruleset.selector(venue.addresses).set.contains(address);
            let mut counterexample = None;
            packets(&ruleset, |probe, admitted, now| {
                if !held(probe.source) && !held(probe.destination) {
                    return;
                }
                let lanes = ruleset.rules.iter().filter(|rule| rule.venue == Some(index) && !rule.is_default_deny());
                let mut living = lanes.filter(|rule| rule.expires.is_none_or(|end| now < end));
                if living.any(|rule| reference::matches(&ruleset, rule, probe, None)) != admitted {
                    counterexample = Some(*probe);
                }
            });
            if let Some(probe) = counterexample {
                prop_assert!(!proofs[index as usize].holds, "{:?} of {}\n{}", probe, venue.name, policy);
            }
        }
    }
}
