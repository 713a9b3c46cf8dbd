//! Why a conversation passes or not: the rule that decides, and what came near.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use bulkhead_policy::explain::{Explanation, Why, explain};
use bulkhead_policy::reference::{self, Probe};
use common::{addresses, inventory_text, load, policy_text, time};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn explained(source: &str, destination: &str, port: u16, now: u64) -> Explanation {
    let policy = format!(
        r#"{{"acls": [
            {{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:80"], "proto": "tcp"}},
            {{"action": "accept", "src": ["tag:b"], "dst": ["tag:b:22"]}},
            {{"action": "accept", "src": ["tag:a"], "dst": ["tag:a:22"]}},
            {{"action": "accept", "src": ["tag:b"], "dst": ["tag:a:22"]}},
            {{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22"], "srcPosture": ["posture:p"]}},
            {{"action": "deny", "src": ["tag:a"], "dst": ["tag:b:22"], "expires": "{}"}},
            {{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:22"], "proto": "tcp", "name": "ssh", "expires": "{}", "maxNewPerSecond": 2}},
            {{"action": "deny", "src": ["*"], "dst": ["tag:b:22"]}}],
          "venues": {{"venue:x": {{"addresses": ["198.51.100.0/24"],
            "feeds": [{{"from": ["198.51.100.10"], "to": ["tag:b"], "groups": ["233.54.12.0/24"], "ports": "53"}}]}}}},
          "postures": {{"posture:p": ["node:os == 'linux'"]}},
          "tagOwners": {{"tag:a": [], "tag:b": []}}}}"#,
        time(50),
        time(100)
    );
    let inventory = format!(
        r#"{{"nodes": [
            {{"name": "n1", "addresses": ["100.64.0.1"], "tags": ["tag:a"], "posture": {{"node:os": "ios"}}}},
            {{"name": "n2", "addresses": ["100.64.0.2"], "tags": ["tag:b"], "expires": "{}"}}]}}"#,
        time(200)
    );
    let (ruleset, inventory) = load(&policy, &inventory);
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    explain(&ruleset, &inventory, &Probe { source, destination, protocol: 6, port }, now)
}

#[test]
fn the_rules_before_the_deciding_one_say_why_they_do_not() {
    let found = explained("100.64.0.1", "100.64.0.2", 22, 60 * SECOND);
    assert!(found.allowed);
    let rule = found.rule.unwrap();
    assert_eq!((rule.number, rule.name.as_deref()), (7, Some("ssh")));
    assert_eq!(rule.until, Some((100 * SECOND, Some(8))));
    assert_eq!(rule.rates.new_flows, Some(2));
    let why: Vec<(u32, Why)> = found.earlier.into_iter().map(|rule| (rule.number, rule.why)).collect();
    assert_eq!(
        why,
        [
            (9, Why::Ends),
            (10, Why::Destination),
            (1, Why::Service("tcp:80".into())),
            (2, Why::Source),
            (3, Why::Destination),
            (4, Why::Ends),
            (5, Why::Posture("posture:p".into())),
            (6, Why::Expired(50 * SECOND)),
        ]
    );
    assert_eq!(
        (&found.from.nodes[..], &found.from.tags[..]),
        (&["n1".to_string()][..], &["tag:a".to_string()][..])
    );
    assert_eq!(found.from.posture["node:os"], "ios");
    assert_eq!((found.to.expires, found.to.expired), (Some(200 * SECOND), false));
}

#[test]
fn a_node_that_ended_is_nobody() {
    let found = explained("100.64.0.1", "100.64.0.2", 80, 200 * SECOND);
    assert!(!found.allowed && found.to.expired);
    assert!(found.hosts.iter().all(|host| !host.allowed && host.rule.is_none()));
}

#[test]
fn of_several_routers_one_is_a_way() {
    let of = |via: &str| {
        let policy = format!(
            r#"{{"grants": [{{"src": ["tag:b"], "dst": ["10.1.0.0/24"], "ip": ["tcp:443"]{via}}}],
               "tagOwners": {{"tag:a": [], "tag:b": [], "tag:r": []}}}}"#
        );
        let inventory = r#"{"nodes": [
            {"name": "r1", "addresses": ["100.64.0.1"], "tags": ["tag:a"], "routes": ["10.1.0.0/24"]},
            {"name": "r2", "addresses": ["100.64.0.2"], "tags": ["tag:r"], "routes": ["10.1.0.0/24"]},
            {"name": "n3", "addresses": ["100.64.0.3"], "tags": ["tag:b"]}]}"#;
        let (ruleset, inventory) = load(&policy, inventory);
        let [source, destination] = ["100.64.0.3", "10.1.0.9"].map(|text| text.parse().unwrap());
        let found = explain(&ruleset, &inventory, &Probe { source, destination, protocol: 6, port: 443 }, 0);
        let open = found.hosts.iter().filter(|host| host.allowed).map(|host| host.node.clone());
        (found.allowed, open.collect::<Vec<_>>())
    };
    assert_eq!(of(""), (true, ["n3", "r1", "r2"].map(String::from).to_vec()));
    assert_eq!(of(r#", "via": ["tag:r"]"#), (true, ["n3", "r2"].map(String::from).to_vec()));
    assert_eq!(of(r#", "via": ["tag:b"]"#), (false, vec![]));
}

#[test]
fn venues_and_groups_are_named() {
    let found = explained("198.51.100.10", "233.54.12.7", 53, 0);
    assert_eq!(found.from.venue.as_deref(), Some("venue:x"));
    assert_eq!(
        found.hosts.iter().map(|host| (host.node.as_str(), host.reason)).collect::<Vec<_>>(),
        [("n2", "venue_default_deny")]
    );
    assert_eq!(found.rule.unwrap().name.as_deref(), Some("venue:x default deny"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    /// An explanation and the reference evaluator never differ, and every earlier rule has a reason.
    #[test]
    fn it_says_what_is_decided(policy in policy_text(), inventory in inventory_text()) {
        let (ruleset, inventory) = load(&policy, &inventory);
        for source in addresses() {
            for destination in addresses().into_iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
                let probe = Probe { source, destination, protocol: 6, port: 443 };
                let found = explain(&ruleset, &inventory, &probe, 100 * SECOND);
                let first = reference::first(&ruleset, &probe, 100 * SECOND);
                prop_assert_eq!(found.rule.map(|rule| rule.number), first.map(|index| ruleset.rules[index].number));
                prop_assert_eq!(found.earlier.len(), first.unwrap_or(ruleset.rules.len()));
                for (rule, earlier) in ruleset.rules.iter().zip(&found.earlier) {
                    let matches = reference::matches(&ruleset, rule, &probe, None);
                    prop_assert_eq!(matches, matches!(earlier.why, Why::Expired(_)));
                }
                for host in &found.hosts {
                    let untouched = host.reason == "loopback";
                    prop_assert_eq!(host.allowed, host.reason == "rule" || untouched);
                    prop_assert!(!host.allowed || untouched || host.rule.is_some());
                }
            }
        }
    }
}
