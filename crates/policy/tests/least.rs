//! Rules narrowed to their use, and policies from what was observed.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::diagnostic::Severity;
use bulkhead_policy::least::{Narrowing, Observed, Party, draft, is_covered, narrow};
use bulkhead_policy::reference::{Probe, admitted};
use bulkhead_policy::source::Source;
use proptest::prelude::*;

/// web-1 to web-3, db-1, db-2 (with IPv6 too), a user's two devices and one node without a tag.
const INVENTORY: &str = r#"{"nodes": [
    {"name": "web-1", "addresses": ["100.64.0.1"], "tags": ["tag:web"]},
    {"name": "web-2", "addresses": ["100.64.0.2"], "tags": ["tag:web"]},
    {"name": "web-3", "addresses": ["100.64.0.3"], "tags": ["tag:web", "tag:edge"]},
    {"name": "db-1", "addresses": ["100.64.0.4", "fd7a::4"], "tags": ["tag:db"]},
    {"name": "db-2", "addresses": ["100.64.0.5", "fd7a::5"], "tags": ["tag:db"]},
    {"name": "laptop", "addresses": ["100.64.0.6"], "user": "ann@example.com"},
    {"name": "phone", "addresses": ["100.64.0.7"], "user": "ann@example.com"},
    {"name": "8080", "addresses": ["100.64.0.8"], "tags": ["tag:odd"]}
]}"#;

/// After what any rule expires.
const NOW: u64 = 1_800_000_000_000_000_000;

fn load(policy: &str) -> Loaded {
    let scope = Scope { dialect: Dialect::Bulkhead, ..Scope::default() };
    let mut loaded = Loaded::new(Source::new("p", policy), Some(Source::new("i", INVENTORY)), &scope);
    loaded.check(NOW);
    let errors: Vec<_> = loaded.findings.0.iter().filter(|found| found.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}\n{policy}");
    loaded
}

fn observed(source: u32, destination: u32, protocol: u8, port: u16) -> Observed {
    Observed { source: Party::Node(source), destination: Party::Node(destination), protocol, port }
}

/// One rule, narrowed.
fn narrowed(rule: &str, section: &str, used: &[Observed]) -> Narrowing {
    let policy = policy(rule, section);
    let loaded = load(&policy);
    let (ruleset, inventory) = (loaded.ruleset.unwrap(), loaded.inventory.unwrap());
    narrow(&loaded.policy.unwrap(), &ruleset, &ruleset.rules[0], &inventory, used)
}

fn policy(rules: &str, section: &str) -> String {
    format!(
        r#"{{"tagOwners": {{"tag:web": [], "tag:db": [], "tag:edge": [], "tag:odd": []}},
            "hosts": {{"primary": "100.64.0.4"}}, "{section}": [{rules}]}}"#
    )
}

#[test]
fn a_rule_is_narrowed_on_the_sides_that_are_wider() {
    let all = [observed(0, 3, 6, 5432), observed(1, 3, 6, 5432), observed(2, 4, 6, 5432)];
    let rule = r#"{"action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"]}"#;
    assert_eq!(narrowed(rule, "acls", &all), Narrowing::AsUsed);
    let cases = [
        // Ports alone: the words stay.
        (
            "acls",
            r#"{"name": "db", "action": "accept", "src": ["tag:web"], "dst": ["tag:db:*"], "maxNewPerSecond": 9}"#,
            &all[..],
            r#"{"name": "db", "action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"], "maxNewPerSecond": 9}"#,
        ),
        // Sources and destinations: the policy's own name of an address, then tags, then addresses.
        (
            "acls",
            r#"{"action": "accept", "src": ["*"], "proto": "tcp", "dst": ["tag:db:5432,5433"]}"#,
            &[
                observed(0, 3, 6, 5432),
                observed(2, 3, 6, 5432),
                observed(5, 3, 6, 5432),
                observed(6, 3, 6, 5432),
            ],
            r#"{"action": "accept", "src": ["ann@example.com", "tag:edge", "100.64.0.1"], "proto": "tcp", "dst": ["primary:5432", "[fd7a::4]:5432"]}"#,
        ),
        // A destination that was only pinged.
        (
            "acls",
            r#"{"action": "accept", "src": ["web"], "dst": ["tag:db:1-100"]}"#,
            &[observed(0, 3, 6, 22), observed(0, 4, 1, 0)],
            r#"{"action": "accept", "src": ["web"], "dst": ["primary:22", "[fd7a::4]:22"]},
    {"action": "accept", "src": ["web"], "proto": "icmp", "dst": ["100.64.0.5:*", "[fd7a::5]:*"]}"#,
        ),
        (
            "grants",
            r#"{"src": ["tag:web"], "dst": ["tag:db"], "ip": ["tcp:1-65535", "udp:53"], "expires": "2099-01-01T00:00:00Z"}"#,
            &[observed(0, 3, 6, 80), observed(1, 3, 6, 81), observed(2, 4, 17, 53)],
            r#"{"src": ["tag:web"], "dst": ["primary", "fd7a::4"], "ip": ["tcp:80-81"], "expires": "2099-01-01T00:00:00Z"},
    {"src": ["tag:web"], "dst": ["100.64.0.5", "fd7a::5"], "ip": ["udp:53"], "expires": "2099-01-01T00:00:00Z"}"#,
        ),
    ];
    for (section, rule, used, wanted) in cases {
        let rule = rule.replace("\"web\"", "\"100.64.0.1\"");
        let wanted = wanted.replace("\"web\"", "\"100.64.0.1\"");
        match narrowed(&rule, section, used) {
            Narrowing::Narrower { text, .. } => assert_eq!(text, wanted),
            other => panic!("{rule}: {other:?}"),
        }
        // It is a policy, and admits all that was used.
        let loaded = load(&policy(&wanted, section));
        let (ruleset, inventory) = (loaded.ruleset.unwrap(), loaded.inventory.unwrap());
        for used in used {
            let ends = [used.source, used.destination].map(|party| party.addresses(&inventory)[0]);
            let probe =
                Probe { source: ends[0], destination: ends[1], protocol: used.protocol, port: used.port };
            assert!(admitted(&ruleset, &probe, NOW), "{probe:?}");
        }
    }
}

