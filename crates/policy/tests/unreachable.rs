//! Rules that never decide: what is said of them is true.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::resolve::Ruleset;
use bulkhead_policy::unreachable::{self, Reach};
use common::{addresses, inventory_text, load, policy_text, time};
use proptest::prelude::*;

const PORTS: [(u8, u16); 13] = [
    (6, 22),
    (6, 80),
    (6, 443),
    (6, 0),
    (6, 65535),
    (6, 8080),
    (17, 22),
    (17, 53),
    (17, 443),
    (132, 22),
    (1, 0),
    (58, 0),
    (47, 0),
];

fn rules(acls: &str) -> Ruleset {
    let policy = format!("{{\"acls\": [{acls}], \"tagOwners\": {{\"tag:a\": [], \"tag:b\": []}}}}");
    let inventory = r#"{"nodes": [
        {"name": "n1", "addresses": ["100.64.0.1"], "tags": ["tag:a"]},
        {"name": "n2", "addresses": ["100.64.0.2"], "tags": ["tag:a", "tag:b"]},
        {"name": "n3", "addresses": ["100.64.0.3"], "tags": ["tag:b"]},
        {"name": "n4", "addresses": ["fd7a::4"], "tags": ["tag:a"]}]}"#;
    load(&policy, inventory).0
}

fn said(acls: &str) -> Vec<String> {
    let mut findings = Findings::default();
    let reach = unreachable::check(&rules(acls), 0, &mut findings);
    assert_eq!((reach.unreachable, reach.undecided), (findings.0.len(), 0));
    findings.0.iter().map(|finding| finding.message.clone()).collect()
}

fn rule(action: &str, src: &str, dst: &str, more: &str) -> String {
    format!(r#"{{"action": "{action}", "src": ["{src}"], "dst": ["{dst}"]{more}}}"#)
}

#[test]
fn a_shadowed_rule_is_named_with_what_shadows_it() {
    let shadowed = [
        rule("accept", "tag:a", "tag:b:1-100", ""),
        rule("deny", "tag:a", "tag:b:101-65535", r#", "name": "rest""#),
        rule("accept", "100.64.0.1", "tag:b:50-200", r#", "proto": "tcp""#),
        rule("accept", "tag:a", "tag:b:22", r#", "proto": "tcp""#),
    ];
    assert_eq!(
        said(&shadowed.join(",")),
        [
            "rule 3 is unreachable: rule 1, rest decide otherwise for everything that it is about",
            "rule 4 is unreachable: rule 1 already decides the same for everything that it is about",
        ]
    );
    // Port 0 is nobody's: the second rule is still needed.
    let open = [rule("accept", "tag:a", "tag:b:1-65535", ""), rule("accept", "tag:a", "tag:b:*", "")];
    assert_eq!(said(&open.join(",")), [""; 0]);
}

#[test]
fn an_earlier_rule_that_ends_sooner_shadows_nothing() {
    let end = |seconds| format!(", \"expires\": \"{}\"", time(seconds));
    let soon = [
        rule("deny", "tag:a", "tag:b:22", &end(100)),
        rule("accept", "tag:a", "tag:b:22", r#", "proto": "tcp""#),
    ];
    assert_eq!(said(&soon.join(",")), [""; 0]);
    let late = [
        rule("deny", "tag:a", "tag:b:22", &end(200)),
        rule("accept", "tag:a", "tag:b:22", &format!(", \"proto\": \"tcp\"{}", end(100))),
    ];
    assert_eq!(said(&late.join(",")).len(), 1);
    let mut findings = Findings::default();
    let reach = unreachable::check(
        &rules(&rule("accept", "tag:a", "tag:b:22", &end(100))),
        200_000_000_000,
        &mut findings,
    );
    assert_eq!(reach, Reach { rules: 1, unreachable: 1, undecided: 0 });
    assert_eq!(findings.0[0].message, "rule 1 has expired: it is absent");
}

#[test]
fn sides_of_different_families_never_meet() {
    assert_eq!(
        said(&rule("accept", "100.64.0.1", "[fd7a::4]:22", "")),
        ["rule 1 is about no packet: its two sides have no address family in common"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No rule that decides some packet is called unreachable, at any time.
    #[test]
    fn what_decides_is_never_called_unreachable(policy in policy_text(), inventory in inventory_text()) {
        let (ruleset, _) = load(&policy, &inventory);
        let mut findings = Findings::default();
        let reach = unreachable::check(&ruleset, 0, &mut findings);
        prop_assert_eq!(reach.undecided, 0);
        let mut decides = vec![false; ruleset.rules.len()];
        for source in addresses() {
            for destination in addresses().into_iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
                for (protocol, port) in PORTS {
                    for now in [0, 50, 100, 150, 250].map(|seconds| seconds * 1_000_000_000) {
                        let probe = Probe { source, destination, protocol, port };
                        if let Some(rule) = reference::first_of(&ruleset, &ruleset.rules, &probe, Some(u32::MAX), now) {
                            decides[rule] = true;
                        }
                    }
                }
            }
        }
        for finding in &findings.0 {
            let rule = ruleset.rules.iter().position(|rule| rule.location == finding.location).unwrap();
            prop_assert!(!decides[rule], "{}\n{}", finding, policy);
        }
    }
}
