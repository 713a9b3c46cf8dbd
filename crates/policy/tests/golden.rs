//! The golden policy cases recorded from Tailscale, in its dialect: verdicts, not rule text.
//!
//! The data is no part of the project. `BULKHEAD_GOLDEN` names its directory; otherwise
//! `../shared/golden` beside the workspace is tried.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use bulkhead_abi::Direction;
use bulkhead_engine::Action;
use bulkhead_policy::compile::{Limits, compile};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::inventory::{self, Inventory, Network, Node};
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::resolve::{Ruleset, resolve};
use bulkhead_policy::source::Source;
use bulkhead_policy::{Dialect, policy, verify};
use ipnet::IpNet;
use serde::Deserialize;

/// How many cases pass. Only ever raise it.
const PASSING: usize = 216;

#[derive(Deserialize)]
struct Case {
    name: String,
    policy: String,
    inventory: serde_json::Value,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    error: Option<String>,
    nodes: Option<BTreeMap<String, Vec<Accepted>>>,
    tests_pass: Option<bool>,
}

#[derive(Deserialize)]
struct Accepted {
    src: Vec<IpNet>,
    dst: Vec<Target>,
    proto: Vec<u8>,
}

#[derive(Deserialize)]
struct Target {
    net: IpNet,
    ports: (u16, u16),
}

impl Accepted {
    fn admits(&self, probe: &Probe) -> bool {
        let ported = matches!(probe.protocol, 6 | 17 | 132);
        self.proto.contains(&probe.protocol)
            && self.src.iter().any(|net| net.contains(&probe.source))
            && self.dst.iter().any(|target| {
                let (first, last) = target.ports;
                target.net.contains(&probe.destination) && (!ported || (first..=last).contains(&probe.port))
            })
    }
}

fn cases() -> Option<String> {
    let directory = std::env::var_os("BULKHEAD_GOLDEN")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden"));
    std::fs::read_to_string(directory.join("acl.jsonl")).ok()
}

/// Both ends of a prefix and the addresses beside them.
fn edges(net: &IpNet, into: &mut BTreeSet<IpAddr>) {
    match net {
        IpNet::V4(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            for bits in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                into.insert(IpAddr::V4(bits.into()));
            }
        }
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            for bits in [first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
                into.insert(IpAddr::V6(bits.into()));
            }
        }
    }
}

struct Axes {
    sources: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
    destinations: BTreeSet<IpAddr>,
}

fn axes(expected: &BTreeMap<String, Vec<Accepted>>, inventory: &Inventory) -> Axes {
    let mut sources = BTreeSet::new();
    let mut destinations = BTreeSet::new();
    let mut ports = BTreeSet::from([0, 22, 80, 443, 65535]);
    for node in inventory.nodes.iter().filter(|node| node.workload.is_none()) {
        sources.extend(&node.addresses);
        node.routes.iter().for_each(|route| edges(route, &mut sources));
    }
    for outside in ["8.8.8.8", "192.0.2.1", "2001:db8::1", "fd7a:115c:a1e0::ffff:1", "100.127.255.254"] {
        sources.insert(outside.parse().unwrap());
    }
    for accepted in expected.values().flatten() {
        accepted.src.iter().for_each(|net| edges(net, &mut sources));
        for target in &accepted.dst {
            edges(&target.net, &mut destinations);
            let (first, last) = target.ports;
            ports.extend([first.saturating_sub(1), first, last, last.saturating_add(1)]);
        }
    }
    Axes { sources, ports, destinations }
}

/// The node's own addresses, and addresses in its routes other than /0.
fn destinations(node: &Node, axes: &Axes) -> BTreeSet<IpAddr> {
    let routes: Vec<_> = node.routes.iter().filter(|route| route.prefix_len() > 0).collect();
    let mut all: BTreeSet<IpAddr> = BTreeSet::new();
    routes.iter().for_each(|route| edges(route, &mut all));
    all.extend(&axes.destinations);
    all.retain(|address| routes.iter().any(|route| route.contains(address)));
    all.extend(&node.addresses);
    all
}

