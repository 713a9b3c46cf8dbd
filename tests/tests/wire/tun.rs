//! Packets that no test run takes: through a real TUN device into attached programs. Each must be
//! decided as the engine on the host decides it.

use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use aya::maps::PerCpuArray;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, TcAttachType, XdpMode};
use bulkhead_abi::{Direction, REASONS};
use bulkhead_dataplane::{Generation, Hook, Interface, Kind, Specialisation};
use bulkhead_engine::memory::Tables;
use bulkhead_engine::{Case, Packet, Reason, decide};
use bulkhead_testkit::lab::{Namespace, open_tun};
use bulkhead_testkit::packets::World;
use bulkhead_testkit::packets::build::{Extension, Ip, echo, hex, icmp, sctp, tcp, udp};

use crate::kernel::{ZONE, ample, environment, specification};

/// EtherTypes that the TUN's header says, whatever follows.
const PROTOCOLS: [u16; 3] = [0x0800, 0x86dd, 0x1234];

/// What a packet may take to be counted.
const LIMIT: Duration = Duration::from_secs(2);

/// A node with rules of every kind, and who may come in.
fn tables() -> Tables {
    let policy = r#"{"tagOwners": {"tag:node": [], "tag:peer": []}, "acls": [
        {"action": "accept", "src": ["tag:peer"], "dst": ["tag:node:80,443"]},
        {"action": "accept", "src": ["tag:peer"], "dst": ["tag:node:9000"], "proto": "sctp"},
        {"action": "deny", "src": ["tag:peer"], "dst": ["tag:node:22"]},
        {"action": "accept", "src": ["tag:node"], "dst": ["tag:peer:53"]}]}"#;
    let nodes = [(1, "node"), (2, "peer")].map(|(last, tag)| {
        format!(
            r#"{{"name": "n{last}", "addresses": ["100.64.0.{last}", "fd7a:115c:a1e0::{last}"], "tags": ["tag:{tag}"]}}"#
        )
    });
    let inventory = format!(r#"{{"nodes": [{}]}}"#, nodes.join(","));
    World::new(policy.to_owned(), inventory, "n1").program.tables
}

/// Well-formed packets to the node.
fn whole() -> Vec<Ip> {
    let mut packets = Vec::new();
    for [node, peer] in [["100.64.0.1", "100.64.0.2"], ["fd7a:115c:a1e0::1", "fd7a:115c:a1e0::2"]] {
        let [node, peer]: [IpAddr; 2] = [node, peer].map(|address| address.parse().unwrap());
        let v4 = node.is_ipv4();
        let ip = |protocol, payload| Ip::new(peer, node, protocol, payload);
        let question = Ip::new(node, peer, 17, udp((50_000, 53), b"?")).bytes();
        let (icmp_protocol, unreachable) = if v4 { (1, 3) } else { (58, 1) };
        let mut fragment = ip(6, tcp((50_002, 443), 2, &[1; 12]));
        let mut adorned = ip(6, tcp((50_001, 80), 2, b"options"));
        if v4 {
            fragment.fragment = 0x2000;
            adorned.options = vec![1, 7, 7, 4, 0, 0, 0, 0];
        } else {
            fragment.extensions = vec![Extension::fragment(0, true, 7)];
            adorned.extensions = vec![Extension::padded(0, 0), Extension::padded(60, 1)];
        }
        packets.extend([
            ip(6, tcp((50_000, 80), 2, b"data")),
            ip(6, tcp((50_000, 22), 2, &[])),
            ip(6, tcp((50_000, 9999), 0x10, &[])),
            ip(17, udp((50_000, 443), b"datagram")),
            ip(132, sctp((50_000, 9000), 1, &[0; 16])),
            ip(icmp_protocol, echo(v4, false, 9)),
            ip(icmp_protocol, icmp(unreachable, 1, [0; 4], &question)),
            ip(47, vec![0; 9]),
            adorned,
            fragment,
        ]);
    }
    packets
}

/// Every length up to 13, which a test run refuses, with every IP version; and whole packets cut at
/// every byte, with their lengths as they were, and with lengths that say so.
fn packets() -> Vec<Vec<u8>> {
    let versions = [0x00, 0x45, 0x46, 0x60, 0x61, 0xff];
    let short = (0..=13).flat_map(|length| {
        versions.map(|first| std::iter::once(first).chain([0xa5; 12]).take(length).collect::<Vec<u8>>())
    });
    let cut = whole().into_iter().flat_map(|packet| {
        let bytes = packet.bytes();
        let shorter = (0..packet.payload.len()).map(|end| {
            let mut shorter = packet.clone();
            shorter.payload.truncate(end);
            shorter.bytes()
        });
        (0..=bytes.len()).map(|end| bytes[..end].to_vec()).chain(shorter).collect::<Vec<_>>()
    });
    short.chain(cut).collect()
}

