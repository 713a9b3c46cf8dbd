//! A random small policy and inventory, and one node's tables.

use std::fmt::Write as _;
use std::net::IpAddr;

use bulkhead_abi::{HostBucket, Leaf, Workload, from_ip, host_key};
use bulkhead_engine::change::change;
use bulkhead_engine::host_table::{HostTable, rest};
use bulkhead_policy::compile::{Limits, Program, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory::{self, Inventory, Network};
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy};
use fastrand::Rng;

const ENDS: [&str; 14] = [
    "*",
    "tag:*",
    "tag:a",
    "tag:b",
    "tag:c",
    "group:g",
    "u1@x.y",
    "autogroup:member",
    "autogroup:tagged",
    "10.1.0.0/16",
    "host",
    "100.64.0.2",
    "fd7a:115c:a1e0::/48",
    "spiffe://x.y/w",
];
const PORTS: [&str; 6] = ["*", "22", "80-443", "443", "22,8080", "1-65535"];
const PROTOCOLS: [&str; 9] = ["", "", "tcp", "udp", "tcp", "udp", "sctp", "icmp", "47"];
const ROUTES: [&str; 5] = ["10.1.0.0/16", "10.1.2.0/24", "2001:db8:1::/48", "0.0.0.0/0", "::/0"];
/// Seconds, on the clock of the tests.
const ENDINGS: [u64; 4] = [50, 100, 150, 250];

/// Addresses in and around every world.
const ADDRESSES: [&str; 31] = [
    "100.64.0.1",
    "100.64.0.2",
    "100.64.0.3",
    "100.64.0.4",
    "100.64.0.9",
    "100.64.9.1",
    "100.64.9.2",
    "10.1.0.0",
    "10.1.2.7",
    "10.2.0.0",
    "192.168.7.1",
    "8.8.8.8",
    "255.255.255.255",
    "fd7a:115c:a1e0::1",
    "fd7a:115c:a1e0::2",
    "fd7a:115c:a1e0::3",
    "fd7a:115c:a1e0::4",
    "fd7a:115c:a1e0::9",
    "fd7a:115c:a1e0::91",
    "fd7a:115c:a1e0::92",
    "2001:db8:1::1",
    "2001:db8:2::1",
    "fe80::1",
    "::",
    "198.51.100.10",
    "198.51.100.20",
    "198.51.100.77",
    "233.54.12.7",
    "2001:db8:7::10",
    "2001:db8:7::77",
    "ff3e:30:2001:db8::7",
];

/// A venue, some feeds of which are for the nodes of one tag.
const VENUE: &str = r#""venues": {"venue:x": {
    "addresses": ["198.51.100.0/24", "2001:db8:7::/64"],
    "feeds": [
        {"from": ["198.51.100.10", "2001:db8:7::10"], "to": ["tag:a"], "proto": "tcp", "ports": "80-443", "maxNewPerSecond": 2},
        {"from": ["198.51.100.10", "2001:db8:7::10"], "to": ["tag:b"], "proto": "udp", "ports": "53", "oneWay": true, "maxPacketsPerSecond": 50},
        {"from": ["198.51.100.0/24", "2001:db8:7::/64"], "to": ["tag:a", "tag:b"], "groups": ["233.54.12.0/24", "ff3e:30:2001:db8::/96"], "proto": "udp", "ports": "53,443"}],
    "sessions": [{"from": ["tag:b", "tag:c"], "to": ["198.51.100.20", "198.51.100.77", "2001:db8:7::77"], "proto": "tcp", "ports": "443"}]}},"#;

/// A policy, an inventory and what one node makes of them.
#[derive(Debug)]
pub struct World {
    /// The policy's text.
    pub policy: String,
    /// The inventory's text.
    pub inventory_text: String,
    /// The rules in order.
    pub ruleset: Ruleset,
    /// Who exists.
    pub inventory: Inventory,
    /// The node that the tables are for.
    pub node: String,
    /// Its tables; deadlines are ns from 0.
    pub program: Program,
    /// Addresses worth a packet.
    pub addresses: Vec<IpAddr>,
    /// Those of them that are the node's own or in its routes.
    pub locals: Vec<IpAddr>,
}