fn compare(
    ruleset: &Ruleset,
    inventory: &Inventory,
    expected: &BTreeMap<String, Vec<Accepted>>,
) -> Result<u64, String> {
    let axes = axes(expected, inventory);
    let mut probes = 0;
    for node in inventory.nodes.iter().filter(|node| node.workload.is_none()) {
        let accepted = expected.get(&node.name).map_or(&[][..], Vec::as_slice);
        let program =
            compile(ruleset, inventory, &node.name, Limits::default()).map_err(|error| error.to_string())?;
        let environment = environment(&program.tables, 0);
        for destination in destinations(node, &axes) {
            for source in axes.sources.iter().filter(|source| source.is_ipv4() == destination.is_ipv4()) {
                let icmp = if source.is_ipv4() { 1 } else { 58 };
                for protocol in [6, 17, 132, icmp, 47] {
                    for port in &axes.ports {
                        let probe = Probe { source: *source, destination, protocol, port: *port };
                        // A node does not talk to itself over the overlay.
                        if node.addresses.contains(source) {
                            continue;
                        }
                        let wanted = accepted.iter().any(|rule| rule.admits(&probe));
                        let tables = evaluate(&environment, Direction::Ingress, &probe);
                        let naive = reference::judge(ruleset, inventory, node, Direction::Ingress, &probe, 0);
                        let allowed = tables.reason.action() == Action::Pass;
                        probes += 1;
                        if allowed != wanted || naive.allows() != wanted {
                            return Err(format!(
                                "{}: {probe:?}: wanted {wanted}, tables {tables:?}, reference {naive:?}",
                                node.name
                            ));
                        }
                    }
                }
            }
        }
    }
    Ok(probes)
}

fn run(case: &Case) -> Result<u64, String> {
    let mut findings = Findings::default();
    let policy = policy::parse(&Source::new("policy", &case.policy), Dialect::Tailscale, &mut findings);
    let text = case.inventory.to_string();
    let inventory = inventory::parse(&Source::new("inventory", &text), &mut findings);
    let inventory = inventory.ok_or_else(|| findings.to_string())?;
    let ruleset = policy
        .map(|policy| resolve(&policy, &inventory, Dialect::Tailscale, Network::Overlay, &mut findings));
    if let (Some(_), false, Some(ruleset)) = (&case.expect.error, findings.has_errors(), &ruleset) {
        // What its own tests refuse is refused.
        verify::run(ruleset, &inventory, 0, &mut findings);
    }
    match (&case.expect.error, findings.has_errors()) {
        (Some(text), true) if findings.to_string().contains(text) => return Ok(0),
        (Some(text), true) => return Err(format!("refused with other words: {findings}; wanted {text}")),
        (Some(text), false) => return Err(format!("not refused: {text}")),
        (None, true) => return Err(format!("refused: {findings}")),
        (None, false) => {}
    }
    let ruleset = ruleset.ok_or("no policy")?;
    if let Some(pass) = case.expect.tests_pass {
        let tally = verify::run(&ruleset, &inventory, 0, &mut findings);
        return if (tally.failed == 0) == pass { Ok(0) } else { Err(format!("its tests: {findings}")) };
    }
    let empty = BTreeMap::new();
    compare(&ruleset, &inventory, case.expect.nodes.as_ref().unwrap_or(&empty))
}

#[test]
fn verdicts_are_those_recorded() {
    let Some(text) = cases() else {
        println!("golden cases: no data (set BULKHEAD_GOLDEN to its directory): nothing compared");
        return;
    };
    let (mut passed, mut total, mut probes) = (0, 0, 0);
    for line in text.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        total += 1;
        match run(&case) {
            Ok(count) => {
                passed += 1;
                probes += count;
            }
            Err(why) => println!("{}: {why}", case.name),
        }
    }
    println!("golden cases: {passed} of {total} pass, {probes} probes compared");
    assert!(passed >= PASSING.min(total) && total > 0, "{passed} of {total} pass, {PASSING} did before");
}