/// Packets at ingress by reason, all CPUs together; of those that rules decide, one sum each.
fn counted(generation: &mut Generation) -> Vec<u64> {
    let mut counted = Vec::new();
    for (map, entries) in [("REASON_COUNTERS", REASONS), ("RULE_COUNTERS", u32::MAX), ("UNREPORTED", REASONS)]
    {
        let map = generation.map_mut(map).unwrap();
        let counters = PerCpuArray::<_, [u64; 2]>::try_from(map).unwrap();
        for index in 0..entries.min(counters.len()) {
            counted.push(counters.get(&index, 0).unwrap().iter().map(|[packets, _]| packets).sum());
        }
    }
    // A drop counts once, reported or not.
    let unreported = counted.split_off(counted.len() - REASONS as usize);
    counted.iter_mut().zip(unreported).for_each(|(sum, more): (&mut u64, u64)| *sum += more);
    counted
}

/// Which counters a packet moves.
fn due(case: &Case) -> Vec<usize> {
    let rule = REASONS as usize + case.outcome.rule as usize;
    match case.outcome.reason {
        Reason::Rule => vec![rule],
        Reason::DenyRule => vec![Reason::DenyRule as usize, rule],
        reason => vec![reason as usize],
    }
}

fn check(tun: &mut File, generation: &mut Generation, tables: &Tables, hook: Hook) {
    let memory = environment(tables, Kind::BareIp);
    let mut case = Case::UNKNOWN;
    let mut reached = std::collections::BTreeSet::new();
    let mut total = 0;
    for (index, packet) in packets().iter().enumerate() {
        let protocol = PROTOCOLS[index % PROTOCOLS.len()];
        decide(&memory, &Packet::new(packet), Direction::Ingress, &mut case);
        let before = counted(generation);
        let [high, low] = protocol.to_be_bytes();
        let written = tun.write(&[&[0, 0, high, low], &packet[..]].concat());
        assert_eq!(written.unwrap(), packet.len() + 4, "{}", hex(packet));
        let started = Instant::now();
        let moved = loop {
            let after = counted(generation);
            let moved: Vec<usize> =
                (0..after.len()).filter(|index| after[*index] != before[*index]).collect();
            if !moved.is_empty() || started.elapsed() > LIMIT {
                break moved;
            }
        };
        let mut due = due(&case);
        due.sort_unstable();
        assert_eq!(moved, due, "{hook:?}, {:?}, {protocol:#x}: {}", case.outcome, hex(packet));
        reached.insert(case.outcome.reason);
        total += 1;
    }
    println!("{hook:?}: {total} packets, {reached:?}");
    let all = [
        Reason::Rule,
        Reason::DenyRule,
        Reason::NoFlow,
        Reason::IcmpErrorUnrelated,
        Reason::IcmpErrorMalformed,
        Reason::IpVersion,
        Reason::IpTruncated,
        Reason::IpLength,
        Reason::FragmentTiny,
        Reason::TransportTruncated,
    ];
    all.iter().for_each(|reason| assert!(reached.contains(reason), "never {reason:?}"));
}

#[test]
fn what_no_test_run_takes_is_decided_as_on_the_host() {
    let tables = tables();
    let place = Namespace::create("tun").unwrap();
    let done = place.run(|| {
        // One each: a child that another test is starting may hold the first one open for a moment.
        for (name, hook) in [("tun0", Hook::TcxIngress), ("tun1", Hook::XdpGeneric)] {
            let mut tun = open_tun(name).unwrap();
            place.ip(&format!("link set {name} up")).unwrap();
            let interface = Interface::find(name).unwrap();
            assert_eq!(interface.kind, Kind::BareIp);
            let index = interface.index;
            let specification = specification(&tables, ample());
            let wanted = (Specialisation::new(interface.kind, ZONE), vec![hook]);
            let mut generation = Generation::build(&specification, &[wanted], None).unwrap();
            let group = generation.only_group().unwrap();
            if hook == Hook::TcxIngress {
                let program = group.classifier("tc_ingress").unwrap();
                let options = TcAttachOptions::TcxOrder(LinkOrder::first());
                program.attach_with_options(name, TcAttachType::Ingress, options).unwrap();
            } else {
                let program = group.xdp("xdp_ingress").unwrap();
                program.attach_to_if_index(index, XdpMode::Skb).unwrap();
            }
            check(&mut tun, &mut generation, &tables, hook);
        }
    });
    done.unwrap();
}
