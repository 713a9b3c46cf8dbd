//! Who speaks under a workload's address: over an overlay, and on `lo`.

use bulkhead_abi::{
    CELL_ALLOW, Direction, FEATURE_AUDIT, FEATURE_LOOPBACK, INTERFACE_ETHERNET, Leaf, Workload,
};
use bulkhead_engine::memory::{Sender, Tables};
use bulkhead_engine::{FastPath, Metadata, Packet, Reason, decide, fast_path};
use proptest::prelude::*;

use super::packets::*;
use super::world::*;

/// A workload's address, and another's.
const ENGINE: &str = "100.64.9.1";
const BACKUP: &str = "100.64.9.2";
const ENGINE_CGROUP: u64 = 77;
const BACKUP_CGROUP: u64 = 78;

/// The host is local class 1 and the engine 2; with `others`, as on `lo`, they are remote classes 1 and 2 as well.
fn between(rules: &[Rule], others: bool) -> Tables {
    let mut all = tables(rules);
    let engine = Workload { cgroup: ENGINE_CGROUP, level: 2, number: 0 };
    all.workloads = vec![Workload::NONE, Workload::NONE, engine];
    set_leaf(&mut all, OWN, Leaf::new(1, u32::from(others), true));
    set_leaf(&mut all, ENGINE, Leaf::new(2, 2 * u32::from(others), true));
    if others {
        // In tables of lo nobody else is anybody.
        for address in [PEER, PEER6, OTHER, ROUTED] {
            set_leaf(&mut all, address, Leaf::default());
        }
    }
    all
}

fn out(local: u32, remote: u32, protocol: u8, port: u16) -> Rule {
    Rule { direction: Direction::Egress, local, remote, protocol, port, action: CELL_ALLOW }
}

fn inn(local: u32, remote: u32, protocol: u8, port: u16) -> Rule {
    Rule { direction: Direction::Ingress, ..out(local, remote, protocol, port) }
}

fn by(cgroups: &[u64]) -> Sender {
    Sender { cgroups: cgroups.to_vec(), ..Sender::default() }
}

fn kernel() -> Sender {
    Sender { is_kernel: true, ..Sender::default() }
}

/// What becomes of a packet that somebody hands over, on both ways.
fn sent(node: &Node, sender: &Sender, packet: &[u8]) -> Reason {
    *node.0.sender.borrow_mut() = sender.clone();
    let copy = node.0.clone();
    let reason = node.send(packet);
    if let Some(FastPath::Verdict(_, outcome, _)) = fast_path(&copy, &Packet::new(packet), Direction::Egress)
    {
        assert_eq!(outcome.reason, reason);
    }
    reason
}

#[test]
fn only_its_cgroup_and_those_below_it_send_from_a_workloads_address() {
    let tables = between(&[out(2, 1, TCP, 443), out(2, 1, UDP, 53), out(1, 1, TCP, 443)], false);
    let node = Node::new(&tables);
    let packets = [
        tcp((ENGINE, 4000), (PEER, 443), SYN),
        tcp((ENGINE, 4000), (PEER, 443), ACK),
        tcp((ENGINE, 4000), (PEER, 443), RST),
        udp((ENGINE, 4000), (PEER, 53)),
    ];
    for packet in &packets {
        for own in [&[1, 5, ENGINE_CGROUP][..], &[1, 5, ENGINE_CGROUP, 99]] {
            assert_eq!(sent(&node, &by(own), packet), Reason::Rule);
        }
        let strangers: [&[u64]; 6] = [
            &[],
            &[1],
            &[1, 5],
            &[1, ENGINE_CGROUP],
            &[1, 5, BACKUP_CGROUP],
            &[1, 5, BACKUP_CGROUP, ENGINE_CGROUP],
        ];
        for stranger in strangers {
            assert_eq!(sent(&node, &by(stranger), packet), Reason::WorkloadSpoofed, "{stranger:?}");
        }
    }
    // The host's own address is whoever's; a workload's own program on its cgroup keeps it from it.
    for anybody in [&[][..], &[1, 5, ENGINE_CGROUP]] {
        assert_eq!(sent(&node, &by(anybody), &tcp((OWN, 4000), (PEER, 443), SYN)), Reason::Rule);
    }
}

