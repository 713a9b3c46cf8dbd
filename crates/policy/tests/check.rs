//! One check for everything that enforces: what is asked, what is not, and of which rules.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use bulkhead_policy::check::{Answers, Loaded, Scope};
use bulkhead_policy::resolve::{Exemptions, Management};
use bulkhead_policy::source::Source;

const INVENTORY: &str = r#"{"nodes": [
    {"name": "a", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
    {"name": "b", "addresses": ["100.64.0.2"], "underlay": ["203.0.113.2"], "tags": ["tag:b"]}]}"#;

fn policy(more: &str) -> String {
    let rule =
        r#"{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:80"], "expires": "1970-01-01T00:01:40Z"}"#;
    format!("{{\"tagOwners\": {{\"tag:a\": [], \"tag:b\": []}}, \"acls\": [{rule}],\n{more}}}")
}

fn check(policy: &str, scope: &Scope, now: u64) -> (Loaded, Answers) {
    let inventory = Source::new("inventory", INVENTORY);
    let mut loaded = Loaded::new(Source::new("policy", policy), Some(inventory), scope);
    let answers = loaded.check(now);
    (loaded, answers)
}

#[test]
fn a_test_fails_at_the_time_that_is_given() {
    let policy = policy(r#""tests": [{"src": "tag:a", "accept": ["tag:b:80"]}]"#);
    let (loaded, answers) = check(&policy, &Scope::default(), 0);
    assert!(!loaded.findings.has_errors(), "{}", loaded.findings);
    assert_eq!((answers.ran, answers.tally.tested, answers.tally.failed), (true, 1, 0));
    let (loaded, answers) = check(&policy, &Scope::default(), 100_000_000_000);
    assert_eq!((answers.tally.failed, answers.reach.unreachable), (1, 1));
    assert!(loaded.findings.to_string().contains("policy:2:"), "{}", loaded.findings);
}

#[test]
fn exemptions_of_one_node_fail_no_test_and_no_proof() {
    let policy = policy(
        r#""tests": [{"src": "tag:a", "deny": ["tag:b:22"]}],
           "boundaries": [{"name": "apart", "between": [["tag:a"], ["tag:b"]],
                           "only": [{"src": ["tag:a"], "dst": ["tag:b:80"]}]}]"#,
    );
    let management =
        Management { sources: vec!["100.64.0.1/32".parse().unwrap()], ports: vec![22], location: None };
    let exemptions = Exemptions { node: "b".into(), management: vec![management], ..Exemptions::default() };
    let scope = Scope { exemptions, ..Scope::default() };
    let (loaded, answers) = check(&policy, &scope, 0);
    assert!(!loaded.findings.has_errors(), "{}", loaded.findings);
    assert!(answers.proofs.boundaries[0].holds && answers.tally.failed == 0);
    // They are there for whoever compiles, and first.
    let rules = loaded.ruleset.unwrap().rules;
    assert_eq!((rules.len(), rules[0].is_from_agent(), rules[1].is_from_agent()), (2, true, false));
}

#[test]
fn files_with_errors_are_asked_nothing_and_exchanges_only_where_they_are() {
    let (loaded, answers) = check("{\"acls\": [1]}", &Scope::default(), 0);
    assert!(loaded.findings.has_errors() && !answers.ran);
    let venue = r#""venues": {"venue:x": {"addresses": ["198.51.100.0/24"],
        "feeds": [{"from": ["198.51.100.1"], "to": ["tag:b"], "proto": "tcp", "ports": "9090"}]}}"#;
    let (loaded, answers) = check(&policy(venue), &Scope::default(), 0);
    assert!(loaded.exchange.is_some() && answers.exchange.venues[0].holds, "{}", loaded.findings);
    assert!(check(&policy(""), &Scope::default(), 0).0.exchange.is_none());
    let scope = Scope { has_exchange: true, ..Scope::default() };
    assert!(check(&policy(""), &scope, 0).0.exchange.is_some());
}
