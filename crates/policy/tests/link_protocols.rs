//! Link protocols on an underlay interface: DHCP comes from servers anywhere, but never from an address of the overlay
//! or of a venue.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::net::IpAddr;

use bulkhead_abi::{Direction, INTERFACE_ETHERNET, LINK_BFD, LINK_DHCP, NO_RULE};
use bulkhead_engine::{Metadata, Packet, Reason, decide};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::evaluate::environment;
use bulkhead_policy::resolve::{Exemptions, Ruleset, Underlay};
use bulkhead_policy::source::Source;
use bulkhead_testkit::packets::build::{Ip, ethernet, ethertype, udp};

const INVENTORY: &str = r#"{"nodes": [
    {"name": "a", "addresses": ["100.64.0.1", "fd7a::1"], "tags": ["tag:a"]},
    {"name": "b", "addresses": ["100.64.0.2", "fd7a::2"], "tags": ["tag:a"], "routes": ["10.0.0.0/8"]}]}"#;

const POLICY: &str = r#"{"tagOwners": {"tag:a": []}, "acls": [{"action": "deny", "src": ["*"], "dst": ["*:*"]}],
    "venues": {"venue:x": {"addresses": ["198.51.100.0/24"], "feeds": [
        {"from": ["198.51.100.10"], "to": ["tag:a"], "proto": "tcp", "ports": "443"}]}}}"#;

fn program(own: &[&str]) -> (Program, Ruleset) {
    let addresses = own.iter().map(|own| own.parse().unwrap()).collect();
    let underlay = Some(Underlay { addresses, ..Underlay::default() });
    let exemptions = Exemptions { node: "a".into(), underlay, ..Exemptions::default() };
    let scope = Scope { exemptions, ..Scope::default() };
    let loaded =
        Loaded::new(Source::new("policy", POLICY), Some(Source::new("inventory", INVENTORY)), &scope);
    assert!(!loaded.findings.has_errors(), "{}", loaded.findings);
    let rules = loaded.underlay.unwrap();
    (compile(&rules.ruleset, &rules.inventory, "a", Limits::default()).unwrap(), rules.ruleset)
}

/// What happens to a datagram, and by which rule.
fn decided(
    (program, ruleset): &(Program, Ruleset),
    direction: Direction,
    [from, to]: [&str; 2],
    ports: (u16, u16),
) -> (Reason, String) {
    let mut environment = environment(&program.tables, 0);
    environment.settings.interface = INTERFACE_ETHERNET;
    environment.settings.link = LINK_DHCP | LINK_BFD;
    let [from, to]: [IpAddr; 2] = [from, to].map(|end| end.parse().unwrap());
    let packet = Ip { hop_limit: 255, ..Ip::new(from, to, 17, udp(ports, &[0; 240])) }.bytes();
    let frame = ethernet(&[], ethertype(&packet), &packet);
    let mut meta = Metadata::UNKNOWN;
    decide(&environment, &Packet::new(&frame), direction, &mut meta);
    let title = |rule: u32| ruleset.rules[program.rules[rule as usize]].title();
    let rule = meta.outcome.rule;
    (meta.outcome.reason, if rule == NO_RULE { String::new() } else { title(rule) })
}

const OWN: [&str; 2] = ["203.0.113.7", "2001:db8::7"];

#[test]
fn leases_come_and_are_renewed() {
    let link = (Reason::Link, String::new());
    for world in [program(&OWN), program(&[])] {
        // Discovery, an offer to the address that is offered, a renewal with a server behind a relay (RFC 2131
        // sections 4.1 and 4.3.2), whose network a router of the overlay leads to as well.
        for (direction, ends, ports) in [
            (Direction::Egress, ["0.0.0.0", "255.255.255.255"], (68, 67)),
            (Direction::Ingress, ["192.0.2.1", "255.255.255.255"], (67, 68)),
            (Direction::Ingress, ["192.0.2.1", "203.0.113.99"], (67, 68)),
            (Direction::Egress, [OWN[0], "10.9.0.1"], (68, 67)),
            (Direction::Ingress, ["10.9.0.1", OWN[0]], (67, 68)),
            (Direction::Egress, ["fe80::7", "ff02::1:2"], (546, 547)),
            (Direction::Ingress, ["fe80::1", "fe80::7"], (547, 546)),
            (Direction::Ingress, ["2001:db8:9::1", OWN[1]], (547, 546)),
        ] {
            assert_eq!(decided(&world, direction, ends, ports), link, "{direction:?} {ends:?}");
        }
    }
}

#[test]
fn no_link_protocol_comes_from_the_overlay_or_a_venue_or_goes_there() {
    let world = program(&OWN);
    let dhcp = (67, 68);
    let by = |rule: &str| (Reason::DenyRule, rule.to_owned());
    for (other, rule) in [("100.64.0.2", "overlay addresses"), ("198.51.100.20", "venues")] {
        assert_eq!(decided(&world, Direction::Ingress, [other, OWN[0]], dhcp), by(rule));
        assert_eq!(decided(&world, Direction::Egress, [OWN[0], other], (68, 67)), by(rule));
        assert_eq!(decided(&world, Direction::Ingress, [other, OWN[0]], (50_000, 3784)), by(rule), "BFD");
        for to in ["255.255.255.255", "203.0.113.99", "100.64.0.1"] {
            let (reason, _) = decided(&world, Direction::Ingress, [other, to], dhcp);
            assert_eq!(reason, Reason::NotLocal, "{other} {to}");
        }
    }
    let v6 = decided(&world, Direction::Ingress, ["fd7a::2", OWN[1]], (547, 546));
    assert_eq!(v6, by("overlay addresses"));
    let forged = decided(&world, Direction::Egress, ["100.64.0.1", "192.0.2.1"], (68, 67));
    assert_eq!(forged.0, Reason::NotLocal, "this host's overlay address beneath the overlay");
}

#[test]
fn a_deny_of_a_policy_keeps_no_link_protocol_off() {
    let inventory = Source::new("inventory", INVENTORY);
    let loaded = Loaded::new(Source::new("policy", POLICY), Some(inventory), &Scope::default());
    let ruleset = loaded.ruleset.unwrap();
    let program = compile(&ruleset, &loaded.inventory.unwrap(), "a", Limits::default()).unwrap();
    let renewed = decided(&(program, ruleset), Direction::Ingress, ["100.64.0.2", "100.64.0.1"], (67, 68));
    assert_eq!(renewed.0, Reason::Link, "every address is denied there, DHCP's servers among them");
}