#[test]
fn a_packet_socket_speaks_for_nobody_where_there_are_workloads() {
    let tables = between(&[out(2, 1, TCP, 443), out(1, 1, TCP, 443)], false);
    let node = Node::new(&tables);
    let own = Sender { is_packet_socket: true, ..by(&[1, 5, ENGINE_CGROUP]) };
    let root = Sender { is_packet_socket: true, ..kernel() };
    for sender in [own, root] {
        for source in [ENGINE, OWN] {
            for flags in [SYN, ACK, RST] {
                let packet = tcp((source, 4000), (PEER, 443), flags);
                assert_eq!(sent(&node, &sender, &packet), Reason::WorkloadSpoofed);
            }
        }
    }
    let mut without = tables.clone();
    without.workloads = vec![Workload::NONE; 3];
    let node = Node::new(&without);
    let anybody = Sender { is_packet_socket: true, ..Sender::default() };
    assert_eq!(sent(&node, &anybody, &tcp((OWN, 4000), (PEER, 443), SYN)), Reason::Rule);
}

#[test]
fn a_workload_that_does_not_run_is_nobody() {
    let mut tables = between(&[out(2, 1, TCP, 443)], false);
    tables.workloads[2] = Workload::not_running(0);
    let node = Node::new(&tables);
    let senders: [&[u64]; 4] = [&[1, 5, ENGINE_CGROUP], &[], &[0], &[1]];
    for sender in senders {
        let packet = tcp((ENGINE, 4000), (PEER, 443), SYN);
        assert_eq!(sent(&node, &by(sender), &packet), Reason::WorkloadSpoofed, "{sender:?}");
    }
}

#[test]
fn the_kernel_answers_for_a_workload_and_begins_nothing() {
    let tables =
        between(&[inn(2, 1, TCP, 80), inn(2, 1, UDP, 53), out(2, 1, TCP, 443), out(2, 1, UDP, 53)], false);
    let node = Node::new(&tables);
    // Nothing was asked: what the policy admits outwards is not begun by the kernel.
    for packet in
        [tcp((ENGINE, 4000), (PEER, 443), SYN), udp((ENGINE, 4000), (PEER, 53)), echo(ENGINE, PEER, 7)]
    {
        assert_eq!(sent(&node, &kernel(), &packet), Reason::WorkloadSpoofed);
    }
    assert_eq!(sent(&node, &kernel(), &tcp((ENGINE, 81), (PEER, 4000), RST | ACK)), Reason::NoFlow);
    // A closed port, TIME_WAIT, and an ICMP error about what came.
    assert_eq!(node.receive(tcp((PEER, 4000), (ENGINE, 80), SYN)), Reason::Rule);
    assert_eq!(sent(&node, &kernel(), &tcp((ENGINE, 80), (PEER, 4000), RST | ACK)), Reason::Reply);
    let asked = udp((PEER, 4000), (ENGINE, 53));
    assert_eq!(node.receive(&asked), Reason::Rule);
    let refused = icmp(ENGINE, PEER, 3, [0; 4], &asked);
    assert_eq!(sent(&node, &kernel(), &refused), Reason::IcmpError);
    assert_eq!(sent(&node, &by(&[1, 5, BACKUP_CGROUP]), &refused), Reason::WorkloadSpoofed);
    // What is forwarded has no sender here.
    assert_eq!(sent(&node, &Sender::default(), &refused), Reason::WorkloadSpoofed);
}

#[test]
fn an_error_about_what_a_workload_has_sent_arrives() {
    let tables = between(&[out(2, 1, UDP, 53)], false);
    let node = Node::new(&tables);
    let asked = udp((ENGINE, 4000), (PEER, 53));
    assert_eq!(sent(&node, &by(&[1, 5, ENGINE_CGROUP]), &asked), Reason::Rule);
    // Whoever sends something else just now.
    for nobody in [Sender::default(), by(&[1, 6])] {
        *node.0.sender.borrow_mut() = nobody;
        assert_eq!(node.receive(too_big(PEER, ENGINE, &asked)), Reason::IcmpError);
        assert_eq!(node.receive(icmp(PEER, ENGINE, 3, [0; 4], &asked)), Reason::IcmpError);
    }
}

