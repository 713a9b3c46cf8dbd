use std::net::{IpAddr, SocketAddr};

use bulkhead_abi::Direction;
use bulkhead_api::session::Session;
use bulkhead_dataplane::Connection;
use bulkhead_policy::Dialect;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory};
use bulkhead_policy::source::Source;

use super::host::{Host, Interface, Listener, Peer, WireGuard};
use super::{Draft, draft, judge};
use crate::config::{Config, Mode};

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn key(number: u16) -> [u8; 32] {
    let mut key = [7; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    key
}

fn peer(number: u16, allowed: &[&str]) -> Peer {
    Peer { key: key(number), allowed: allowed.iter().map(|prefix| prefix.parse().unwrap()).collect() }
}

fn wireguard(name: &str, addresses: &[&str], peers: Vec<Peer>) -> Interface {
    let own = key(60_000 + u16::try_from(name.len()).unwrap() + u16::from(name.as_bytes()[name.len() - 1]));
    Interface {
        name: name.to_owned(),
        kind: "wireguard".to_owned(),
        is_bare_ip: true,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        is_uplink: false,
        wireguard: Some(WireGuard { key: Some(own), port: Some(51820), peers }),
    }
}

fn uplink() -> Interface {
    let addresses = vec!["192.0.2.10/24".parse().unwrap()];
    Interface { name: "eth0".to_owned(), is_uplink: true, addresses, ..Interface::default() }
}

fn tcp(at: &str, process: &str) -> Listener {
    Listener { protocol: "tcp", at: socket(at), process: Some(process.to_owned()) }
}

fn udp(at: &str, process: &str) -> Listener {
    Listener { protocol: "udp", ..tcp(at, process) }
}

/// A host with a mesh of two others, services and an operator.
fn host() -> Host {
    Host {
        name: "oms-1.example.com".to_owned(),
        interfaces: vec![
            uplink(),
            wireguard(
                "wg0",
                &["10.0.0.1/24", "fd00::1/64", "fe80::1/64"],
                vec![peer(2, &["10.0.0.3/32"]), peer(1, &["fd00::2/128", "10.0.0.2/32", "10.20.0.0/16"])],
            ),
        ],
        listeners: vec![
            tcp("0.0.0.0:22", "sshd"),
            tcp("[::]:22", "sshd"),
            tcp("10.0.0.1:8443", "orders"),
            tcp("127.0.0.1:5432", "postgres"),
            tcp("192.0.2.10:9000", "outside"),
            udp("0.0.0.0:51820", "unknown"),
            udp("0.0.0.0:40000", "chronyd"),
            udp("0.0.0.0:68", "dhclient"),
            udp("[::]:514", "rsyslogd"),
        ],
        ephemeral: [32768, 60999],
        connections: vec![
            Connection {
                local: socket("10.0.0.1:40000"),
                remote: socket("10.0.0.2:5432"),
                begun: Some(Direction::Egress),
            },
            Connection {
                local: socket("192.0.2.10:40000"),
                remote: socket("198.51.100.7:443"),
                begun: Some(Direction::Egress),
            },
            Connection {
                local: socket("10.0.0.1:22"),
                remote: socket("10.0.0.3:50000"),
                begun: Some(Direction::Ingress),
            },
        ],
        session: Some(Session { client: socket("203.0.113.9:50122"), server: socket("192.0.2.10:22") }),
        ..Host::default()
    }
}

/// A draft that an agent would take.
fn valid(host: &Host) -> Draft {
    let draft = draft(host);
    if let Err(error) = judge(&draft, Dialect::default(), 0) {
        panic!("{error:#}\n{}\n{}\n{}", draft.config, draft.inventory, draft.policy);
    }
    draft
}

fn inventory(draft: &Draft) -> Inventory {
    let mut findings = Findings::default();
    let found = inventory::parse(&Source::new("inventory.json", &draft.inventory), &mut findings);
    assert!(!findings.has_errors(), "{findings:?}");
    found.unwrap()
}

#[test]
fn a_host_in_a_mesh_gets_what_was_seen_of_it() {
    let draft = valid(&host());
    assert_eq!(
        (&*draft.node, &draft.interfaces[..], &draft.uplinks[..]),
        ("oms-1", &["wg0".to_owned()][..], &["eth0".to_owned()][..])
    );
    assert_eq!(draft.warnings, Vec::<String>::new());
    let inventory = inventory(&draft);
    let names: Vec<&str> = inventory.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["oms-1", "peer-10-0-0-2", "peer-10-0-0-3"]);
    let own = inventory.node("oms-1").unwrap();
    let addresses: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(own.addresses, addresses, "and not the link's own");
    let router = inventory.node("peer-10-0-0-2").unwrap();
    assert_eq!((router.key, router.addresses.len(), router.routes.len()), (Some(key(1)), 2, 1));

    let config = Config::parse("agent.toml".as_ref(), &draft.config).unwrap();
    assert_eq!((config.mode, config.interfaces.len()), (Mode::Audit, 1));
    assert!(config.interfaces[0].is_optional);
    let from: Vec<String> = config.management[0].sources.iter().map(ToString::to_string).collect();
    assert_eq!(
        (from, &*config.management[0].ports),
        (vec!["10.0.0.3/32".to_owned(), "203.0.113.9/32".to_owned()], &[22][..])
    );
    for line in [
        r#"{"name": "sshd", "action": "accept", "src": ["tag:mesh", "ipset:behind-peers"], "dst": ["ipset:this-host:22"], "proto": "tcp"}"#,
        r#""dst": ["ipset:this-host:8443"]"#,
        r#""dst": ["ipset:this-host:514"], "proto": "udp""#,
        r#"{"name": "to-5432", "action": "accept", "src": ["ipset:this-host"], "dst": ["10.0.0.2:5432"], "proto": "tcp"}"#,
        "unknown, udp 51820: an overlay's own",
        "dhclient, udp 68: of the link alone",
        "chronyd, udp 40000: a port for questions to others",
    ] {
        assert!(draft.policy.contains(line), "{line} is not in\n{}", draft.policy);
    }
    for none in ["postgres", "outside", "198.51.100.7"] {
        assert!(!draft.policy.contains(none), "{none} is in\n{}", draft.policy);
    }
}

