//! Who workloads are to rules.

use std::net::IpAddr;

use bulkhead_abi::Workload;
use bulkhead_policy::compile::{CompileError, Limits, compile, compile_loopback};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::explain::explain;
use bulkhead_policy::inventory;
use bulkhead_policy::reference::{Probe, admitted};
use bulkhead_policy::resolve::{placeholder, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy};
use proptest::prelude::*;

use super::common::{inventory_text, load, policy_text};

/// A host with an engine and a backup, and another host.
pub const INVENTORY: &str = r#"{"nodes": [
    {"name": "h", "addresses": ["100.64.0.1"], "tags": ["tag:host"], "routes": ["100.64.9.1/32", "100.64.9.2/32", "fd7a::91/128"], "workloads": [
        {"name": "engine", "spiffe": "spiffe://x.y/trading/engine", "addresses": ["100.64.9.1", "fd7a::91"], "tags": ["tag:engine"], "match": {"unit": "engine.service"}},
        {"name": "backup", "spiffe": "spiffe://x.y/backup", "addresses": ["100.64.9.2"], "tags": ["tag:backup"], "match": {"unit": "backup.service"}}]},
    {"name": "oms", "addresses": ["100.64.0.2", "fd7a::2"], "tags": ["tag:oms"]}]}"#;

pub fn policy_of(rules: &str) -> String {
    format!(
        r#"{{"acls": [{rules}], "tagOwners": {{"tag:host": [], "tag:engine": [], "tag:backup": [], "tag:oms": []}}}}"#
    )
}

fn accept(from: &str, to: &str) -> String {
    format!(r#"{{"action": "accept", "src": ["{from}"], "dst": ["{to}"]}}"#)
}

fn admits(rules: &str, from: &str, to: &str, port: u16) -> bool {
    let (ruleset, _) = load(&policy_of(rules), INVENTORY);
    let (source, destination) = (from.parse().unwrap(), to.parse().unwrap());
    admitted(&ruleset, &Probe { source, destination, protocol: 6, port }, 0)
}

#[test]
fn a_spiffe_id_names_workloads_on_either_side() {
    let (engine, backup, host, oms) = ("100.64.9.1", "100.64.9.2", "100.64.0.1", "100.64.0.2");
    for (selector, wanted) in [
        ("spiffe://x.y/trading/engine", [true, false]),
        ("spiffe://x.y/trading/*", [true, false]),
        ("spiffe://x.y/*", [true, true]),
        ("spiffe://x.y/trading", [false, false]),
        ("spiffe://x/*", [false, false]),
    ] {
        let out = accept(selector, "tag:oms:8080");
        assert_eq!([engine, backup].map(|from| admits(&out, from, oms, 8080)), wanted, "{selector}");
        assert!(!admits(&out, host, oms, 8080) && !admits(&out, engine, oms, 8081));
        let inn = accept("tag:oms", &format!("{selector}:9090"));
        assert_eq!([engine, backup].map(|to| admits(&inn, oms, to, 9090)), wanted, "{selector}");
        assert!(!admits(&inn, oms, host, 9090) && !admits(&inn, oms, engine, 9091));
    }
    let grant = r#"{"grants": [{"src": ["spiffe://x.y/backup"], "dst": ["spiffe://x.y/trading/engine"], "ip": ["tcp:22"]}]}"#;
    let (ruleset, _) = load(grant, INVENTORY);
    let probe = Probe {
        source: backup.parse().unwrap(),
        destination: engine.parse().unwrap(),
        protocol: 6,
        port: 22,
    };
    assert!(admitted(&ruleset, &probe, 0) && !admitted(&ruleset, &Probe { port: 23, ..probe }, 0));
}

fn findings(rules: &str, dialect: Dialect) -> String {
    let mut findings = Findings::default();
    let inventory = inventory::parse(&Source::new("i", INVENTORY), &mut findings).unwrap();
    if let Some(policy) = policy::parse(&Source::new("p", &policy_of(rules)), dialect, &mut findings) {
        let _ = resolve(&policy, &inventory, dialect, Default::default(), &mut findings);
    }
    findings.to_string()
}

#[test]
fn what_means_nobody_is_warned_of_and_what_is_malformed_refused() {
    let ours = |from: &str| findings(&accept(from, "tag:oms:1"), Dialect::Bulkhead);
    let nobody = ours("spiffe://x.y/nobody");
    assert!(
        nobody.contains("spiffe://x.y/nobody matches nobody in the inventory") && !nobody.contains("error"),
        "{nobody}"
    );
    assert!(ours("spiffe://X/a").contains("\"spiffe://X/a\" is no SPIFFE ID of workloads"));
    assert!(ours("spiffe://x.y").contains("it names a trust domain and no workload"));
    let portless = findings(&accept("tag:oms", "spiffe://x.y/backup"), Dialect::Bulkhead);
    assert!(portless.contains("has no ports") && portless.contains("spiffe://x.y/backup:*"), "{portless}");
    let theirs = findings(&accept("spiffe://x.y/backup", "tag:oms:1"), Dialect::Tailscale);
    assert!(theirs.contains("Tailscale's language has no SPIFFE IDs"), "{theirs}");
}

#[test]
fn without_an_inventory_a_spiffe_id_is_somebody() {
    let text = policy_of(&accept("spiffe://x.y/a/*", "spiffe://x.y/b:80"));
    let mut findings = Findings::default();
    let policy = policy::parse(&Source::new("p", &text), Dialect::Bulkhead, &mut findings).unwrap();
    let inventory = placeholder(&policy);
    let ruleset = resolve(&policy, &inventory, Dialect::Bulkhead, Default::default(), &mut findings);
    assert_eq!(findings.to_string(), "");
    assert!(ruleset.selectors.iter().all(|selector| !selector.set.is_empty()));
}

#[test]
fn tables_are_a_hosts_and_its_workloads_have_classes_of_their_own() {
    // No rule tells them apart.
    let (ruleset, inventory) = load(&policy_of(&accept("*", "*:*")), INVENTORY);
    let program = compile(&ruleset, &inventory, "h", Limits::default()).unwrap();
    let names: Vec<_> = program.workloads.each.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["h/engine", "h/backup"]);
    assert_eq!(program.tables.workloads.len() as u32, program.tables.locals + 1);
    for (number, one) in (0..).zip(&program.workloads.each) {
        assert!(!one.classes.is_empty());
        for class in &one.classes {
            assert_eq!(program.tables.workloads[*class as usize], Workload::not_running(number));
        }
    }
    let of: usize = program.workloads.each.iter().map(|one| one.classes.len()).sum();
    assert_eq!(program.tables.workloads.iter().filter(|of_class| of_class.is_some()).count(), of);
    assert_eq!(program.workloads.host, ["100.64.0.1".parse::<IpAddr>().unwrap()]);
    let overlay: Vec<_> = program.workloads.overlay.iter().map(ToString::to_string).collect();
    assert_eq!(
        overlay,
        ["100.64.0.1/32", "100.64.0.2/32", "100.64.9.1/32", "100.64.9.2/32", "fd7a::2/128", "fd7a::91/128"]
    );
    // Who has none pays nothing: no workload in its tables, and no routes for errors.
    let other = compile(&ruleset, &inventory, "oms", Limits::default()).unwrap();
    assert!(other.workloads.each.is_empty() && other.workloads.overlay.is_empty());
    assert_eq!(other.tables.features(), 0);
    for compile in [compile, compile_loopback] {
        let refused = compile(&ruleset, &inventory, "h/engine", Limits::default()).unwrap_err();
        assert!(matches!(&refused, CompileError::Workload { host, .. } if host == "h"), "{refused}");
    }
    // On lo nobody is known but the host's own.
    let lo = compile_loopback(&ruleset, &inventory, "h", Limits::default()).unwrap();
    assert!(lo.tables.remotes <= 4 && lo.tables.hosts.iter().count() <= 4, "{:?}", lo.tables.remotes);
}