#[test]
fn in_audit_mode_it_is_told_of() {
    let tables = between(&[out(2, 1, TCP, 443)], false);
    let mut node = Node::new(&tables);
    node.0.settings.features |= FEATURE_AUDIT;
    let reason = sent(&node, &by(&[1, 5, BACKUP_CGROUP]), &tcp((ENGINE, 4000), (PEER, 443), SYN));
    assert!(reason == Reason::WorkloadSpoofed && reason.drops_in_audit());
    assert_eq!(node.flows(), (0, 0));
    // Nor by what this host takes for invalid, which passes then, and another one's stack may not.
    let mut invalid = tcp((ENGINE, 4000), (PEER, 443), SYN);
    invalid[33] = 0;
    for (sender, audit, expected) in [
        (&[1, 5, BACKUP_CGROUP][..], true, Reason::WorkloadSpoofed),
        (&[1, 5, BACKUP_CGROUP], false, Reason::TcpFlags),
        (&[1, 5, ENGINE_CGROUP], true, Reason::TcpFlags),
    ] {
        node.audit(audit);
        assert_eq!(sent(&node, &by(sender), &invalid), expected, "{sender:?} {audit}");
    }
}

/// A frame as `lo` has it.
fn frame(packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&[0; 12][..], &kind, packet].concat()
}

/// The engine on `lo`: local class 2 and remote class 2; the host: 1 and 1.
fn lo(tables: &Tables) -> Node<'_> {
    let mut node = Node::new(tables);
    node.0.settings.features |= FEATURE_LOOPBACK;
    node.0.settings.interface = INTERFACE_ETHERNET;
    node
}

/// Goes over `lo`: out, and if it may, in.
fn over(node: &Node, sender: &Sender, packet: &[u8]) -> (Reason, Option<Reason>) {
    let frame = frame(packet);
    let leaves = sent(node, sender, &frame);
    (leaves, passes(leaves).then(|| node.receive(&frame)))
}

#[test]
fn on_lo_each_end_is_judged_as_if_the_other_were_elsewhere() {
    let tables =
        between(&[out(1, 2, TCP, 80), inn(2, 1, TCP, 80), out(1, 2, TCP, 81), inn(2, 1, TCP, 82)], true);
    let node = lo(&tables);
    let (host, engine) = (by(&[1, 6]), by(&[1, 5, ENGINE_CGROUP]));
    let ask = |port, flags| tcp((OWN, 4000), (ENGINE, port), flags);
    let answer = |port, flags| tcp((ENGINE, port), (OWN, 4000), flags);
    // A conversation, both ends of which have a rule.
    assert_eq!(over(&node, &engine, &answer(80, SYN_ACK)), (Reason::NoFlow, None));
    assert_eq!(over(&node, &host, &ask(80, SYN)), (Reason::Rule, Some(Reason::Rule)));
    assert_eq!(over(&node, &engine, &answer(80, SYN_ACK)), (Reason::Reply, Some(Reason::Reply)));
    assert_eq!(over(&node, &host, &ask(80, ACK)), (Reason::Rule, Some(Reason::Rule)));
    assert_eq!(over(&node, &engine, &answer(80, FIN_ACK)), (Reason::Reply, Some(Reason::Reply)));
    // One end alone has one; neither has.
    assert_eq!(over(&node, &host, &ask(81, SYN)), (Reason::Rule, Some(Reason::NoRule)));
    assert_eq!(over(&node, &host, &ask(82, SYN)), (Reason::NoRule, None));
    assert_eq!(over(&node, &engine, &tcp((ENGINE, 4000), (OWN, 80), SYN)), (Reason::NoRule, None));
    // As somebody else.
    assert_eq!(over(&node, &host, &answer(80, SYN_ACK)), (Reason::WorkloadSpoofed, None));
    assert_eq!(over(&node, &host, &tcp((ENGINE, 4000), (ENGINE, 80), SYN)), (Reason::WorkloadSpoofed, None));
    let packet_socket = Sender { is_packet_socket: true, ..engine.clone() };
    assert_eq!(over(&node, &packet_socket, &ask(80, SYN)), (Reason::WorkloadSpoofed, None));
    // To itself a workload speaks as it likes.
    let itself = tcp((ENGINE, 4000), (ENGINE, 80), SYN);
    assert_eq!(over(&node, &engine, &itself), (Reason::Loopback, Some(Reason::Loopback)));
    assert_eq!(over(&node, &kernel(), &itself), (Reason::WorkloadSpoofed, None));
    let reset = tcp((ENGINE, 80), (ENGINE, 4000), RST);
    assert_eq!(over(&node, &kernel(), &reset), (Reason::Loopback, Some(Reason::Loopback)));
    // An error about that is about no flow.
    let about = icmp(OWN, ENGINE, 3, [0; 4], &itself);
    assert_eq!(node.receive(frame(&about)), Reason::IcmpErrorUnrelated);
    // Whoever is on lo by none of the host's addresses is nobody to a workload.
    assert_eq!(over(&node, &host, &tcp(("127.0.0.1", 4000), (ENGINE, 80), SYN)).0, Reason::NotLocal);
    assert_eq!(
        over(&node, &engine, &tcp((ENGINE, 4000), ("127.0.0.1", 80), SYN)),
        (Reason::UnknownAddress, None)
    );
}

