//! What is rejected and not only dropped: who is told, and that nothing but the word gets through for it.

use bulkhead_abi::{CELL_ALLOW, CELL_REJECT, Direction, NO_RULE, Rate, from_ip};
use bulkhead_engine::memory::Tables;
use bulkhead_engine::{Answer, Reason};

use super::packets::*;
use super::world::*;

const RST_ACK: u8 = 0x14;
/// A port that a rule denies, and one that none speaks of.
const DENIED: u16 = 22;
const OPEN: u16 = 443;
const OTHER_PORT: u16 = 9999;

type Ends = [(bulkhead_abi::Address, u16); 2];

/// Tables that tell of all that they do not admit.
fn rejecting(rules: &[Rule]) -> Tables {
    let mut tables = tables(rules);
    for cell in tables.cells.iter_mut().filter(|cell| cell.action != CELL_ALLOW) {
        cell.flags |= CELL_REJECT;
    }
    tables
}

fn rules() -> [Rule; 3] {
    [inward(TCP, OPEN), denied(inward(TCP, DENIED)), denied(outward(TCP, DENIED))]
}

/// What was to be told, since this was asked last.
fn told(node: &Node) -> Vec<(Answer, Ends)> {
    node.0.answers.take()
}

fn ends(from: (&str, u16), to: (&str, u16)) -> Ends {
    [from, to].map(|(address, port)| (from_ip(address.parse().unwrap()), port))
}

#[test]
fn who_begins_what_is_not_admitted_is_told_once() {
    let tables = rejecting(&rules());
    for (peer, own) in [(PEER, OWN), (PEER6, OWN6)] {
        for (port, reason) in [(DENIED, Reason::DenyRule), (OTHER_PORT, Reason::NoRule)] {
            for (direction, from, to) in [
                (Direction::Ingress, (peer, 40_000), (own, port)),
                (Direction::Egress, (own, 40_000), (peer, port)),
            ] {
                let mut node = Node::new(&tables);
                let expected = (Answer::Rejected(direction), ends(from, to));
                let run = |node: &Node, packet: Vec<u8>| node.outcome(direction, &packet).reason;
                assert_eq!(run(&node, tcp(from, to, SYN)), reason);
                assert_eq!(told(&node), [expected]);
                // What follows at once is answered by the same.
                assert_eq!(run(&node, tcp(from, to, SYN)), reason);
                assert_eq!(told(&node), []);
                node.wait(1);
                assert_eq!(run(&node, tcp(from, to, SYN)), reason);
                assert_eq!(told(&node), [expected]);
                assert_eq!(node.flows(), (0, 0), "it leaves no trace");
            }
        }
        let node = Node::new(&tables);
        assert_eq!(node.receive(udp((peer, 40_000), (own, 53))), Reason::NoRule);
        // Rules admit something inwards: to the account it may be a reply.
        assert_eq!(node.send(udp((own, 40_000), (peer, 53))), Reason::NoFlow);
        let both = [
            (Answer::Rejected(Direction::Ingress), ends((peer, 40_000), (own, 53))),
            (Answer::Rejected(Direction::Egress), ends((own, 40_000), (peer, 53))),
        ];
        assert_eq!(told(&node), both);
    }
}

#[test]
fn what_the_policy_does_not_reject_is_dropped_in_silence() {
    let tables = tables(&rules());
    let node = Node::new(&tables);
    for packet in [tcp((PEER, 1), (OWN, DENIED), SYN), udp((PEER, 1), (OWN, 53))] {
        assert!(matches!(node.receive(packet), Reason::DenyRule | Reason::NoRule));
    }
    // Nor does a reset leave.
    assert_eq!(node.send(tcp((OWN, DENIED), (PEER, 1), RST_ACK)), Reason::NoFlow);
    assert_eq!(told(&node), []);
}

