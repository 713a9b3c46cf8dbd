//! Random policies over random inventories, and the addresses at which they differ.

#![allow(clippy::unwrap_used, dead_code)] // helpers of a test are a test; each test uses some

use std::fmt::Write as _;
use std::net::IpAddr;

use bulkhead_engine::Reason;
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::reference::Verdict;
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

pub const SOURCES: [&str; 21] = [
    "*",
    "tag:*",
    "tag:a",
    "tag:b",
    "tag:c",
    "group:g",
    "u1@x.y",
    "u2@x.y",
    "autogroup:member",
    "autogroup:tagged",
    "autogroup:danger-all",
    "autogroup:admin",
    "10.1.0.0/16",
    "host",
    "100.64.0.2",
    "fd7a:115c:a1e0::/48",
    "fd7a:115c:a1e0::3",
    "user:*@x.y",
    "ipset:s",
    "spiffe://x.y/w",
    "spiffe://x.y/*",
];
pub const DESTINATIONS: [&str; 19] = [
    "*",
    "tag:*",
    "tag:a",
    "tag:b",
    "tag:c",
    "group:g",
    "u1@x.y",
    "autogroup:member",
    "autogroup:tagged",
    "autogroup:internet",
    "10.1.0.0/16",
    "host",
    "100.64.0.2",
    "fd7a:115c:a1e0::/48",
    "[fd7a:115c:a1e0::3]",
    "2001:db8::/32",
    "ipset:s",
    "spiffe://x.y/w",
    "spiffe://x.y/*",
];
pub const PORTS: [&str; 7] = ["*", "22", "80-443", "443", "1-65535", "22,8080", "0-79"];
pub const PROTOCOLS: [&str; 7] = ["", "tcp", "udp", "sctp", "icmp", "ipv6-icmp", "47"];
pub const TIMES: [u64; 3] = [0, 100, 200];

/// Seconds since the epoch as RFC 3339, below 1000.
pub fn time(seconds: u64) -> String {
    format!("1970-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60)
}

pub fn expires() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), select(vec![50u64, 100, 150, 250]).prop_map(Some)]
}

pub fn acl() -> impl Strategy<Value = String> {
    let parts = (
        prop::bool::weighted(0.7),
        subsequence(SOURCES.to_vec(), 1..3),
        subsequence(DESTINATIONS.to_vec(), 1..3),
        select(PORTS.to_vec()),
        select(PROTOCOLS.to_vec()),
        expires(),
        prop::bool::weighted(0.1),
        posture(),
        rates(),
        (on_deny(), tls()),
    );
    parts.prop_map(
        |(accept, sources, destinations, ports, protocol, expires, own, posture, rates, (on_deny, tls))| {
            // Protocols without ports take only *.
            let ports = if matches!(protocol, "icmp" | "ipv6-icmp" | "47") { "*" } else { ports };
            let (sources, destinations) = if own {
                (vec!["autogroup:member", "group:g"], vec!["autogroup:self"])
            } else {
                (sources, destinations)
            };
            let sources: Vec<_> = sources.iter().map(|source| format!("{source:?}")).collect();
            let destinations: Vec<_> = destinations.iter().map(|to| format!("\"{to}:{ports}\"")).collect();
            let mut rule = format!(
                "{{\"action\": \"{}\", \"src\": [{}], \"dst\": [{}]",
                if accept { "accept" } else { "deny" },
                sources.join(","),
                destinations.join(",")
            );
            if !protocol.is_empty() {
                write!(rule, ", \"proto\": \"{protocol}\"").unwrap();
            }
            if let Some(seconds) = expires {
                write!(rule, ", \"expires\": \"{}\"", time(seconds)).unwrap();
            }
            if !accept {
                rule += on_deny;
            }
            if accept {
                rule += &posture;
                rule += &rates;
                if matches!(protocol, "tcp" | "udp") {
                    rule += tls;
                }
            }
            rule + "}"
        },
    )
}

/// What a deny says to whom it denies.
fn on_deny() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", r#", "onDeny": "reject""#, r#", "onDeny": "drop""#])
}

/// What a rule of TCP or UDP asks of how connections begin.
fn tls() -> impl Strategy<Value = &'static str> {
    select(vec!["", r#", "tls": "observe""#, r#", "tls": "required""#])
}

pub fn rates() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(String::new()),
        1 => select(vec![1u32, 7, 500_000]).prop_map(|rate| format!(", \"maxNewPerSecond\": {rate}")),
        1 => select(vec![1u32, 7, 500_000]).prop_map(|rate| format!(", \"maxPacketsPerSecond\": {rate}")),
    ]
}

