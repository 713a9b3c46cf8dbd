use super::*;
use crate::frontend::inventory::{Inventory, parse};

/// What `tailscale status --json` prints on `gw-eu`, fields that nothing here reads left in.
const STATUS: &str = r#"{
  "Version": "1.86.2-t2b8ec0dbd", "TUN": true, "BackendState": "Running", "HaveNodeKey": true, "AuthURL": "",
  "TailscaleIPs": ["100.101.102.103", "fd7a:115c:a1e0::6501:6667"],
  "Self": {
    "ID": "nGatewayCNTRL", "PublicKey": "nodekey:2f8ae1d0c3b4a5968778695a4b3c2d1e0f102132435465768798a9bacbdcedfe",
    "HostName": "gw-eu", "DNSName": "gw-eu.tail1234.ts.net.", "OS": "linux", "UserID": 8812345678901234,
    "TailscaleIPs": ["100.101.102.103", "fd7a:115c:a1e0::6501:6667"],
    "AllowedIPs": ["100.101.102.103/32", "fd7a:115c:a1e0::6501:6667/128", "10.20.0.0/24"],
    "Tags": ["tag:gateway"], "PrimaryRoutes": ["10.20.0.0/24"], "Addrs": ["192.0.2.9:41641"], "CurAddr": "",
    "Relay": "fra", "RxBytes": 0, "TxBytes": 0, "Created": "2025-03-04T09:08:07.123456789Z",
    "LastSeen": "0001-01-01T00:00:00Z", "Online": true, "ExitNode": false, "ExitNodeOption": false, "Active": false,
    "PeerAPIURL": ["http://100.101.102.103:40000"], "CapMap": {"https://tailscale.com/cap/is-admin": null},
    "InNetworkMap": true, "InMagicSock": false, "InEngine": false
  },
  "MagicDNSSuffix": "tail1234.ts.net",
  "CurrentTailnet": {"Name": "example.com", "MagicDNSSuffix": "tail1234.ts.net", "MagicDNSEnabled": true},
  "Peer": {
    "nodekey:8d3c5f4b2a19080716f5e4d3c2b1a0ff0e1d2c3b4a59687786958473625140af": {
      "ID": "nLaptopCNTRL", "PublicKey": "nodekey:8d3c5f4b2a19080716f5e4d3c2b1a0ff0e1d2c3b4a59687786958473625140af",
      "HostName": "Alice\u2019s MacBook", "DNSName": "alices-macbook.tail1234.ts.net.", "OS": "macOS",
      "UserID": 1122334455667788, "TailscaleIPs": ["100.64.7.8", "fd7a:115c:a1e0::740:708"],
      "AllowedIPs": ["100.64.7.8/32", "fd7a:115c:a1e0::740:708/128"], "Addrs": null, "CurAddr": "", "Relay": "ams",
      "LastSeen": "2026-11-20T08:00:00Z", "Online": false, "ExitNode": false, "ExitNodeOption": false,
      "KeyExpiry": "2027-01-15T10:11:12Z", "InNetworkMap": true
    },
    "nodekey:11d0ffee00aa11bb22cc33dd44ee55ff66778899aabbccddeeff001122334455": {
      "ID": "nExitCNTRL", "PublicKey": "nodekey:11d0ffee00aa11bb22cc33dd44ee55ff66778899aabbccddeeff001122334455",
      "HostName": "exit", "DNSName": "exit.tail9999.ts.net.", "OS": "linux", "UserID": 8812345678901234,
      "TailscaleIPs": ["100.64.9.9"], "Tags": ["tag:exit"], "ExitNodeOption": true, "ShareeNode": false
    }
  },
  "User": {
    "1122334455667788": {"ID": 1122334455667788, "LoginName": "Alice@example.com", "DisplayName": "Alice", "ProfilePicURL": ""},
    "8812345678901234": {"ID": 8812345678901234, "LoginName": "tagged-devices", "DisplayName": "Tagged Devices"}
  },
  "ClientVersion": null
}"#;

