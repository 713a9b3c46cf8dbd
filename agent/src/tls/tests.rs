//! Sockets, rules, counters and probes of one's own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bulkhead_api::event::Timestamp;
use bulkhead_api::tls::{Began, ClientCertificate, Flows, Port, Probe, SeenBy, StartTls, Wanted};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::source::Source;

use super::{Admitted, Counts, Host, Listening, Workload, listening, ports};
use crate::exposed::sockets::{Socket, Transport};
use crate::owners::Owner;

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000_000_000_000);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn socket(transport: Transport, at: &str, is_dual: bool, inode: u64, cgroup: u64) -> Socket {
    let at: SocketAddr = at.parse().unwrap();
    Socket {
        transport,
        port: at.port(),
        address: at.ip(),
        device: None,
        is_dual,
        inode,
        cgroup: Some(cgroup),
    }
}

fn host() -> Host {
    let workload =
        Workload { name: "h/w".to_owned(), addresses: vec![address("100.64.9.1")], cgroups: [7, 8].into() };
    Host { addresses: vec![address("100.64.0.1"), address("fd7a::1")], workloads: vec![workload] }
}

fn found(sockets: &[Socket]) -> Vec<Listening> {
    let owner = |name: &str| Owner { pid: 1, name: name.to_owned() };
    let owners: BTreeMap<u64, Owner> =
        [(1, owner("a")), (2, owner("a")), (3, owner("b")), (4, owner("w"))].into();
    listening(sockets, &owners, &host())
}

#[test]
fn a_socket_at_an_address_comes_before_one_at_all_and_workloads_have_their_own() {
    use Transport::{Raw, Tcp, Udp};
    let all = found(&[
        socket(Tcp, "0.0.0.0:1", false, 1, 5),
        socket(Tcp, "[::]:1", false, 2, 5),
        socket(Tcp, "[::]:2", true, 1, 5),
        socket(Tcp, "0.0.0.0:3", false, 1, 5),
        socket(Tcp, "100.64.0.1:3", false, 3, 5),
        socket(Tcp, "[::]:3", true, 2, 5),
        socket(Tcp, "127.0.0.1:4", false, 1, 5),
        socket(Tcp, "192.0.2.1:5", false, 1, 5),
        socket(Tcp, "0.0.0.0:6", false, 4, 8),
        socket(Udp, "0.0.0.0:6", false, 1, 5),
        socket(Raw, "0.0.0.0:6", false, 1, 5),
    ]);
    let told: Vec<String> = all
        .iter()
        .map(|port| {
            let addresses: Vec<String> = port.addresses.iter().map(ToString::to_string).collect();
            let owner = port.process.as_ref().map_or("-", |owner| &owner.name);
            format!(
                "{}/{} {} {} {}",
                port.protocol,
                port.port,
                addresses.join(","),
                owner,
                port.sockets.len()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "6/1 100.64.0.1,fd7a::1 a 2",
            "6/2 100.64.0.1,fd7a::1 a 1",
            "6/3 100.64.0.1 b 1",
            "6/3 fd7a::1 a 1",
            "6/6 100.64.9.1 w 1",
            "17/6 100.64.0.1 a 1",
        ]
    );
    assert_eq!(all[4].workload.as_deref(), Some("h/w"));
    assert!(all[0].is_wildcard && !all[2].is_wildcard);
}

fn admitted(acls: &str) -> Vec<Admitted> {
    let policy = format!(r#"{{"tagOwners": {{"tag:h": [], "tag:c": []}}, "acls": [{acls}]}}"#);
    let inventory = r#"{"nodes": [{"name": "h", "addresses": ["100.64.0.1", "fd7a::1"], "tags": ["tag:h"]},
        {"name": "c", "addresses": ["100.64.0.2", "fd7a::2"], "tags": ["tag:c"]}]}"#;
    let loaded = Loaded::new(Source::new("p", &policy), Some(Source::new("i", inventory)), &Scope::default());
    assert!(!loaded.findings.has_errors(), "{:?}", loaded.findings);
    let (ruleset, inventory) = (loaded.ruleset.unwrap(), loaded.inventory.unwrap());
    let all: Vec<usize> = (0..ruleset.rules.len()).collect();
    Admitted::of(&ruleset, &all, &inventory, "h")
}