#[test]
fn the_same_host_gives_the_same_files_in_whatever_order_it_is_seen() {
    let one = draft(&host());
    let mut other = host();
    other
        .interfaces
        .iter_mut()
        .filter_map(|found| found.wireguard.as_mut())
        .for_each(|found| found.peers.reverse());
    other.listeners.reverse();
    other.connections.reverse();
    assert_eq!(draft(&other), one);
}

#[test]
fn a_draft_holds_no_finding_at_all() {
    use bulkhead_policy::check::{Loaded, Scope};

    let draft = draft(&host());
    let config = Config::parse("agent.toml".as_ref(), &draft.config).unwrap();
    let scope = Scope { exemptions: config.exemptions(&draft.node), ..Scope::default() };
    let source = |name, text| Source::new(name, text);
    let policy = source("policy.hujson", &draft.policy);
    let mut loaded = Loaded::new(policy, Some(source("inventory.json", &draft.inventory)), &scope);
    loaded.check(0);
    assert_eq!(loaded.findings.0, Vec::new());
}

#[test]
fn a_host_without_overlay_or_session_is_told_what_to_do() {
    let bare = Host { name: "bare".to_owned(), interfaces: vec![uplink()], ..Host::default() };
    let draft = valid(&bare);
    assert!(draft.interfaces.is_empty() && draft.management.is_empty());
    let all = draft.warnings.join("\n");
    assert!(all.contains("no WireGuard, Tailscale or NetBird interface is there: bring it up"), "{all}");
    assert!(all.contains("nobody is exempt from the policy: add [[management]]"), "{all}");
    valid(&Host::default());
    // An interface without an address and one without peers.
    let interfaces = vec![wireguard("wg0", &[], Vec::new())];
    let draft = valid(&Host { interfaces, ..bare });
    assert!(draft.warnings.iter().any(|warning| warning.starts_with("wg0 has no address")), "{draft:?}");
}

#[test]
fn odd_peers_are_expressed_or_told() {
    let peers = vec![
        peer(1, &["0.0.0.0/0", "::/0"]),
        peer(2, &["10.0.0.2/32", "0.0.0.0/0", "10.0.0.0/24"]),
        peer(3, &[]),
        peer(4, &["224.0.0.5/32", "10.0.0.4/32", "224.0.0.0/4"]),
        peer(5, &["10.0.0.2/32"]),
        peer(6, &["10.0.0.1/32"]),
        peer(7, &["10.9.0.1/16", "::ffff:10.0.0.7/128"]),
    ];
    let interfaces = vec![wireguard("wg0", &["10.0.0.1/24"], peers)];
    let draft = valid(&Host { interfaces, session: host().session, ..Host::default() });
    let inventory = inventory(&draft);
    assert_eq!(inventory.nodes.len(), 8);
    let exit = inventory.nodes.iter().find(|node| node.key == Some(key(1))).unwrap();
    assert_eq!((&*exit.name, exit.routes.len(), exit.addresses.len()), ("peer-00010707", 2, 0));
    let behind = r#""ipset:behind-peers": ["10.0.0.0/24", "10.9.0.0/16"]"#;
    assert!(draft.policy.contains(behind), "an exit's route to everything is no source\n{}", draft.policy);
    for told in [
        "10.0.0.2 of peer-10-0-0-2-2 on wg0 is not in the inventory: it is peer-10-0-0-2's",
        "10.0.0.1 of peer-10-0-0-1 on wg0 is not in the inventory: it is this-host's",
        "224.0.0.5 of",
        "224.0.0.0/4 of",
        "::ffff:10.0.0.7 of",
    ] {
        assert!(
            draft.warnings.iter().any(|warning| warning.starts_with(told)),
            "{told}: {:#?}",
            draft.warnings
        );
    }
}