#[test]
fn nobody_else_is_told() {
    let tables = rejecting(&rules());
    let mut node = Node::new(&tables);
    let silent: [(Vec<u8>, &str); 7] = [
        (tcp((NOBODY, 1), (OWN, DENIED), SYN), "a stranger"),
        (tcp((PEER, 1), (ROUTED, DENIED), SYN), "who asks for somebody behind this host"),
        (tcp((PEER, 1), (OWN, DENIED), ACK), "a segment of no connection"),
        (tcp((PEER, 1), (OWN, DENIED), SYN_ACK), "an accept"),
        (tcp((PEER, 1), (OWN, DENIED), RST), "a reset: resets are never answered"),
        (echo(PEER, OWN, 1), "an echo"),
        (fragment4(udp((PEER, 1), (OWN, 53)), 1, 8, false), "a later fragment"),
    ];
    for (packet, who) in silent {
        assert_ne!(node.receive(packet), Reason::Rule, "{who}");
        assert_eq!(told(&node), [], "{who}");
    }
    node.audit(true);
    assert!(matches!(node.receive(tcp((PEER, 1), (OWN, DENIED), SYN)), Reason::DenyRule));
    assert_eq!(told(&node), [], "in audit mode it passes");
}

#[test]
fn a_late_reply_is_no_beginning() {
    let tables = rejecting(&[inward(UDP, 53)]);
    let node = Node::new(&tables);
    assert_eq!(node.send(udp((OWN, 53), (PEER, 40_000))), Reason::NoFlow);
    assert_eq!(told(&node), []);
    assert_eq!(node.send(udp((OWN, 54), (PEER, 40_000))), Reason::NoFlow);
    assert_eq!(told(&node).len(), 1);
}

#[test]
fn who_is_cut_off_hears_nothing() {
    for address in [PEER, OWN] {
        let mut tables = rejecting(&rules());
        quarantine(&mut tables, address);
        let node = Node::new(&tables);
        assert_eq!(node.receive(tcp((PEER, 1), (OWN, DENIED), SYN)), Reason::Quarantined);
        assert_eq!(node.send(tcp((OWN, DENIED), (PEER, 1), RST_ACK)), Reason::Quarantined);
        assert_eq!(told(&node), []);
    }
}

#[test]
fn one_sender_is_told_as_often_as_it_may_begin_flows() {
    let tables = rejecting(&rules());
    let mut node = Node::new(&tables);
    node.0.settings.new_flows = Rate { interval: SECOND, tolerance: 4 * SECOND };
    for port in 1..100 {
        node.receive(tcp((PEER, port), (OWN, DENIED), SYN));
    }
    assert_eq!(told(&node).len(), 5);
}

#[test]
fn who_floods_here_leaves_answers_for_others() {
    let tables = rejecting(&rules());
    let node = Node::new(&tables);
    for port in 1..2000 {
        node.send(tcp((OWN, port), (PEER, DENIED), SYN));
    }
    assert_eq!(told(&node).len(), 100);
    node.receive(tcp((PEER, 1), (OWN, DENIED), SYN));
    assert_eq!(told(&node).len(), 1);
}