#[test]
fn explain_names_workloads_and_asks_lo_where_they_share_a_host() {
    let rules =
        format!("{}, {}", accept("tag:engine", "tag:oms:8080"), accept("tag:host", "tag:engine:9090"));
    let (ruleset, inventory) = load(&policy_of(&rules), INVENTORY);
    let ask = |from: &str, to: &str, port| {
        let probe =
            Probe { source: from.parse().unwrap(), destination: to.parse().unwrap(), protocol: 6, port };
        explain(&ruleset, &inventory, &probe, 0)
    };
    let found = ask("100.64.9.1", "100.64.0.2", 8080);
    assert!(found.allowed);
    assert_eq!((&*found.from.nodes[0], found.from.host.as_deref()), ("h/engine", Some("h")));
    assert_eq!(found.from.spiffe.as_deref(), Some("spiffe://x.y/trading/engine"));
    let told: Vec<_> = found.hosts.iter().map(|host| (&*host.node, host.direction, host.reason)).collect();
    assert_eq!(told, [("h/engine", "egress", "rule"), ("oms", "ingress", "rule")]);
    assert!(!ask("100.64.9.2", "100.64.0.2", 8080).allowed);
    assert!(ask("100.64.0.1", "100.64.9.1", 9090).allowed);
    let apart = ask("100.64.9.2", "100.64.9.1", 9090);
    assert!(!apart.allowed && apart.hosts.iter().all(|host| host.reason == "no_rule"), "{:?}", apart.hosts);
    let itself = ask("100.64.9.1", "100.64.9.1", 1);
    assert!(itself.allowed && itself.hosts.iter().all(|host| host.reason == "loopback"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What a host is says nothing of its workloads, and what they are nothing of it: rules that name a host by its tags
    /// or user hold none of its workloads' addresses, and the other way round.
    #[test]
    fn tags_do_not_leak(policy in policy_text(), inventory in inventory_text()) {
        let (ruleset, inventory) = load(&policy, &inventory);
        for node in &inventory.nodes {
            for selector in &ruleset.selectors {
                let word = &*selector.label;
                let is = match word {
                    "tag:a" | "tag:b" | "tag:c" => node.tags().iter().any(|tag| tag == word),
                    "u1@x.y" | "u2@x.y" => node.user() == Some(word),
                    "spiffe://x.y/w" => node.spiffe().is_some_and(|id| id.as_str() == word),
                    _ => continue,
                };
                for address in &node.addresses {
                    let held = selector.set.contains(*address);
                    // Who is jailed starts nothing, and is in no set of sources.
                    prop_assert!(if held { is } else { !is || node.jailed }, "{word} {}", node.name);
                }
            }
        }
    }
}