#[test]
fn what_is_no_workloads_passes_on_lo_whatever_it_is() {
    let tables = between(&[], true);
    let mut node = lo(&tables);
    let mut packets = vec![
        tcp(("127.0.0.1", 4000), ("127.0.0.1", 80), SYN),
        tcp(("127.0.0.1", 4000), ("127.0.0.1", 80), 0xff),
        tcp((OWN, 4000), (OWN, 80), SYN),
        udp((OWN, 4000), ("127.0.0.53", 53)),
        udp(("192.168.1.5", 4000), (OWN, 53)),
        udp((PEER, 4000), (OWN, 53)),
        tcp(("::1", 4000), ("::1", 80), ACK),
        tcp((OWN6, 4000), (OWN6, 80), SYN),
        echo("::1", "::1", 7),
        icmp("127.0.0.1", "127.0.0.1", 13, [0; 4], &[]),
        icmp("127.0.0.1", "127.0.0.1", 3, [0; 4], &[0; 40]),
        ip("127.0.0.1", "127.0.0.1", 47, &[0; 8]),
        fragment4(udp(("127.0.0.1", 4000), ("127.0.0.1", 80)), 7, 800, true),
        udp(("127.0.0.1", 4000), ("224.0.0.251", 5353)),
    ];
    packets.iter_mut().for_each(|packet| *packet = frame(packet));
    // A frame that is not IP, and ARP.
    packets.push([&[0; 12][..], &[0x88, 0xcc], &[0; 46]].concat());
    for audit in [false, true] {
        node.audit(audit);
        node.0.settings.features |= FEATURE_LOOPBACK;
        for packet in &packets {
            for sender in [by(&[1, 6]), kernel(), Sender { is_packet_socket: true, ..kernel() }] {
                assert_eq!(sent(&node, &sender, packet), Reason::Loopback, "{packet:02x?}");
            }
            assert_eq!(node.receive(packet), Reason::Loopback, "{packet:02x?}");
        }
    }
    assert_eq!(node.flows(), (0, 0));
    let fast = fast_path(&lo(&tables).0, &Packet::new(&packets[0]), Direction::Ingress);
    assert!(matches!(fast, Some(FastPath::Verdict(_, outcome, _)) if outcome.reason == Reason::Loopback));
}