/// `headscale nodes list -o json` of 0.26: protobuf's names, times as seconds, empty fields left out.
pub(super) const NODES: &str = r#"[
  {"id": 1, "machine_key": "mkey:aa00000000000000000000000000000000000000000000000000000000000001",
   "node_key": "nodekey:bb000000000000000000000000000000000000000000000000000000000000b1",
   "disco_key": "discokey:cc00000000000000000000000000000000000000000000000000000000000001",
   "ip_addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "name": "ledger", "given_name": "ledger-eu",
   "user": {"id": 1, "name": "ops", "created_at": {"seconds": 1700000000, "nanos": 5}},
   "last_seen": {"seconds": 1763800000}, "expiry": {"seconds": -62135596800},
   "created_at": {"seconds": 1700000100}, "register_method": 1, "forced_tags": ["tag:ledger"],
   "valid_tags": ["tag:eu", "tag:ledger"], "online": true,
   "approved_routes": ["10.9.0.0/16"], "available_routes": ["10.9.0.0/16", "10.8.0.0/16"], "subnet_routes": ["10.9.0.0/16"]},
  {"id": 2, "node_key": "nodekey:bb000000000000000000000000000000000000000000000000000000000000b2",
   "ip_addresses": ["100.64.0.2"], "name": "bob-laptop", "given_name": "bob-laptop",
   "user": {"id": 2, "name": "bob", "email": "bob@example.com", "provider": "oidc"},
   "expiry": {"seconds": 1800000000, "nanos": 1}, "register_method": 3},
  {"id": 3, "node_key": "nodekey:bb000000000000000000000000000000000000000000000000000000000000b3",
   "ip_addresses": ["100.64.0.3"], "name": "console", "given_name": "console", "user": {"id": 3, "name": "carol"}}
]"#;

/// `wg show wg0 dump`: made-up keys.
const DUMP: &str = "\
UHJpdmF0ZUtleVByaXZhdGVLZXlQcml2YXRlS2V5MDA=\tAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\t51820\toff
AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\t(none)\t192.0.2.7:51820\t100.64.0.2/32,fd7a::2/128,10.4.0.0/16\t1763800000\t148\t92\t25
AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\tUHJlc2hhcmVkS2V5UHJlc2hhcmVkS2V5UHJlc2hhcmU=\t(none)\t(none)\t0\t0\t0\toff
";
const NAMES: &str = r#"{
  // this host
  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=": "engine",
  "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=": "gateway",
  "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=": "spare",
}"#;

pub(super) fn source(text: &str) -> Source {
    Source::new("list", text)
}

fn inventory(text: &str) -> Inventory {
    let mut findings = Findings::default();
    let read = parse(&Source::new("inventory", text), &mut findings);
    assert!(findings.0.is_empty(), "{findings}\n{text}");
    read.unwrap()
}

/// Merged, written, and read again without a finding.
pub(super) fn merged(
    import: Option<Import>,
    existing: Option<&str>,
    findings: &mut Findings,
) -> (String, Inventory) {
    let existing = existing.map(inventory);
    let text = write(&merge(import.unwrap(), existing.as_ref(), findings));
    let read = inventory(&text);
    (text, read)
}

#[test]
fn tailscale_lists_itself_and_its_peers() {
    let mut findings = Findings::default();
    let (text, read) = merged(tailscale(&source(STATUS), &mut findings), None, &mut findings);
    assert!(
        matches!(&findings.0[..], [note] if note.message.ends_with(": exit.tail9999.ts.net")),
        "{findings}"
    );
    assert_eq!(
        text,
        r#"{
  "nodes": [
    {"name": "alices-macbook", "key": "jTxfSyoZCAcW9eTTwrGg/w4dLDtKWWh3hpWEc2JRQK8=", "addresses": ["100.64.7.8","fd7a:115c:a1e0::740:708"], "user": "alice@example.com", "posture": {"node:os":"macos"}, "expires": "2027-01-15T10:11:12Z"},
    {"name": "exit.tail9999.ts.net", "key": "EdD/7gCqEbsizDPdRO5V/2Z3iJmqu8zd7v8AESIzRFU=", "addresses": ["100.64.9.9"], "tags": [], "routes": ["0.0.0.0/0","::/0"], "posture": {"node:os":"linux"}, "jailed": true},
    {"name": "gw-eu", "key": "L4rh0MO0pZaHeGlaSzwtHg8QITJDVGV2h5ipusvc7f4=", "addresses": ["100.101.102.103","fd7a:115c:a1e0::6501:6667"], "tags": ["tag:gateway"], "routes": ["10.20.0.0/24"], "posture": {"node:os":"linux"}}
  ],
  "users": [
    {"login": "alice@example.com"}
  ]
}
"#
    );
    assert_eq!(read.nodes.len(), 3);
}