impl World {
    /// The world of a seed.
    ///
    /// # Panics
    /// If the texts are not valid, or cannot be compiled: both are bugs.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let (policy_text, inventory_text) = (policy_text(rng), inventory_text(rng));
        let node = format!("n{}", rng.u8(1..=4));
        Self::new(policy_text, inventory_text, &node)
    }

    /// The world of these texts.
    ///
    /// # Panics
    /// If they are not valid, or cannot be compiled.
    #[must_use]
    pub fn new(policy_text: String, inventory_text: String, node: &str) -> Self {
        let mut findings = Findings::default();
        let inventory = inventory::parse(&Source::new("inventory", &inventory_text), &mut findings);
        let policy = policy::parse(&Source::new("policy", &policy_text), Dialect::Bulkhead, &mut findings);
        let Some((inventory, policy)) = inventory.zip(policy) else {
            panic!("{findings}\n{policy_text}\n{inventory_text}");
        };
        let ruleset = resolve(&policy, &inventory, Dialect::Bulkhead, Network::Overlay, &mut findings);
        assert!(!findings.has_errors(), "{findings}\n{policy_text}\n{inventory_text}");
        let program = compile(&ruleset, &inventory, node, Limits::default())
            .unwrap_or_else(|error| panic!("{error}\n{policy_text}\n{inventory_text}"));
        let addresses: Vec<IpAddr> = ADDRESSES.iter().filter_map(|address| address.parse().ok()).collect();
        let mut locals = addresses.clone();
        let held = inventory.node(node);
        locals.retain(|address| {
            held.is_some_and(|node| {
                inventory.overlay_addresses(node).any(|own| own == *address)
                    || node.routes.iter().any(|route| route.contains(address))
            })
        });
        let node = node.to_owned();
        Self { policy: policy_text, inventory_text, ruleset, inventory, node, program, addresses, locals }
    }

    /// Fills the host table with addresses that nobody sends from, so that some of the others lie behind
    /// the first bucket of their chain. How many of [`Self::addresses`] do.
    ///
    /// # Panics
    /// If the table has no place for them.
    pub fn crowd(&mut self, rng: &mut Rng) -> usize {
        let table = &mut self.program.tables.hosts;
        let strangers =
            (0..2000).map(|index| ([0x0000_ff3f, rng.u32(..), rng.u32(..), index], Leaf::default()));
        let all: Vec<_> = strangers.chain(table.iter()).collect();
        *table = HostTable::new(all.into_iter()).unwrap_or_else(|why| panic!("{why:?}"));
        let is_behind =
            |address: &&IpAddr| rest(table, host_key(from_ip(**address))) & HostBucket::PRESENT != 0;
        self.addresses.iter().filter(is_behind).count()
    }

    /// Has the node's workloads run, each in the cgroup, by its id and level, that `cgroup` says for its number.
    pub fn run_workloads(&mut self, mut cgroup: impl FnMut(u32) -> (u64, u32)) {
        let numbers = 0..self.program.workloads.each.len() as u32;
        let cgroups: Vec<_> = numbers.map(&mut cgroup).collect();
        for workload in self.program.tables.workloads.iter_mut().filter(|workload| workload.is_some()) {
            let (cgroup, level) = cgroups[workload.number as usize];
            *workload = Workload { cgroup, level, ..*workload };
        }
    }

    /// Cuts one address off, as `quarantine` does: somebody's or nobody's.
    ///
    /// # Panics
    /// If the tables are broken.
    pub fn quarantine(&mut self, rng: &mut Rng) {
        let address = self.addresses[rng.usize(..self.addresses.len())];
        change(&mut self.program.tables, address, |leaf| leaf.with_quarantine(true))
            .unwrap_or_else(|why| panic!("{address}: {why:?}"));
    }
}

fn one_of<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[rng.usize(..choices.len())]
}