#[test]
fn two_overlays_are_told_apart() {
    let interfaces = vec![
        wireguard("wg0", &["10.0.0.1/24"], vec![peer(1, &["10.0.0.2/32"])]),
        wireguard("wg1", &["fd00:1::1/64"], vec![peer(1, &["fd00:1::2/128"]), peer(2, &["10.0.0.2/32"])]),
    ];
    let draft = valid(&Host { interfaces, ..Host::default() });
    let config = Config::parse("agent.toml".as_ref(), &draft.config).unwrap();
    let zones: Vec<_> = config.interfaces.iter().map(|managed| managed.zone).collect();
    assert_eq!(zones, [Some(1), Some(11)]);
    let inventory = inventory(&draft);
    assert_eq!(inventory.nodes.len(), 3);
    let both = inventory.nodes.iter().find(|node| node.key == Some(key(1))).unwrap();
    assert_eq!(both.addresses.len(), 2, "a key is who it is, on either");
    let mut crossed = host();
    crossed.interfaces = vec![
        wireguard("wg0", &["10.0.0.1/24"], vec![peer(1, &["10.1.0.1/32", "10.0.0.2/32"])]),
        wireguard("wg1", &["10.1.0.1/24"], Vec::new()),
    ];
    let own = self::inventory(&valid(&crossed));
    assert_eq!(own.node("oms-1").unwrap().addresses.len(), 2, "what is this host's is no peer's");
    assert!(draft.inventory.contains("// on wg1 this host has the key "), "{}", draft.inventory);
}

#[test]
fn names_of_others_stay_within_their_quotes() {
    let mut odd = host();
    odd.name = "Ünser host/1:\"x\"\n".to_owned();
    odd.listeners =
        vec![tcp("0.0.0.0:80", "ngi\nx\"},*/ // \u{202e}"), udp("0.0.0.0:68", "a\nb"), tcp("0.0.0.0:81", "")];
    odd.interfaces.push(Interface { name: "br\"\n0".to_owned(), kind: "bri\ndge".to_owned(), ..uplink() });
    odd.unknown = vec!["the peers of wg7: `wg show`: \u{1b}[31m".to_owned()];
    let draft = valid(&odd);
    assert_eq!(draft.node, "nser-host-1--x");
    assert!(
        !draft.policy.contains("\nx") && !draft.config.contains("\ndge"),
        "{}\n{}",
        draft.config,
        draft.policy
    );
    assert!(draft.warnings.iter().all(|warning| !warning.contains('\u{1b}')));
}

#[test]
fn ten_thousand_peers_are_one_mesh() {
    let peers = (1..=10_000).map(|number: u16| {
        let [high, low] = number.to_be_bytes();
        peer(number, &[&format!("10.1.{high}.{low}/32")])
    });
    let interfaces = vec![wireguard("wg0", &["10.0.0.1/8"], peers.collect())];
    let draft = valid(&Host { interfaces, listeners: host().listeners, ..Host::default() });
    assert_eq!(draft.nodes, 10_001);
}