#[test]
fn of_what_leaves_only_a_bare_reset_of_what_is_rejected_passes() {
    let tables = rejecting(&rules());
    let node = Node::new(&tables);
    for (peer, own) in [(PEER, OWN), (PEER6, OWN6)] {
        for flags in [RST, RST_ACK] {
            let outcome = node.outcome(Direction::Egress, &tcp((own, DENIED), (peer, 40_000), flags));
            assert_eq!(outcome.reason, Reason::Reset);
            assert_eq!(outcome.rule, NO_RULE);
            assert_eq!(node.send(tcp((own, OTHER_PORT), (peer, 40_000), flags)), Reason::Reset);
        }
        // No byte of data, nor of options, and no other segment.
        let mut segment = tcp_header(DENIED, 40_000, RST_ACK);
        segment.push(b'x');
        assert_eq!(node.send(ip(own, peer, TCP, &segment)), Reason::NoFlow);
        let mut segment = tcp_header(DENIED, 40_000, RST_ACK);
        segment[12] = 0xf0;
        segment.extend([1; 40]);
        assert_eq!(node.send(ip(own, peer, TCP, &segment)), Reason::NoFlow);
        for flags in [SYN, SYN_ACK, ACK, FIN_ACK, 0x18] {
            assert_ne!(node.send(tcp((own, OTHER_PORT), (peer, 40_000), flags)), Reason::Reset, "{flags:#x}");
        }
        // Nor of whom is behind this host, to strangers, or inwards.
        assert_ne!(node.send(tcp((ROUTED, DENIED), (PEER, 40_000), RST_ACK)), Reason::Reset);
        assert_eq!(node.send(tcp((OWN, DENIED), (NOBODY, 40_000), RST_ACK)), Reason::UnknownAddress);
        assert_ne!(node.receive(tcp((peer, DENIED), (own, 40_000), RST_ACK)), Reason::Reset);
    }
    assert_eq!(node.flows(), (0, 0));
}

#[test]
fn of_icmp_errors_only_those_about_datagrams_that_are_rejected_pass_besides() {
    let tables = rejecting(&[inward(UDP, OPEN), denied(inward(UDP, DENIED))]);
    let silent = super::world::tables(&[inward(UDP, OPEN), denied(inward(UDP, DENIED))]);
    let error = |from: &str, to: &str, kind: [u8; 2], quote: &[u8]| {
        let mut packet = icmp(from, to, kind[0], [0; 4], quote);
        packet[if from.contains(':') { 41 } else { 21 }] = kind[1];
        packet
    };
    let code = |from: &str| if from.contains(':') { [1, 1] } else { [3, 13] };
    let prohibited = |from: &str, to: &str, quote: &[u8]| error(from, to, code(from), quote);
    for (peer, own) in [(PEER, OWN), (PEER6, OWN6)] {
        let node = Node::new(&tables);
        for port in [DENIED, OTHER_PORT] {
            let quote = udp((peer, 40_000), (own, port));
            assert_eq!(node.send(prohibited(own, peer, &quote)), Reason::IcmpError, "{port}");
            assert_eq!(Node::new(&silent).send(prohibited(own, peer, &quote)), Reason::IcmpErrorUnrelated);
        }
        // Nothing else is said, and by nobody else.
        let quote = udp((peer, 40_000), (own, DENIED));
        let [kind, other] = code(own);
        for kind in [[kind, other + 1], [kind, 0], [kind + 8, other], [11, 0], [3, 4]] {
            assert_ne!(node.send(error(own, peer, kind, &quote)), Reason::IcmpError, "{kind:?}");
        }
        let data = ip(peer, own, UDP, &[udp_header(40_000, DENIED, 9), vec![b'x']].concat());
        assert_eq!(node.send(prohibited(own, peer, &data)), Reason::IcmpErrorUnrelated);
        let behind = udp((PEER, 40_000), (ROUTED, DENIED));
        assert_ne!(node.send(prohibited(ROUTED, PEER, &behind)), Reason::IcmpError);
        assert_ne!(node.send(prohibited(OWN, PEER, &behind)), Reason::IcmpError);
        // What is admitted has a flow to be about; TCP is answered by resets; nothing comes in for it.
        let admitted = udp((peer, 40_000), (own, OPEN));
        assert_eq!(node.send(prohibited(own, peer, &admitted)), Reason::IcmpErrorUnrelated);
        let segment = tcp((peer, 40_000), (own, OTHER_PORT), SYN);
        assert_eq!(node.send(prohibited(own, peer, &segment)), Reason::IcmpErrorUnrelated);
        let sent = udp((own, 40_000), (peer, OTHER_PORT));
        assert_eq!(node.receive(prohibited(peer, own, &sent)), Reason::IcmpErrorUnrelated);
    }
}