#[test]
fn who_is_cut_off_is_so_on_lo_and_a_host_stays_open_to_itself() {
    let mut tables = between(&[out(1, 2, TCP, 80), inn(2, 1, TCP, 80)], true);
    let (host, engine) = (by(&[1, 6]), by(&[1, 5, ENGINE_CGROUP]));
    let ask = tcp((OWN, 4000), (ENGINE, 80), SYN);
    let itself = tcp((ENGINE, 4000), (ENGINE, 80), SYN);
    set_leaf(&mut tables, ENGINE, Leaf::new(2, 2, true).with_quarantine(true));
    let node = lo(&tables);
    assert_eq!(over(&node, &host, &ask), (Reason::Quarantined, None));
    assert_eq!(over(&node, &engine, &itself), (Reason::Quarantined, None));
    set_leaf(&mut tables, OWN, Leaf::new(1, 1, true).with_quarantine(true));
    set_leaf(&mut tables, ENGINE, Leaf::new(2, 2, true));
    let node = lo(&tables);
    assert_eq!(over(&node, &host, &ask), (Reason::Quarantined, None));
    let open = tcp((OWN, 4000), (OWN, 80), SYN);
    assert_eq!(over(&node, &host, &open), (Reason::Loopback, Some(Reason::Loopback)));
}

fn sender() -> impl Strategy<Value = Sender> {
    let ids = prop::collection::vec(prop::sample::select(vec![1, 5, ENGINE_CGROUP, BACKUP_CGROUP, 0]), 0..5);
    (ids, any::<bool>(), prop::bool::weighted(0.2))
        .prop_map(|(cgroups, is_kernel, is_packet_socket)| Sender { cgroups, is_kernel, is_packet_socket })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    /// Nothing leaves under a workload's address but by its cgroup or, as an answer, by the kernel; and the fast path comes
    /// to what the long way does.
    #[test]
    fn whoever_sends_both_ways_come_to_the_same(
        sender in sender(),
        (from, to) in (0..6_usize, 0..6_usize),
        (flags, is_udp, port, cut) in (0..=255_u8, any::<bool>(), 78..84_u16, prop::bool::weighted(0.1)),
        (is_lo, outwards, running, quarantined) in (any::<bool>(), any::<bool>(), prop::bool::weighted(0.8), 0..8_usize),
    ) {
        let ends = [OWN, ENGINE, BACKUP, PEER, "127.0.0.1", NOBODY];
        let mut tables = between(&[out(1, 2, TCP, 80), inn(2, 1, TCP, 80), out(2, 1, TCP, 81), out(2, 1, UDP, 81), inn(1, 2, TCP, 82)], is_lo);
        if !running {
            tables.workloads[2] = Workload::not_running(0);
        }
        match quarantined {
            0 => set_leaf(&mut tables, ENGINE, Leaf::new(2, 2, true).with_quarantine(true)),
            1 => set_leaf(&mut tables, OWN, Leaf::new(1, 1, true).with_quarantine(true)),
            _ => {}
        }
        let node = if is_lo { lo(&tables) } else { Node::new(&tables) };
        *node.0.sender.borrow_mut() = sender.clone();
        let (from, to) = (ends[from], ends[to]);
        let packet = if is_udp { udp((from, 4000), (to, port)) } else { tcp((from, 4000), (to, port), flags) };
        let mut packet = if is_lo { frame(&packet) } else { packet };
        if cut {
            packet.truncate(packet.len() - 9);
        }
        let direction = if outwards { Direction::Egress } else { Direction::Ingress };
        let packet = Packet::new(&packet);
        let (long, short) = (node.0.clone(), node.0.clone());
        let mut meta = Metadata::UNKNOWN;
        decide(&long, &packet, direction, &mut meta);
        match fast_path(&short, &packet, direction) {
            None => {}
            Some(FastPath::Verdict(length, outcome, _)) => {
                prop_assert_eq!((length, outcome), (meta.headers.length, meta.outcome));
            }
            Some(FastPath::NeedsFlow(judged)) => {
                let mut other = Metadata::UNKNOWN;
                judged.decide(&short, &packet, direction, &mut other);
                prop_assert_eq!(other.outcome, meta.outcome);
            }
        }
        if passes(meta.outcome.reason) && outwards && from == ENGINE {
            let is_its = running && sender.cgroups.get(2) == Some(&ENGINE_CGROUP);
            let opens = is_udp || flags & 0x12 == 2;
            prop_assert!(!sender.is_packet_socket && (is_its || sender.is_kernel && !opens), "{:?}", meta.outcome);
        }
    }
}