fn rule(port: &str, more: &str) -> String {
    format!(r#"{{"action": "accept", "src": ["tag:c"], "proto": "tcp", "dst": ["tag:h:{port}"]{more}}}"#)
}

const REQUIRED: &str = r#", "tls": "required""#;
const OBSERVE: &str = r#", "tls": "observe""#;

#[test]
fn a_port_is_required_only_if_nothing_else_admits_it() {
    for (acls, wanted, required) in [
        (vec![rule("1", REQUIRED)], Some(Wanted::Required), true),
        (vec![rule("1", REQUIRED), rule("1-9", "")], Some(Wanted::Required), false),
        (vec![rule("1", REQUIRED), rule("1", OBSERVE)], Some(Wanted::Required), false),
        (vec![rule("1", OBSERVE)], Some(Wanted::Observe), false),
        (vec![rule("1", "")], None, false),
        (vec![rule("2", REQUIRED)], None, false),
        (vec![], None, false),
    ] {
        let port = of(&[], &admitted(&acls.join(",")), &Counts::new());
        assert_eq!((port.wanted, port.is_required), (wanted, required), "{acls:?}");
    }
    let postgres = admitted(&rule("5432", r#", "tls": "required", "starttls": "postgres""#));
    assert_eq!(postgres[0].starttls, Some(StartTls::Postgres));
    // What goes elsewhere is not admitted here.
    let away =
        r#"{"action": "accept", "src": ["tag:h"], "proto": "tcp", "dst": ["tag:c:1"], "tls": "required"}"#;
    assert_eq!(admitted(away), []);
}

/// What is known of port 1.
fn of(probes: &[Probe], admitted: &[Admitted], counts: &Counts) -> Port {
    let one =
        found(&[socket(Transport::Tcp, "[::]:1", true, 1, 5), socket(Transport::Tcp, "[::]:2", true, 1, 5)]);
    ports(&one, admitted, counts, probes, NOW).remove(0)
}

fn probe(at: &str, began: Began, client_certificate: ClientCertificate) -> Probe {
    let probe = Probe::new(at.parse().unwrap(), NOW, None);
    Probe { began, client_certificate, ..probe }
}

#[test]
fn plaintext_is_believed_and_contradictions_are_told() {
    let rules = admitted(&rule("1", OBSERVE));
    let tls = || probe("100.64.0.1:1", Began::Tls, ClientCertificate::NotAsked);
    let plain = || probe("100.64.0.1:1", Began::Plaintext, ClientCertificate::Unknown);
    for (counted, probes, began, by, contradicts) in [
        ((0, 0), vec![], Began::Unknown, None, false),
        ((0, 0), vec![tls()], Began::Tls, Some(SeenBy::Probe), false),
        ((0, 0), vec![plain()], Began::Plaintext, Some(SeenBy::Probe), false),
        ((5, 0), vec![], Began::Tls, Some(SeenBy::Kernel), false),
        ((5, 0), vec![tls()], Began::Tls, Some(SeenBy::Kernel), false),
        ((5, 0), vec![plain()], Began::Plaintext, Some(SeenBy::Probe), true),
        ((0, 5), vec![], Began::Plaintext, Some(SeenBy::Kernel), false),
        ((0, 5), vec![tls()], Began::Plaintext, Some(SeenBy::Kernel), true),
        ((5, 5), vec![tls()], Began::Tls, Some(SeenBy::Probe), true),
        ((5, 5), vec![], Began::Plaintext, Some(SeenBy::Kernel), false),
        ((5, 5), vec![tls(), plain()], Began::Plaintext, Some(SeenBy::Kernel), false),
    ] {
        let counts: Counts = [(1, Flows { began: counted.0, plaintext: counted.1, unverified: 0 })].into();
        let port = of(&probes, &rules, &counts);
        assert_eq!((port.began, port.by), (began, by), "{counted:?} {probes:?}");
        assert_eq!(port.why.is_some_and(|why| why.contains("flows began")), contradicts);
    }
}

#[test]
fn counters_of_a_rule_with_other_ports_are_told_and_say_nothing_of_one() {
    let counts: Counts = [(1, Flows { began: 0, plaintext: 5, unverified: 1 })].into();
    let port = of(&[], &admitted(&rule("1-2", OBSERVE)), &counts);
    assert_eq!((port.began, port.counted.unwrap().plaintext), (Began::Unknown, 5));
    // Nobody listens at the others.
    let port = of(&[], &admitted(&rule("1,3-9", OBSERVE)), &counts);
    assert_eq!(port.began, Began::Plaintext);
    // Two rules for one port: both count for it.
    let both = [rule("1", OBSERVE), rule("1", REQUIRED)].join(",");
    let counts: Counts = [1, 2].map(|rule| (rule, Flows { began: 3, ..Flows::default() })).into();
    assert_eq!(of(&[], &admitted(&both), &counts).counted.unwrap().began, 6);
}

#[test]
fn a_certificate_is_demanded_only_if_every_socket_demands_it() {
    use ClientCertificate::{Demanded, NotAsked, Optional, Unknown};
    for (one, other, wanted) in [
        (Demanded, Demanded, Demanded),
        (Demanded, Unknown, Unknown),
        (Demanded, Optional, Optional),
        (NotAsked, Demanded, NotAsked),
    ] {
        let probes = [probe("100.64.0.1:1", Began::Tls, one), probe("[fd7a::1]:1", Began::Tls, other)];
        assert_eq!(of(&probes, &[], &Counts::new()).client_certificate, wanted);
    }
    // Of another port, or of another host's.
    let others = [probe("100.64.0.1:9", Began::Tls, Demanded), probe("100.64.0.9:1", Began::Tls, Demanded)];
    assert_eq!(of(&others, &[], &Counts::new()).probed, None);
}