#[test]
fn addresses_of_ipv6_alone_will_do() {
    let mut only = host();
    only.interfaces = vec![wireguard("wg0", &["fd00::1/64"], vec![peer(1, &["fd00::2/128"])])];
    only.connections = vec![Connection {
        local: socket("[fd00::1]:40000"),
        remote: socket("[fd00::2]:443"),
        begun: Some(Direction::Egress),
    }];
    let draft = valid(&only);
    assert!(draft.policy.contains(r#""dst": ["[fd00::2]:443"]"#), "{}", draft.policy);
}

const TAILSCALE: &str = r#"{
  "BackendState": "Running", "MagicDNSSuffix": "tail1234.ts.net",
  "Self": {"PublicKey": "nodekey:1111111111111111111111111111111111111111111111111111111111111111", "HostName": "h", "DNSName": "oms-1.tail1234.ts.net.", "TailscaleIPs": ["100.64.0.1", "fd7a:115c:a1e0::1"], "UserID": 1, "OS": "linux"},
  "Peer": {
    "a": {"PublicKey": "nodekey:2222222222222222222222222222222222222222222222222222222222222222", "HostName": "db", "DNSName": "db.tail1234.ts.net.", "TailscaleIPs": ["100.64.0.2"], "Tags": ["tag:db"], "UserID": 2, "PrimaryRoutes": ["10.20.0.0/16"], "ExitNodeOption": true},
    "b": {"PublicKey": "nodekey:3333333333333333333333333333333333333333333333333333333333333333", "HostName": "db", "DNSName": "ada-laptop.tail1234.ts.net.", "TailscaleIPs": ["100.64.0.3"], "UserID": 1}
  },
  "User": {"1": {"LoginName": "Ada@example.com"}, "2": {"LoginName": "tagged-devices"}}
}"#;

fn tailscale() -> Host {
    let addresses = ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"].map(|address| address.parse().unwrap());
    let tun = Interface {
        name: "tailscale0".to_owned(),
        kind: "tun".to_owned(),
        is_bare_ip: true,
        addresses: addresses.to_vec(),
        ..Interface::default()
    };
    let mut host = host();
    host.interfaces = vec![uplink(), tun];
    host.tailscale = Some(TAILSCALE.to_owned());
    host
}

#[test]
fn a_tailnet_keeps_its_names_users_and_tags() {
    let draft = valid(&tailscale());
    assert_eq!((&*draft.node, draft.nodes), ("oms-1", 3));
    let inventory = inventory(&draft);
    assert_eq!(inventory.node("db").unwrap().tags(), ["tag:db"]);
    assert_eq!(inventory.node("ada-laptop").unwrap().user(), Some("ada@example.com"));
    assert_eq!(inventory.node("oms-1").unwrap().addresses.len(), 2);
    let config = Config::parse("agent.toml".as_ref(), &draft.config).unwrap();
    assert_eq!(config.exemptions("oms-1").overlays[0].overlay, bulkhead_policy::resolve::Overlay::Tailscale);
    let from = r#""src": ["autogroup:member", "autogroup:tagged", "ipset:behind-peers"]"#;
    assert!(draft.policy.contains(from), "{}", draft.policy);
    assert!(!draft.policy.contains("tag:mesh"), "{}", draft.policy);
    // A WireGuard interface beside it: its peers are added, and this host stays who it is.
    let mut both = tailscale();
    both.interfaces.push(wireguard("wg0", &["10.0.0.1/24"], vec![peer(1, &["10.0.0.2/32"])]));
    let draft = valid(&both);
    assert_eq!((&*draft.node, draft.nodes, draft.interfaces.len()), ("oms-1", 4, 2));
}

const NEEDS_LOGIN: &str = r#"{"BackendState": "NeedsLogin", "Self": {"HostName": "h"}}"#;

#[test]
fn a_status_that_is_none_is_told_and_the_rest_goes_on() {
    for (status, words) in [("{}", "no \"Self\""), ("", "tailscale status"), (NEEDS_LOGIN, "tailscale up")] {
        let mut host = tailscale();
        host.tailscale = Some(status.to_owned());
        let draft = valid(&host);
        assert_eq!(draft.nodes, 1);
        assert!(draft.warnings.iter().any(|warning| warning.contains(words)), "{:?}", draft.warnings);
    }
}

#[test]
fn netbirds_peers_are_called_as_it_calls_them() {
    let [own, db] =
        ["BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg="];
    let status = format!(
        r#"{{"peers": {{"total": 2, "connected": 1, "details": [
            {{"fqdn": "db.netbird.cloud", "netbirdIp": "100.119.0.2", "publicKey": "{db}", "networks": ["10.20.0.0/16", "*.example.com"]}},
            {{"fqdn": "db.other.cloud", "netbirdIp": "100.119.0.3", "publicKey": "", "networks": null}}]}},
            "netbirdIp": "100.119.0.1/16", "publicKey": "{own}", "fqdn": "oms-1.netbird.cloud", "usesKernelInterface": true}}"#
    );
    let mut host = host();
    host.interfaces =
        vec![uplink(), wireguard("wt0", &["100.119.0.1/16"], vec![peer(1, &["100.119.0.2/32"])])];
    host.netbird = Some(status);
    let draft = valid(&host);
    let inventory = inventory(&draft);
    let names: Vec<&str> = inventory.nodes.iter().map(|node| &*node.name).collect();
    assert_eq!(names, ["db", "db-2", "oms-1"]);
    assert_eq!(inventory.node("db").unwrap().routes.len(), 1);
    // What it prints is not understood: WireGuard tells, at least.
    host.netbird = Some("Daemon status: NeedsLogin".to_owned());
    let draft = valid(&host);
    assert_eq!(draft.nodes, 2);
    assert!(draft.warnings.iter().any(|warning| warning.contains("netbird status --json")));
}
