//! For random policies and inventories: the set of sources that a node lets in = the reference evaluator, one by one.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod common;

use bulkhead_abi::Direction;
use bulkhead_policy::address::AddressSet;
use bulkhead_policy::inventory::Network;
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::sources::{Target, name, sources};
use common::{TIMES, addresses, inventory_text, load, load_on, policy_text};
use ipnet::IpNet;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

const THREE: &str = r#"{"nodes": [
    {"name": "n1", "addresses": ["100.64.0.1"], "tags": ["tag:a"], "routes": ["10.1.0.0/16"]},
    {"name": "n2", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:b"]},
    {"name": "n3", "addresses": ["100.64.0.3", "fd7a:115c:a1e0::3"], "tags": ["tag:b"]}]}"#;

/// What may come to TCP 22 of n2, by a policy of these acls.
fn to_n2(acls: &str, cut_off: &str) -> (AddressSet, bulkhead_policy::sources::Named) {
    let text = format!(r#"{{"acls": [{acls}], "tagOwners": {{"tag:a": [], "tag:b": []}}}}"#);
    let (ruleset, inventory) = load(&text, THREE);
    let target = Target { destination: "100.64.0.2".parse().unwrap(), protocol: 6, port: 22 };
    let cut_off = AddressSet::from_addresses(cut_off.split_whitespace().map(|text| text.parse().unwrap()));
    let set = sources(&ruleset, &inventory, inventory.node("n2").unwrap(), target, &cut_off, 0);
    let named = name(&ruleset, &inventory, &set);
    (set, named)
}

#[test]
fn sources_are_named() {
    let all = r#"{"action": "accept", "src": ["*"], "dst": ["tag:b:22"]}"#;
    let (_, named) = to_n2(all, "");
    assert_eq!(named.nodes, ["n1", "n3"]);
    assert_eq!(named.others, ["10.1.0.0/16".parse::<IpNet>().unwrap()]);
    assert!(!named.anyone);

    let deny = r#"{"action": "deny", "src": ["tag:a"], "dst": ["*:*"]}"#;
    assert_eq!(to_n2(&format!("{deny}, {all}"), "").1.nodes, ["n3"]);
    let other = r#"{"action": "accept", "src": ["*"], "dst": ["tag:b:23"]}"#;
    assert!(to_n2(other, "").0.is_empty());

    let danger = r#"{"action": "accept", "src": ["autogroup:danger-all"], "dst": ["tag:b:22"]}"#;
    let (_, named) = to_n2(danger, "");
    assert!(named.anyone && named.others.is_empty() && named.nodes == ["n1", "n3"], "{named:?}");
    assert!(to_n2(&format!("{deny}, {danger}"), "").1.anyone);
}

#[test]
fn who_is_cut_off_is_no_source_and_no_target() {
    let all = r#"{"action": "accept", "src": ["*"], "dst": ["tag:b:22"]}"#;
    assert_eq!(to_n2(all, "100.64.0.3").1.nodes, ["n1"]);
    assert!(to_n2(all, "100.64.0.2").0.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sources_are_those_that_the_reference_lets_in(policy in policy_text(), inventory in inventory_text()) {
        for network in [Network::Overlay, Network::Underlay] {
            let (ruleset, inventory) = load_on(&policy, &inventory, network);
            let addresses = addresses();
            for node in &inventory.nodes {
                for (destination, now) in addresses.iter().flat_map(|to| TIMES.map(|time| (*to, time * SECOND))) {
                    for (protocol, port) in [(6, 22), (17, 53), (1, 0), (58, 0), (47, 0)] {
                        let target = Target { destination, protocol, port };
                        let found = sources(&ruleset, &inventory, node, target, &AddressSet::default(), now);
                        for source in &addresses {
                            let probe = Probe { source: *source, destination, protocol, port };
                            let wanted = source.is_ipv4() == destination.is_ipv4()
                                && reference::judge(&ruleset, &inventory, node, Direction::Ingress, &probe, now).allows();
                            prop_assert_eq!(
                                found.contains(*source), wanted, "{} {:?} on {:?} at {}", node.name, probe, network, now
                            );
                        }
                    }
                }
            }
        }
    }
}