/// A lane of the venue that holds 198.51.100.0/24 and 2001:db9::/48.
pub fn lane(feed: bool) -> impl Strategy<Value = String> {
    let theirs = vec!["198.51.100.10", "198.51.100.16/28", "198.51.100.0/24", "2001:db9::/64", "2001:db9::1"];
    let ours = vec![
        "*",
        "tag:a",
        "tag:b",
        "u1@x.y",
        "autogroup:member",
        "100.64.0.2",
        "10.1.0.0/16",
        "fd7a:115c:a1e0::3",
    ];
    let service = select(vec![
        r#""proto": "tcp", "ports": "443""#,
        r#""proto": "tcp", "ports": "22,80-443""#,
        r#""proto": "udp", "ports": "53", "oneWay": true"#,
        r#""proto": "udp", "ports": "1-9999""#,
        r#""proto": "icmp""#,
        r#""ports": "53", "groups": ["233.54.12.0/24"]"#,
        r#""ports": "53-8080", "groups": ["233.54.12.1", "ff35::/32"]"#,
    ]);
    let parts = (subsequence(theirs, 1..3), subsequence(ours, 1..3), service, expires(), rates());
    parts.prop_map(move |(theirs, ours, service, expires, rates)| {
        let service = match service {
            _ if feed => service,
            _ if service.contains("groups") || service.contains("oneWay") => {
                r#""proto": "udp", "ports": "53""#
            }
            _ => service,
        };
        let (from, to) = if feed { (theirs, ours) } else { (ours, theirs) };
        let expires =
            expires.map(|seconds| format!(", \"expires\": \"{}\"", time(seconds))).unwrap_or_default();
        format!("{{\"from\": {from:?}, \"to\": {to:?}, {service}{expires}{rates}}}")
    })
}

pub fn venues() -> impl Strategy<Value = String> {
    let some = (prop::collection::vec(lane(true), 0..3), prop::collection::vec(lane(false), 0..2));
    let some = some.prop_map(|(feeds, sessions)| {
        format!(
            r#""venues": {{"venue:x": {{"addresses": ["198.51.100.0/24", "2001:db9::/48"], "feeds": [{}], "sessions": [{}]}},
                          "venue:y": {{"addresses": ["203.0.113.0/28"]}}}},"#,
            feeds.join(",\n"),
            sessions.join(",\n")
        )
    });
    prop_oneof![1 => Just(String::new()), 1 => some]
}

pub fn posture() -> impl Strategy<Value = String> {
    let some = subsequence(vec!["posture:new", "posture:kept"], 1..3);
    prop_oneof![3 => Just(String::new()), 1 => some.prop_map(|names| format!(", \"srcPosture\": {names:?}"))]
}

pub fn via() -> impl Strategy<Value = String> {
    let some = subsequence(vec!["tag:a", "tag:b"], 1..3);
    prop_oneof![2 => Just(String::new()), 1 => some.prop_map(|tags| format!(", \"via\": {tags:?}"))]
}

pub fn grant() -> impl Strategy<Value = String> {
    let ip = select(vec!["*", "22", "tcp:80-443", "udp:53", "icmp:*", "sctp:*"]);
    let sides = (subsequence(SOURCES.to_vec(), 1..3), subsequence(DESTINATIONS.to_vec(), 1..3));
    (sides, ip, posture(), via()).prop_map(|((sources, destinations), ip, posture, via)| {
        format!("{{\"src\": {sources:?}, \"dst\": {destinations:?}, \"ip\": [\"{ip}\"]{posture}{via}}}")
    })
}

