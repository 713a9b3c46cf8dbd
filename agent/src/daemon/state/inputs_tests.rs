use bulkhead_abi::NO_RULE;
use bulkhead_policy::Dialect;
use bulkhead_policy::resolve::{Exemptions, Outbound, Underlay};
use bulkhead_policy::source::Source;

use super::{CompileOptions, Files, Inputs};
use crate::config::{Mode, Role};
use crate::daemon::state::addresses::Addresses;

const INVENTORY: &str = r#"{"nodes": [
    {"name": "a", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
    {"name": "b", "addresses": ["100.64.0.2"], "tags": ["tag:b"]}]}"#;

fn compile(acls: &str, node: &str) -> Result<Inputs, super::Refused> {
    let policy = format!(r#"{{"tagOwners": {{"tag:a": [], "tag:b": []}}, "acls": [{acls}]}}"#);
    let files = Files::new(Source::new("p", &policy), Source::new("i", INVENTORY));
    let options = CompileOptions {
        node: node.to_owned(),
        dialect: Dialect::Bulkhead,
        table_memory: 256 << 20,
        has_exchange: false,
        has_local: false,
        exemptions: Exemptions::default(),
        addresses: Addresses::default(),
        grants: std::sync::Arc::default(),
    };
    Inputs::compile(files, Mode::Enforce, &options)
}

const ONE: &str = r#"{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:80"]}"#;
const TWO: &str = r#"{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:81"]}"#;
const NAMED: &str = r#"{"name": "web", "action": "accept", "src": ["tag:a"], "dst": ["tag:b:80"]}"#;

#[test]
fn a_rule_keeps_its_fingerprint_when_its_number_changes() {
    let before = compile(&format!("{ONE}, {TWO}"), "b").unwrap();
    let after = compile(&format!("{TWO}, {NAMED}"), "b").unwrap();
    let print = |inputs: &Inputs, number: u32| {
        let found = inputs.program.rules.iter().position(|rule| inputs.ruleset.rules[*rule].number == number);
        inputs.fingerprints[found.unwrap()].clone()
    };
    assert_eq!(print(&before, 1), print(&after, 2));
    assert_eq!(print(&before, 2), print(&after, 1));
    assert_ne!(print(&before, 1), print(&before, 2));
}

#[test]
fn twins_have_fingerprints_of_their_own() {
    // Both are needed: the second decides where the first has expired.
    let expiring =
        r#"{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:80"], "expires": "2099-01-01T00:00:00Z"}"#;
    let inputs = compile(&format!("{expiring}, {expiring}, {ONE}"), "b").unwrap();
    let mut prints = inputs.fingerprints.clone();
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), inputs.program.rules.len());
}

#[test]
fn what_does_not_hold_is_told() {
    let refused =
        compile(r#"{"action": "accept", "src": ["tag:c"], "dst": ["tag:b:80"]}"#, "b").err().unwrap();
    assert!(refused.findings.has_errors() && refused.text().contains("tag:c"), "{}", refused.text());
    assert!(!refused.unknown_node);
    // As many of them as anybody reads: each is looked up in all of its file.
    let all: Vec<String> = (0..30).map(|number| ONE.replace("tag:a", &format!("tag:c{number}"))).collect();
    let text = compile(&all.join(", "), "b").err().unwrap().text();
    assert!(text.contains("tag:c9") && !text.contains("tag:c10"), "{text}");
    assert!(text.contains("more errors: `bulkhead check --json` prints all of them"), "{text}");
    let refused = compile(ONE, "nobody").err().unwrap();
    assert!(refused.unknown_node && refused.text().contains("nobody"), "{}", refused.text());
}

#[test]
fn rules_of_all_roles_are_numbered_through_and_the_addresses_are_kept() {
    let outbound = |port| Outbound {
        protocol: 17,
        to: vec!["9.9.9.9/32".parse().unwrap()],
        ports: vec![port],
        location: None,
    };
    let underlay = Underlay { outbound: vec![outbound(53), outbound(123)], ..Underlay::default() };
    let exemptions = Exemptions { node: "a".to_owned(), underlay: Some(underlay), ..Exemptions::default() };
    let policy = format!(r#"{{"tagOwners": {{"tag:a": [], "tag:b": []}}, "acls": [{ONE}, {TWO}]}}"#);
    let files = Files::new(Source::new("p", &policy), Source::new("i", INVENTORY));
    let [own, overlay] = ["192.0.2.7", "100.64.0.2"].map(|address| address.parse().unwrap());
    let options = CompileOptions {
        node: "a".to_owned(),
        dialect: Dialect::Bulkhead,
        table_memory: 256 << 20,
        has_exchange: false,
        has_local: false,
        exemptions,
        addresses: Addresses::of([own, overlay]),
        grants: std::sync::Arc::default(),
    };
    let inputs = Inputs::compile(files, Mode::Enforce, &options).unwrap();
    assert_eq!(inputs.addresses, [own, overlay].into());
    assert!(inputs.refused[0].contains("100.64.0.2 is an address of b"), "{:?}", inputs.refused);
    let [of_underlay] = &inputs.others[..] else { panic!("one role more") };
    assert_eq!(of_underlay.role, Role::Underlay);
    let program = inputs.program_of(Role::Underlay);
    let all = inputs.program.rules.len() + program.rules.len();
    assert_eq!((program.tables.rules as usize, inputs.program.tables.rules as usize), (all, all));
    assert_eq!(inputs.fingerprints.len(), all);
    let numbers = program.tables.cells.iter().map(|cell| cell.rule).filter(|rule| *rule != NO_RULE);
    assert!(numbers.clone().all(|rule| (inputs.program.rules.len()..all).contains(&(rule as usize))));
    assert!(numbers.count() >= 2);
}
