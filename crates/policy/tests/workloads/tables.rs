//! For random policies and inventories with workloads, whoever sends: compiled tables = reference evaluator.

use std::net::IpAddr;

use bulkhead_abi::{Direction, FEATURE_LOOPBACK, INTERFACE_ETHERNET, Workload};
use bulkhead_engine::memory::{Memory, Sender};
use bulkhead_engine::{Metadata, Packet, Reason, decide};
use bulkhead_policy::compile::{Limits, Program, compile, compile_loopback};
use bulkhead_policy::evaluate::environment;
use bulkhead_policy::inventory::{Inventory, Node};
use bulkhead_policy::reference::{self, Probe, Verdict};
use bulkhead_policy::resolve::Ruleset;
use proptest::prelude::*;

use super::common::{TIMES, addresses, inventory_text, load, policy_text, reason};
use super::packets::{frame, packet};

const LEVEL: u32 = 2;

/// The cgroup of the node's workload of a number.
fn cgroup(number: u32) -> u64 {
    100 + u64::from(number)
}

/// What the agent does: puts each workload's cgroup in its classes.
fn run(program: &mut Program) {
    for (number, one) in (0..).zip(&program.workloads.each) {
        for class in &one.classes {
            let held = &mut program.tables.workloads[*class as usize];
            assert_eq!(*held, Workload::not_running(number));
            *held = Workload { cgroup: cgroup(number), level: LEVEL, number };
        }
    }
}

/// Every process of a node's workloads, and one of none; by number.
fn senders(program: &Program) -> Vec<(Option<u32>, Sender)> {
    let of = |number: Option<u32>| {
        let cgroups = vec![1, 50, number.map_or(99, cgroup), 7];
        (number, Sender { cgroups, ..Sender::default() })
    };
    (0..program.workloads.each.len() as u32).map(Some).chain([None]).map(of).collect()
}

fn decided(memory: &Memory, direction: Direction, packet: &[u8]) -> (Reason, u32) {
    let memory = memory.clone();
    let mut meta = Metadata::UNKNOWN;
    decide(&memory, &Packet::new(packet), direction, &mut meta);
    (meta.outcome.reason, meta.outcome.rule)
}

/// Whether what was found is what the reference says. A first packet may look like a reply, somebody unknown may be
/// known by a rule about something else, and what a rule admits may be used up by those before, or is no beginning of
/// TLS where it is to be one.
fn agrees(found: Reason, wanted: Reason, probe: &Probe) -> bool {
    found == wanted
        || matches!((found, wanted), (Reason::NoRule, Reason::UnknownAddress))
        || matches!((found, wanted), (Reason::PacketRate | Reason::NewFlowRate, Reason::Rule))
        || (probe.protocol == 17 && (found, wanted) == (Reason::NotTls, Reason::Rule))
        || (probe.protocol == 17
            && found == Reason::NoFlow
            && matches!(wanted, Reason::NoRule | Reason::UnknownAddress | Reason::DenyRule))
}

/// The number of the workload that has an address.
fn holder(program: &Program, address: IpAddr) -> Option<u32> {
    let place = program.workloads.each.iter().position(|one| one.addresses.contains(&address));
    place.map(|place| place as u32)
}

fn probes(from: &[IpAddr], to: &[IpAddr]) -> Vec<Probe> {
    let mut probes = Vec::new();
    for source in from {
        for destination in to.iter().filter(|to| to.is_ipv4() == source.is_ipv4()) {
            for (protocol, port) in [(6, 22), (6, 443), (17, 53)] {
                probes.push(Probe { source: *source, destination: *destination, protocol, port });
            }
        }
    }
    probes
}

fn over_the_overlay(ruleset: &Ruleset, inventory: &Inventory, node: &Node, now: u64) {
    let mut program = compile(ruleset, inventory, &node.name, Limits::default()).unwrap();
    run(&mut program);
    let mut memory = environment(&program.tables, now);
    memory.settings.features = program.tables.features();
    let own: Vec<IpAddr> = inventory.overlay_addresses(node).chain(["8.8.8.8".parse().unwrap()]).collect();
    for probe in probes(&own, &addresses()) {
        let wanted = reference::judge(ruleset, inventory, node, Direction::Egress, &probe, now);
        for (number, sender) in senders(&program) {
            *memory.sender.borrow_mut() = sender;
            let (found, _) = decided(&memory, Direction::Egress, &packet(&probe));
            let whose = holder(&program, probe.source);
            let wanted = match wanted {
                Verdict::NotLocal => Reason::NotLocal,
                _ if whose.is_some() && whose != number => Reason::WorkloadSpoofed,
                wanted => reason(ruleset, wanted),
            };
            assert!(
                agrees(found, wanted, &probe),
                "{found:?} {wanted:?} {} {number:?} {probe:?} at {now}",
                node.name
            );
        }
    }
}

fn over_lo(ruleset: &Ruleset, inventory: &Inventory, node: &Node, now: u64) {
    let mut program = compile_loopback(ruleset, inventory, &node.name, Limits::default()).unwrap();
    run(&mut program);
    let mut memory = environment(&program.tables, now);
    memory.settings.features = program.tables.features() | FEATURE_LOOPBACK;
    memory.settings.interface = INTERFACE_ETHERNET;
    let all = addresses();
    for probe in probes(&all, &all) {
        let frame = frame(&packet(&probe));
        let whose = holder(&program, probe.source);
        for direction in [Direction::Egress, Direction::Ingress] {
            let judged = reference::judge_loopback(ruleset, inventory, node, direction, &probe, now);
            for (number, sender) in senders(&program) {
                *memory.sender.borrow_mut() = sender;
                let (found, _) = decided(&memory, direction, &frame);
                let wanted = match judged {
                    Some(Verdict::NotLocal) => Reason::NotLocal,
                    _ if direction == Direction::Egress && whose.is_some() && whose != number => {
                        Reason::WorkloadSpoofed
                    }
                    Some(verdict) => reason(ruleset, verdict),
                    None => Reason::Loopback,
                };
                assert!(
                    agrees(found, wanted, &probe),
                    "{found:?} {wanted:?} {} {direction:?} {number:?} {probe:?} at {now}",
                    node.name
                );
            }
        }
    }
}

proptest! {
    // Each case is thousands of packets: an eighth of the usual number of cases.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn whoever_sends_tables_agree_with_the_reference(policy in policy_text(), inventory in inventory_text()) {
        let (ruleset, inventory) = load(&policy, &inventory);
        for node in inventory.nodes.iter().filter(|node| node.workload.is_none()) {
            for now in TIMES.map(|seconds| seconds * 1_000_000_000) {
                over_the_overlay(&ruleset, &inventory, node, now);
                over_lo(&ruleset, &inventory, node, now);
            }
        }
    }
}