pub fn policy_text() -> impl Strategy<Value = String> {
    let parts = (
        prop::collection::vec(acl(), 0..6),
        prop::collection::vec(grant(), 0..3),
        prop::bool::weighted(0.2),
        venues(),
        select(vec!["", "", r#""onDeny": "reject","#, r#""onDeny": "drop","#]),
    );
    parts.prop_map(|(acls, grants, default, venues, on_deny)| {
        policy_of(&acls, &grants, default, &format!("{on_deny}{venues}"))
    })
}

/// A policy, and the same with a rule more, a rule less, or two rules in another order.
pub fn changed_policy_text() -> impl Strategy<Value = (String, String)> {
    let parts = (
        prop::collection::vec(acl(), 2..7),
        prop::collection::vec(grant(), 0..3),
        venues(),
        0..4_usize,
        any::<prop::sample::Index>(),
        acl(),
    );
    parts.prop_map(|(acls, grants, venues, change, at, more)| {
        let mut new = acls.clone();
        let at = at.index(acls.len());
        match change {
            0 => new.insert(at, more),
            1 => drop(new.remove(at)),
            2 => new.swap(at, (at + 1) % acls.len()),
            _ => {}
        }
        (policy_of(&acls, &grants, false, &venues), policy_of(&new, &grants, false, &venues))
    })
}

fn policy_of(acls: &[String], grants: &[String], default: bool, venues: &str) -> String {
    let default = if default { r#""defaultSrcPosture": ["posture:kept"],"# } else { "" };
    format!(
        r#"{{"acls": [{}], "grants": [{}], {default} {venues}
           "postures": {{"posture:new": ["node:os == 'linux'", "node:osVersion >= '6.1'"],
                         "posture:kept": ["custom:kept NOT IN [false]"]}},
           "ipsets": {{"ipset:s": ["10.1.0.0/16", "remove 10.1.2.0/24", "host:host", "fd7a:115c:a1e0::/64", "remove fd7a:115c:a1e0::2"]}},
           "groups": {{"group:g": ["u1@x.y", "u3@x.y"]}},
           "hosts": {{"host": "192.168.7.0/24"}},
           "tagOwners": {{"tag:a": [], "tag:b": [], "tag:c": []}}}}"#,
        acls.join(",\n"),
        grants.join(",\n")
    )
}

/// A node, and maybe workloads of it.
pub fn node(index: usize) -> impl Strategy<Value = String> {
    node_with(index, workloads(index).boxed())
}

fn node_with(index: usize, workloads: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let owner = prop_oneof![
        select(vec!["u1@x.y", "u2@x.y", "u3@x.y"]).prop_map(|user| format!("\"user\": \"{user}\"")),
        subsequence(vec!["tag:a", "tag:b", "tag:c"], 0..3).prop_map(|tags| format!("\"tags\": {tags:?}")),
    ];
    let routes = prop_oneof![
        4 => Just("[]".to_string()),
        1 => subsequence(
            vec!["10.1.0.0/16", "10.1.2.0/24", "2001:db8:1::/48", "100.64.0.0/30", "0.0.0.0/0", "::/0"], 1..3
        ).prop_map(|routes| format!("{routes:?}")),
    ];
    let posture = select(vec![
        "{}",
        r#"{"node:os": "linux", "node:osVersion": "6.12"}"#,
        r#"{"node:os": "linux", "node:osVersion": "5.10", "custom:kept": true}"#,
        r#"{"custom:kept": false}"#,
    ]);
    let underlay = prop_oneof![
        1 => Just("[]".to_string()),
        3 => Just(format!("[\"203.0.113.{index}\"]")),
        1 => Just(format!("[\"192.0.2.{index}\", \"198.51.100.1{index}\", \"2001:db9::1:{index}\"]")),
    ];
    let jailed = prop::bool::weighted(0.1).prop_map(|jailed| if jailed { ", \"jailed\": true" } else { "" });
    let parts = (owner, routes, expires(), posture, underlay, jailed, workloads);
    parts.prop_map(move |(owner, routes, expires, posture, underlay, jailed, workloads)| {
        let routes = match (&*workloads, &*routes) {
            ("", _) => routes,
            (_, "[]") => format!("[\"100.64.9.{index}0/31\", \"fd7a:115c:a1e0::9{index}/128\"]"),
            (_, routes) => routes.replace('[', &format!("[\"100.64.9.{index}0/31\", \"fd7a:115c:a1e0::9{index}/128\", ")),
        };
        let expires =
            expires.map(|seconds| format!(", \"expires\": \"{}\"", time(seconds))).unwrap_or_default();
        format!(
            "{{\"name\": \"n{index}\", \"addresses\": [\"100.64.0.{index}\", \"fd7a:115c:a1e0::{index}\"], \
             \"underlay\": {underlay}, {owner}, \"routes\": {routes}, \"posture\": {posture}{expires}{jailed}{workloads}}}"
        )
    })
}

/// Workloads of a node: none, one, or two of which the second has IPv4 alone.
pub fn workloads(index: usize) -> impl Strategy<Value = String> {
    let one = || {
        let tags = subsequence(vec!["tag:a", "tag:b", "tag:c"], 0..3);
        let id = select(vec!["", ", \"spiffe\": \"spiffe://x.y/w\"", ", \"spiffe\": \"spiffe://x.y/v/w\""]);
        (tags, id, expires()).prop_map(|(tags, id, expires)| {
            let expires = expires.map(|at| format!(", \"expires\": \"{}\"", time(at))).unwrap_or_default();
            format!("\"tags\": {tags:?}{id}{expires}")
        })
    };
    let first = move |rest: String| {
        format!(
            "{{\"name\": \"v\", \"addresses\": [\"100.64.9.{index}0\", \"fd7a:115c:a1e0::9{index}\"], \
             \"match\": {{\"unit\": \"v.service\"}}, {rest}}}"
        )
    };
    let second = move |rest: String| {
        format!(
            "{{\"name\": \"w\", \"addresses\": [\"100.64.9.{index}1\"], \"match\": {{\"unit\": \"w.service\"}}, {rest}}}"
        )
    };
    prop_oneof![
        2 => Just(String::new()),
        1 => one().prop_map(move |rest| format!(", \"workloads\": [{}]", first(rest))),
        1 => (one(), one()).prop_map(move |(a, b)| format!(", \"workloads\": [{}, {}]", first(a), second(b))),
    ]
}

pub fn inventory_text() -> impl Strategy<Value = String> {
    (node(1), node(2), node(3), node(4)).prop_map(|(a, b, c, d)| inventory_of([a, b, c, d]))
}

/// An inventory without workloads.
pub fn hosts_text() -> impl Strategy<Value = String> {
    let host = |index| node_with(index, Just(String::new()).boxed());
    (host(1), host(2), host(3), host(4)).prop_map(|(a, b, c, d)| inventory_of([a, b, c, d]))
}

fn inventory_of(nodes: [String; 4]) -> String {
    format!(
        r#"{{"nodes": [{}],
           "users": [{{"login": "u1@x.y", "roles": ["admin"]}}, {{"login": "u2@x.y"}}, {{"login": "u3@x.y"}}]}}"#,
        nodes.join(", ")
    )
}