#[test]
fn headscale_lists_every_node() {
    let mut findings = Findings::default();
    let (text, read) = merged(headscale(&source(NODES), &mut findings), None, &mut findings);
    assert!(findings.0.is_empty(), "{findings}");
    let names: Vec<&str> = read.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["bob-laptop", "console", "ledger-eu"], "{text}");
    assert_eq!(read.nodes[0].user(), Some("bob@example.com"));
    assert_eq!(read.nodes[0].expires, Some(1_800_000_000 * 1_000_000_000));
    assert_eq!(read.nodes[1].user(), Some("carol@"), "as headscale's policies write users");
    assert_eq!(read.nodes[2].tags(), ["tag:eu", "tag:ledger"]);
    assert_eq!(read.nodes[2].routes, ["10.9.0.0/16".parse().unwrap()], "approved ones only");
    assert_eq!(read.nodes[2].expires, None);
}

#[test]
fn wireguard_lists_keys_and_a_file_names_them() {
    let mut findings = Findings::default();
    let import = wireguard(&source(DUMP), &source(NAMES), &mut findings);
    let hand = r#"{"nodes": [
        {"name": "engine", "addresses": ["100.64.0.1"], "tags": ["tag:engine"], "underlay": ["203.0.113.7"]},
        {"name": "gateway", "key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "addresses": ["100.64.9.9"], "tags": ["tag:gateway"]}]}"#;
    let (text, read) = merged(import, Some(hand), &mut findings);
    let told = "engine has a key that the inventory does not have, and keeps by its name what it says: owner, \
                addresses, underlay addresses";
    assert!(matches!(&findings.0[..], [note] if note.message == told), "{findings}");
    let [engine, gateway, spare] = &read.nodes[..] else { panic!("{text}") };
    assert_eq!(engine.key, Some([0; 32]));
    assert_eq!(engine.addresses, ["100.64.0.1".parse::<IpAddr>().unwrap()], "not in the dump, so kept");
    assert_eq!((engine.tags(), engine.underlay.len()), (&["tag:engine".to_owned()][..], 1));
    assert_eq!(gateway.addresses, ["100.64.0.2".parse::<IpAddr>().unwrap(), "fd7a::2".parse().unwrap()]);
    assert_eq!(gateway.routes, ["10.4.0.0/16".parse().unwrap()]);
    assert_eq!(gateway.tags(), ["tag:gateway"]);
    assert_eq!((spare.addresses.len(), spare.tags().len()), (0, 0), "nobody, until tags are given by hand");
}

#[test]
fn hand_kept_fields_stay_and_the_gone_go() {
    let mut findings = Findings::default();
    let hand = r#"{"nodes": [
        {"name": "old-name", "key": "L4rh0MO0pZaHeGlaSzwtHg8QITJDVGV2h5ipusvc7f4=", "addresses": ["100.64.1.1"],
         "tags": ["tag:retired"], "underlay": ["203.0.113.7"], "posture": {"custom:rack": "b4", "node:os": "plan9"}},
        {"name": "was-here", "key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", "addresses": ["100.64.1.2"], "tags": ["tag:x"]},
        {"name": "printer", "addresses": ["192.0.2.44"], "tags": ["tag:printer"]}],
      "users": [{"login": "alice@example.com", "roles": ["admin"]}, {"login": "zoe@example.com", "roles": ["auditor"]}]}"#;
    let (text, read) = merged(tailscale(&source(STATUS), &mut findings), Some(hand), &mut findings);
    let gateway = read.node("gw-eu").unwrap();
    assert_eq!(gateway.tags(), ["tag:gateway"], "the list is the authority");
    assert_eq!(gateway.underlay, ["203.0.113.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(gateway.posture["custom:rack"], "b4");
    assert_eq!(gateway.posture["node:os"], "linux");
    assert!(read.node("old-name").is_none() && read.node("was-here").is_none());
    assert!(read.node("printer").is_some(), "no tool lists it");
    let told: Vec<&str> = findings.0.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(told[1..], ["was-here is no longer listed, and left out"], "{told:?}");
    let users = read.users.as_ref().unwrap();
    assert_eq!(users[0].roles, ["admin"]);
    assert_eq!(users[1].roles, ["auditor"]);
    // Doing it again changes nothing.
    let mut findings = Findings::default();
    let (again, _) = merged(tailscale(&source(STATUS), &mut findings), Some(&text), &mut findings);
    assert_eq!(again, text);
    assert!(matches!(&findings.0[..], [note] if note.message.contains(" jailed: ")), "{findings}");
}

#[test]
fn what_is_no_list_is_refused_with_a_next_step() {
    type Read = fn(&Source, &mut Findings) -> Option<Import>;
    let wg: Read = |dump, findings| wireguard(dump, &source(NAMES), findings);
    for (read, text, words, step) in [
        (tailscale as Read, "", "ends here", ""),
        (tailscale, "{\"Peer\": {}}", "no \"Self\"", "tailscale status --json"),
        (tailscale, NODES, "no \"Self\"", "tailscale status --json"),
        (tailscale, r#"{"Self": {"DNSName": "a.b.", "UserID": 7}}"#, "neither tags nor a user", "tag it"),
        (
            tailscale,
            r#"{"Self": {"DNSName": "a.b.", "Tags": ["tag:a"], "PublicKey": "nodekey:12"}}"#,
            "no node's key",
            "64",
        ),
        (tailscale, r#"{"Self": {"DNSName": "a.b.", "Tags": "tag:a", "UserID": 7}}"#, "no list", "unchanged"),
        (tailscale, r#"{"Self": {"DNSName": "a.b.", "Tags": ["tag:a"]}}"#, "a has no key", "unchanged"),
        (tailscale, r#"{"Self": {"DNSName": "a.b.", "Tags": ["tag:a"]}}"#, "a has no address", "unchanged"),
        (
            tailscale,
            r#"{"BackendState": "NeedsLogin", "Self": {}}"#,
            "its state is NeedsLogin",
            "tailscale up",
        ),
        (
            tailscale,
            r#"{"Self": {"DNSName": "a.b.", "Tags": ["tag:a"], "KeyExpiry": "soon"}}"#,
            "\"soon\" in KeyExpiry is no time",
            "RFC 3339",
        ),
        (
            tailscale,
            r#"{"Self": {"DNSName": "a.b.", "Tags": ["tag:a"], "ShareeNode": 1}}"#,
            "ShareeNode is neither true nor false",
            "unchanged",
        ),
        (tailscale, r#"{"Self": {}, "Peer": []}"#, "Peer is no object", "unchanged"),
        (tailscale, r#"{"Self": {}, "Peer": {"nodekey:1": 7}}"#, "a peer is an object", "unchanged"),
        (headscale, "[]", "the list has no node", "the server"),
        (headscale, "{\"nodes\": []}", "the list has no node", "the server"),
        (headscale, r#"[{"name": "a", "tags": ["tag:a"], "expiry": "soon"}]"#, "is no time", "RFC 3339"),
        (
            headscale,
            r#"[{"name": "a", "tags": ["tag:a"], "expiry": {"seconds": "x"}}]"#,
            "seconds",
            "unchanged",
        ),
        (headscale, r#"[{"name": "a", "tags": ["tag:a"]}]"#, "a has no key", "unchanged"),
        (headscale, r#"[{"name": "a", "tags": ["tag:a"]}]"#, "a has no address", "unchanged"),
        (headscale, STATUS, "no list of nodes", "headscale nodes list -o json"),
        (headscale, "[7]", "an object", "unchanged"),
        (headscale, r#"[{"id": 1}]"#, "without a name", "rename"),
        (
            headscale,
            r#"[{"name": "a", "forced_tags": ["tag:a"], "ip_addresses": ["x"]}]"#,
            "\"x\"",
            "unchanged",
        ),
        (headscale, &"[".repeat(100_000), "nested deeper", ""),
        (wg, "", "is empty", "as root"),
        (wg, "interface: wg0\n", "fields", "wg show IFACE dump"),
        (wg, "wg0\tx\ty\tz\t0\n", "fields", "of one interface"),
        (wg, "p\tx\t51820\toff\n", "no public key", "unchanged"),
        (wg, "p\tAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\t1\toff\n", "AwMDAwMD", "file of names"),
    ] {
        let mut findings = Findings::default();
        read(&source(text), &mut findings);
        let start: String = text.chars().take(60).collect();
        let error = findings.0.iter().find(|finding| finding.message.contains(words));
        let error = error.unwrap_or_else(|| panic!("{start}: no word of {words}: {findings}"));
        assert!(findings.has_errors(), "{start}");
        let help = error.help.clone().unwrap_or_default();
        assert!(help.contains(step), "{start}: {help}");
    }
}

#[test]
fn no_finding_about_a_dump_has_a_secret() {
    for broken in [
        DUMP.replace("51820\toff", "51820"),
        DUMP.replace("\t25", ""),
        DUMP.replace("10.4.0.0/16", "10.4.0.0/77"),
    ] {
        let mut findings = Findings::default();
        wireguard(&source(&broken), &source("{}"), &mut findings);
        let text = format!("{findings} {:?}", findings.0);
        assert!(findings.has_errors());
        assert!(!text.contains("UHJpdmF0ZUtle") && !text.contains("UHJlc2hhcmVk"), "{text}");
    }
    // Nor one about files that were taken for each other, or hold a private key where a public one belongs.
    let secret = "UHJpdmF0ZUtleVByaXZhdGVLZXlQcml2YXRlS2V5MDA";
    for names in [
        DUMP.to_owned(),
        format!("[Interface]\nPrivateKey = {secret}=\n"),
        format!("{{\"{secret}\": \"engine\"}}"),
        format!("{{{secret}: \"engine\"}}"),
        format!("{{\"engine\": \"{secret}=\"}}"),
        format!("{{\"engine\": {secret}}}"),
    ] {
        let mut findings = Findings::default();
        wireguard(&source(DUMP), &source(&names), &mut findings);
        let text = format!("{findings} {:?}", findings.0);
        assert!(findings.has_errors());
        assert!(!text.contains("UHJpdmF0") && !text.contains("UHJlc2hh"), "{names}: {text}");
    }
}

pub(super) fn status(self_and_peers: &[String]) -> String {
    let peers: Vec<String> =
        self_and_peers[1..].iter().enumerate().map(|(at, peer)| format!("\"{at}\": {peer}")).collect();
    format!(
        r#"{{"BackendState": "Running", "MagicDNSSuffix": "tail1234.ts.net", "Self": {}, "Peer": {{{}}},
            "User": {{"1": {{"LoginName": "alice@example.com"}}, "2": {{"LoginName": "carol@other.example"}},
                      "3": {{"LoginName": "tagged-devices"}}}}}}"#,
        self_and_peers[0],
        peers.join(",")
    )
}

pub(super) fn machine(number: u8, name: &str, user: u8, more: &str) -> String {
    format!(
        r#"{{"PublicKey": "nodekey:{number:064x}", "HostName": "{name}", "DNSName": "{name}.tail1234.ts.net.",
            "UserID": {user}, "TailscaleIPs": ["100.64.0.{number}"]{more}}}"#
    )
}

#[test]
fn relays_of_funnel_are_left_out_in_one_note() {
    let relay = |number| {
        let sharee = r#", "ShareeNode": true, "Tags": ["tag:ingress"]"#;
        machine(number, "funnel-ingress-node", 2, sharee).replace("funnel-ingress-node.tail1234.ts.net.", "")
    };
    // One that only calls itself so is a node like any other.
    let own = machine(9, "funnel-ingress-node", 3, r#", "Tags": ["tag:ingress"]"#);
    let list = status(&[machine(1, "alice", 1, ""), relay(2), relay(3), own]);
    let mut findings = Findings::default();
    let (text, read) = merged(tailscale(&source(&list), &mut findings), None, &mut findings);
    assert_eq!(read.nodes.len(), 2, "{text}");
    assert!(
        matches!(&findings.0[..], [note] if note.message.starts_with("2 relays of Funnel")),
        "{findings}"
    );
}

#[test]
fn headscale_in_camel_case_is_read_alike() {
    let camel = ["node_key", "ip_addresses", "given_name", "forced_tags", "valid_tags", "approved_routes"];
    let camel = camel.iter().fold(NODES.to_owned(), |text, name| {
        let mut parts = name.split('_');
        let first = parts.next().unwrap().to_owned();
        let word = parts.fold(first, |word, part| word + &part[..1].to_uppercase() + &part[1..]);
        text.replace(name, &word)
    });
    assert!(camel.contains("givenName") && !camel.contains("given_name"));
    let api = format!("{{\"nodes\": {camel}}}");
    let read = |text: &str| {
        let mut findings = Findings::default();
        let (text, _) = merged(headscale(&source(text), &mut findings), None, &mut findings);
        assert!(findings.0.is_empty(), "{findings}");
        text
    };
    assert_eq!(read(&camel), read(NODES));
    assert_eq!(read(&api), read(NODES));
}

#[test]
fn a_merge_adds_roles_and_takes_none_away() {
    let before = r#"{"nodes": [], "users": [{"login": "carol@other.example", "roles": ["auditor"]}]}"#;
    let list = status(&[machine(1, "alice", 1, ""), machine(2, "carol", 2, r#", "ShareeNode": true"#)]);
    let mut findings = Findings::default();
    let (text, read) = merged(tailscale(&source(&list), &mut findings), Some(before), &mut findings);
    assert_eq!(read.users.unwrap()[1].roles, ["auditor", "shared"]);
    let mut findings = Findings::default();
    let own = status(&[machine(1, "alice", 1, ""), machine(2, "carol", 2, "")]);
    let (_, read) = merged(tailscale(&source(&own), &mut findings), Some(&text), &mut findings);
    assert_eq!(read.users.unwrap()[1].roles, ["auditor", "shared"]);
}