/// RFC 3339 of some second from the epoch.
fn ending(rng: &mut Rng) -> String {
    let seconds = ENDINGS[rng.usize(..ENDINGS.len())];
    format!("1970-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60)
}

fn list(rng: &mut Rng, port: Option<&str>) -> String {
    let mut items = Vec::new();
    for _ in 0..rng.usize(1..3) {
        let item = one_of(rng, &ENDS);
        items.push(match port {
            Some(port) if item.contains("::/") => format!("\"[fd7a:115c:a1e0::3]:{port}\""),
            Some(port) => format!("\"{item}:{port}\""),
            None => format!("\"{item}\""),
        });
    }
    items.join(", ")
}

fn policy_text(rng: &mut Rng) -> String {
    let venue = if rng.u8(..3) == 0 { VENUE } else { "" };
    let on_deny = one_of(rng, &["", "", "\"onDeny\": \"reject\",", "\"onDeny\": \"drop\","]);
    let mut text = format!("{{{venue}{on_deny}\"acls\": [\n");
    for _ in 0..rng.usize(1..8) {
        let protocol = one_of(rng, &PROTOCOLS);
        let port = if matches!(protocol, "icmp" | "47") { "*" } else { one_of(rng, &PORTS) };
        let action = if rng.u8(..10) < 7 { "accept" } else { "deny" };
        let (from, to) = (list(rng, None), list(rng, Some(port)));
        let _ = write!(text, "{{\"action\": \"{action}\", \"src\": [{from}], \"dst\": [{to}]");
        if !protocol.is_empty() {
            let _ = write!(text, ", \"proto\": \"{protocol}\"");
        }
        if rng.u8(..4) == 0 {
            let _ = write!(text, ", \"expires\": \"{}\"", ending(rng));
        }
        if action == "deny" && rng.u8(..3) == 0 {
            let _ = write!(text, ", \"onDeny\": \"{}\"", one_of(rng, &["reject", "drop"]));
        }
        if action == "accept" && rng.u8(..4) == 0 {
            let _ = write!(text, ", \"maxPacketsPerSecond\": {}", [1, 20, 500][rng.usize(..3)]);
        }
        if action == "accept" && matches!(protocol, "tcp" | "udp") && rng.bool() {
            let mode = one_of(rng, &["observe", "required", "required"]);
            let _ = write!(text, ", \"tls\": \"{mode}\"");
            if protocol == "tcp" && rng.bool() {
                text.push_str(", \"starttls\": \"postgres\"");
            }
        }
        if action == "accept" && rng.u8(..4) == 0 {
            let _ = write!(text, ", \"maxNewPerSecond\": {}", rng.u8(1..4));
        }
        text.push_str("},\n");
    }
    text.push_str("], \"grants\": [\n");
    for _ in 0..rng.usize(..3) {
        let ip = one_of(rng, &["*", "22", "tcp:80-443", "udp:53", "icmp:*", "sctp:*"]);
        let (from, to) = (one_of(rng, &ENDS), one_of(rng, &ENDS));
        let _ = writeln!(text, "{{\"src\": [\"{from}\"], \"dst\": [\"{to}\"], \"ip\": [\"{ip}\"]}},");
    }
    text + r#"], "groups": {"group:g": ["u1@x.y", "u3@x.y"]}, "hosts": {"host": "192.168.7.0/24"},
        "tagOwners": {"tag:a": [], "tag:b": [], "tag:c": []}}"#
}

/// More addresses of a node: as many as give their network a block of the trie, or one by itself in
/// what others may route.
fn more_addresses(rng: &mut Rng, node: u32) -> String {
    match node {
        3 if rng.bool() => {
            (16..32).fold(String::new(), |more, host| more + &format!(", \"100.64.0.{host}\""))
        }
        4 if rng.bool() => ", \"10.1.2.7\", \"192.168.7.1\"".to_owned(),
        _ => String::new(),
    }
}

/// A workload of a node, and what the node must route for it.
fn workload(rng: &mut Rng, node: u32) -> (String, String) {
    let tag = one_of(rng, &["tag:a", "tag:b", "tag:c"]);
    let addresses = format!("\"100.64.9.{node}\", \"fd7a:115c:a1e0::9{node}\"");
    let workload = format!(
        ", \"workloads\": [{{\"name\": \"w\", \"spiffe\": \"spiffe://x.y/w\", \"addresses\": [{addresses}], \
         \"tags\": [\"{tag}\"], \"match\": {{\"unit\": \"w.service\"}}}}]"
    );
    (workload, addresses)
}

fn inventory_text(rng: &mut Rng) -> String {
    let mut text = String::from("{\"nodes\": [\n");
    for index in 1..=4 {
        let owner = match rng.u8(..3) {
            0 => format!("\"user\": \"u{}@x.y\"", rng.u8(1..=3)),
            _ => format!("\"tags\": [\"{}\"]", one_of(rng, &["tag:a", "tag:b", "tag:c"])),
        };
        let route = if rng.u8(..4) == 0 { format!("\"{}\"", one_of(rng, &ROUTES)) } else { String::new() };
        let more = more_addresses(rng, index);
        let (workloads, ways) = if rng.bool() { workload(rng, index) } else { Default::default() };
        let route = [ways, route].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let expires =
            if rng.u8(..5) == 0 { format!(", \"expires\": \"{}\"", ending(rng)) } else { String::new() };
        let _ = writeln!(
            text,
            "{{\"name\": \"n{index}\", \"addresses\": [\"100.64.0.{index}\", \"fd7a:115c:a1e0::{index}\"{more}], \
             {owner}, \"routes\": [{route}]{expires}{workloads}}},"
        );
    }
    text + r#"], "users": [{"login": "u1@x.y", "roles": ["admin"]}, {"login": "u2@x.y"}, {"login": "u3@x.y"}]}"#
}