pub fn load(policy_text: &str, inventory_text: &str) -> (Ruleset, Inventory) {
    load_on(policy_text, inventory_text, Network::Overlay)
}

pub fn load_on(policy_text: &str, inventory_text: &str, network: Network) -> (Ruleset, Inventory) {
    let mut findings = Findings::default();
    let inventory = inventory::parse(&Source::new("inventory", inventory_text), &mut findings).unwrap();
    let policy =
        policy::parse(&Source::new("policy", policy_text), Dialect::Bulkhead, &mut findings).unwrap();
    let ruleset = resolve(&policy, &inventory, Dialect::Bulkhead, network, &mut findings);
    assert!(!findings.has_errors(), "{findings}\n{policy_text}");
    (ruleset, inventory)
}

pub fn addresses() -> Vec<IpAddr> {
    let v4 = ["100.64.0.1", "100.64.0.2", "100.64.0.3", "100.64.0.4", "100.64.0.9", "10.1.0.0", "10.1.2.7"];
    let more =
        ["10.1.255.255", "10.2.0.0", "192.168.7.1", "192.168.8.0", "8.8.8.8", "0.0.0.0", "255.255.255.255"];
    let v6 = ["fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2", "fd7a:115c:a1e0::3", "fd7a:115c:a1e0::4", "::"];
    let workloads = ["100.64.9.10", "100.64.9.11", "100.64.9.20"];
    let rest = [
        "fd7a:115c:a1e0::9",
        "fd7a:115c:a1e0::91",
        "2001:db8::1",
        "2001:db8:1::1",
        "2001:db8:2::",
        "2600::1",
        "fe80::1",
    ];
    let venue =
        ["198.51.100.10", "198.51.100.12", "198.51.100.20", "198.51.100.255", "203.0.113.1", "203.0.113.9"];
    let venue6 = [
        "2001:db9::1",
        "2001:db9::77",
        "2001:db9::1:1",
        "2001:db9:0:1::",
        "192.0.2.3",
        "233.54.12.1",
        "233.54.12.2",
        "ff35::1",
    ];
    let all = v4.into_iter().chain(workloads).chain(more).chain(v6).chain(rest).chain(venue).chain(venue6);
    all.map(|address| address.parse().unwrap()).collect()
}

/// The reason that the tables give for the reference's verdict.
pub fn reason(ruleset: &Ruleset, verdict: Verdict) -> Reason {
    match verdict {
        Verdict::Deny(rule) if ruleset.rules[rule].is_default_deny() => Reason::VenueDefaultDeny,
        Verdict::Allow(_) => Reason::Rule,
        Verdict::Deny(_) => Reason::DenyRule,
        Verdict::NoRule => Reason::NoRule,
        Verdict::Unknown => Reason::UnknownAddress,
        Verdict::NotLocal => Reason::NotLocal,
    }
}
