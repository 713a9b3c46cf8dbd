//! Classes that hold so many addresses that to be one of them says nothing.

use std::net::IpAddr;

use bulkhead_abi::from_ip;
use bulkhead_engine::leaf_of;
use bulkhead_policy::compile::{Limits, compile};
use bulkhead_policy::evaluate::environment;
use bulkhead_policy::inventory::Network;

use super::load;

#[test]
fn made_up_addresses_are_of_wide_classes_and_nobody_else_is() {
    let everybody = r#"{"action": "accept", "src": ["tag:dev", "tag:gateway"], "dst": ["tag:engine:80"]},
        {"action": "deny", "src": ["*"], "dst": ["tag:engine:22"]}"#;
    let internet = r#"{"action": "accept", "src": ["tag:engine"], "dst": ["autogroup:internet:443", "tag:dev:80", "tag:gateway:80"]}"#;
    let wide = ["203.0.113.77", "9.9.9.9", "2600::1"];
    let (venue, nodes) = (["198.51.100.10", "198.51.100.33"], ["100.64.0.2", "100.64.0.3"]);
    for (acls, network, wide, narrow) in [
        ("", Network::Underlay, &wide[..], venue),
        (everybody, Network::Overlay, &wide[..], nodes),
        (internet, Network::Overlay, &wide[1..], nodes),
    ] {
        let (ruleset, inventory) = load(acls, network);
        let tables = compile(&ruleset, &inventory, "engine-1", Limits::default()).unwrap().tables;
        let remote = |address: &&str| {
            let address: IpAddr = address.parse().unwrap();
            let version = if address.is_ipv4() { 4 } else { 6 };
            leaf_of(&environment(&tables, 0), version, &from_ip(address)).unwrap().remote()
        };
        for address in wide {
            let is_nobody = remote(address) == 0 && address.contains(':');
            assert!(
                is_nobody || remote(address) >= tables.wide,
                "{acls}: {address}: {} {}",
                remote(address),
                tables.wide
            );
        }
        for address in &narrow {
            assert!(remote(address) < tables.wide, "{acls}: {address}: {} {}", remote(address), tables.wide);
        }
        assert!(tables.wide < tables.remotes, "{acls}");
    }
}