#[test]
fn a_deny_is_not_narrowed() {
    let rule = r#"{"action": "deny", "src": ["*"], "dst": ["tag:db:22"]}"#;
    assert!(matches!(narrowed(rule, "acls", &[]), Narrowing::Kept(_)));
}

#[test]
fn a_rule_that_was_used_by_whom_it_does_not_mean_any_more_stays() {
    let rule = r#"{"action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"]}"#;
    for seen in [observed(3, 4, 6, 5432), observed(0, 1, 6, 5432)] {
        assert!(matches!(narrowed(rule, "acls", &[seen]), Narrowing::Kept(_)), "{seen:?}");
    }
}

#[test]
fn a_rule_is_covered_if_all_of_one_side_look() {
    let loaded = load(&policy(r#"{"action": "accept", "src": ["tag:web"], "dst": ["tag:db:5432"]}"#, "acls"));
    let (ruleset, inventory) = (loaded.ruleset.unwrap(), loaded.inventory.unwrap());
    let by = |nodes: &[u32]| {
        let nodes = nodes.iter().map(|node| Party::Node(*node)).collect();
        is_covered(&ruleset, &ruleset.rules[0], &inventory, &nodes)
    };
    assert!(by(&[3, 4]) && by(&[0, 1, 2]) && !by(&[3]) && !by(&[0, 1, 3]));
}

fn party() -> impl Strategy<Value = Party> {
    let stranger = (1_u8..4).prop_map(|last| Party::Address(IpAddr::from([198, 51, 100, last])));
    prop_oneof![8 => (0_u32..8).prop_map(Party::Node), 1 => stranger]
}

fn conversation() -> impl Strategy<Value = Observed> {
    let service = prop_oneof![
        4 => (prop::sample::select(vec![6_u8, 17, 132]), prop::sample::select(vec![22_u16, 80, 81, 443, 65_535])),
        1 => prop::sample::select(vec![1_u8, 47]).prop_map(|protocol| (protocol, 0)),
    ];
    (party(), party(), service).prop_map(|(source, destination, (protocol, port))| Observed {
        source,
        destination,
        protocol,
        port,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_draft_admits_what_was_observed_and_nothing_else(seen in proptest::collection::btree_set(conversation(), 0..60)) {
        let seen: BTreeSet<Observed> = seen.into_iter().filter(|one| one.source != one.destination).collect();
        let words: BTreeMap<Observed, String> =
            seen.iter().map(|one| (*one, "seen\nonce".to_owned())).collect();
        let inventory = load("{\"acls\": []}").inventory.unwrap();
        let written = draft(&words, &inventory, &["a policy\n\"acls\": *".to_owned()]);
        let loaded = load(&written.text);
        let (ruleset, inventory) = (loaded.ruleset.unwrap(), loaded.inventory.unwrap());
        let parties: Vec<Party> = (0..8).map(Party::Node)
            .chain((1..5).map(|last| Party::Address(IpAddr::from([198, 51, 100, last])))).collect();
        for source in &parties {
            for destination in parties.iter().filter(|other| *other != source) {
                for (protocol, ports) in [(6, &[21_u16, 22, 80, 81, 82, 443, 65_535][..]), (17, &[22, 80, 81, 443, 65_535]), (132, &[22, 80, 81, 443, 65_535]), (1, &[0]), (47, &[0]), (58, &[0])] {
                    for port in ports {
                        let wanted = seen.contains(&Observed { source: *source, destination: *destination, protocol, port: *port });
                        for (from, to) in source.addresses(&inventory).into_iter().flat_map(|from| destination.addresses(&inventory).into_iter().map(move |to| (from, to))) {
                            if from.is_ipv4() != to.is_ipv4() {
                                continue;
                            }
                            let probe = Probe { source: from, destination: to, protocol, port: *port };
                            prop_assert_eq!(admitted(&ruleset, &probe, NOW), wanted, "{:?}\n{}", probe, written.text);
                        }
                    }
                }
            }
        }
    }
}
