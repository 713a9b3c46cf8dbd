//! Flows: who may answer whom, and for how long.

use bulkhead_engine::Reason;

use super::packets::*;
use super::world::*;

const SERVER: (&str, u16) = (OWN, 443);
const CLIENT: (&str, u16) = (PEER, 40_000);

/// A connection that the peer opened.
fn connect(node: &Node) {
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::Reply);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, ACK)), Reason::Rule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
}

#[test]
fn probes_without_a_connection_find_nothing() {
    let tables = tables(&[inward(TCP, 443)]);
    let node = Node::new(&tables);
    for flags in [ACK, SYN_ACK, FIN_ACK] {
        assert_eq!(node.send(tcp(SERVER, CLIENT, flags)), Reason::NoFlow, "{flags:#x}");
    }
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    // Neither another port, nor another peer, nor an opening of its own.
    assert_eq!(node.send(tcp((OWN, 444), CLIENT, SYN_ACK)), Reason::NoFlow);
    assert_eq!(node.send(tcp(SERVER, (PEER, 40_001), SYN_ACK)), Reason::NoFlow);
    assert_eq!(node.send(tcp(SERVER, (OTHER, 40_000), SYN_ACK)), Reason::NoRule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN)), Reason::NoRule);
}

#[test]
fn a_flow_of_one_direction_is_none_of_the_other() {
    let tables = tables(&[inward(UDP, 5000), outward(UDP, 6000)]);
    let node = Node::new(&tables);
    // The same ports both ways: what came in from 6000 to 5000 may be answered from 5000 to 6000,
    // and a packet of the opposite tuple that comes in is no answer to it.
    assert_eq!(node.receive(udp((PEER, 6001), (OWN, 5000))), Reason::Rule);
    assert_eq!(node.send(udp((OWN, 5000), (PEER, 6001))), Reason::Reply);
    assert_eq!(node.receive(udp((PEER, 5000), (OWN, 6001))), Reason::NoFlow);
    assert_eq!(node.receive(udp((PEER, 6001), (OWN, 5001))), Reason::NoFlow);
}

#[test]
fn a_flow_is_only_of_its_zone() {
    let tables = tables(&[inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    connect(&node);
    node.0.settings.zone = 2;
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::NoFlow);
}

#[test]
fn a_flow_is_over_after_its_time_and_not_before() {
    let tables = tables(&[inward(UDP, 53)]);
    let mut node = Node::new(&tables);
    let (request, reply) = (udp(CLIENT, (OWN, 53)), udp((OWN, 53), CLIENT));
    assert_eq!(node.receive(&request), Reason::Rule);
    node.wait(30);
    assert_eq!(node.send(&reply), Reason::Reply);
    node.wait(180);
    assert_eq!(node.send(&reply), Reason::Reply);
    node.wait(181);
    assert_eq!(node.send(&reply), Reason::FlowExpired);
    // It starts anew although the old one was not collected.
    assert_eq!(node.receive(&request), Reason::Rule);
    assert_eq!(node.send(&reply), Reason::Reply);
}

#[test]
fn a_forged_reset_or_end_is_taken_back_by_the_next_segment() {
    let tables = tables(&[inward(TCP, 443)]);
    for flags in [RST, RST | ACK, FIN_ACK] {
        for from_client in [true, false] {
            let mut node = Node::new(&tables);
            connect(&node);
            if from_client {
                assert_eq!(node.receive(tcp(CLIENT, SERVER, flags)), Reason::Rule);
            } else {
                assert_eq!(node.send(tcp(SERVER, CLIENT, flags)), Reason::Reply);
            }
            assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
            node.wait(100);
            assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply, "{flags:#x} {from_client}");
        }
    }
}

#[test]
fn a_connection_that_both_sides_ended_stays_ended() {
    let tables = tables(&[inward(TCP, 443)]);
    // Whoever ends first, the last acknowledgement must not make it a live one for hours.
    for responder_first in [true, false] {
        let mut node = Node::new(&tables);
        connect(&node);
        if responder_first {
            assert_eq!(node.send(tcp(SERVER, CLIENT, FIN_ACK)), Reason::Reply);
            assert_eq!(node.receive(tcp(CLIENT, SERVER, FIN_ACK)), Reason::Rule);
            assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
        } else {
            assert_eq!(node.receive(tcp(CLIENT, SERVER, FIN_ACK)), Reason::Rule);
            assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
            assert_eq!(node.send(tcp(SERVER, CLIENT, FIN_ACK)), Reason::Reply);
        }
        node.wait(20);
        assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply, "a retransmission");
        node.wait(31);
        assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::FlowExpired, "{responder_first}");
    }
}

#[test]
fn a_half_closed_connection_goes_on() {
    let tables = tables(&[inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    connect(&node);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, FIN_ACK)), Reason::Rule);
    for _ in 0..3 {
        assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
        node.wait(3600);
    }
    assert_eq!(node.send(tcp(SERVER, CLIENT, FIN_ACK)), Reason::Reply);
}

#[test]
fn a_port_that_is_used_again_is_a_new_connection() {
    let tables = tables(&[inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    connect(&node);
    assert_eq!(node.send(tcp(SERVER, CLIENT, FIN_ACK)), Reason::Reply);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, FIN_ACK)), Reason::Rule);
    connect(&node);
    node.wait(7000);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
    assert_eq!(node.flows().0, 1);
    // Ended by one side, reset by the other: the next connection knows nothing of it.
    assert_eq!(node.send(tcp(SERVER, CLIENT, FIN_ACK)), Reason::Reply);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, RST)), Reason::Rule);
    connect(&node);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, FIN_ACK)), Reason::Rule, "half-closed");
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
    node.wait(7000);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
}

#[test]
fn pings_evict_no_conversation() {
    let tables = tables(&[inward(ICMP, 0), inward(TCP, 443)]);
    let node = Node::new(&tables);
    connect(&node);
    for id in 0..1000 {
        assert_eq!(node.receive(echo(PEER, OWN, id)), Reason::Rule);
        assert_eq!(node.send(echo_reply(OWN, PEER, id)), Reason::Reply);
        assert_eq!(node.send(echo_reply(OWN, PEER, id)), Reason::Reply);
    }
    assert_eq!(node.flows().0, 1);
}

#[test]
fn accepts_alone_evict_no_conversation_and_may_idle() {
    let tables = tables(&[inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    connect(&node);
    for port in 0..1000 {
        assert_eq!(node.receive(tcp((PEER, port), SERVER, SYN)), Reason::Rule);
        assert_eq!(node.send(tcp(SERVER, (PEER, port), SYN_ACK)), Reason::Reply);
    }
    assert_eq!(node.flows().0, 1);
    node.wait(7000);
    assert_eq!(node.send(tcp(SERVER, (PEER, 7), ACK)), Reason::Reply);
    assert_eq!(node.flows().0, 2);
    // One whose answer and end are one segment is over as any other.
    assert_eq!(node.send(tcp(SERVER, (PEER, 8), FIN_ACK)), Reason::Reply);
    assert_eq!(node.receive(tcp((PEER, 8), SERVER, FIN_ACK)), Reason::Rule);
    assert_eq!(node.send(tcp(SERVER, (PEER, 8), ACK)), Reason::Reply);
    node.wait(31);
    assert_eq!(node.send(tcp(SERVER, (PEER, 8), ACK)), Reason::FlowExpired);
}

#[test]
fn an_echo_reply_needs_its_request_also_where_echoes_are_admitted() {
    let tables = tables(&[inward(ICMP, 0), outward(ICMP, 0)]);
    let node = Node::new(&tables);
    assert_eq!(node.receive(echo_reply(PEER, OWN, 7)), Reason::NoFlow);
    assert_eq!(node.send(echo(OWN, PEER, 7)), Reason::Rule);
    assert_eq!(node.receive(echo_reply(PEER, OWN, 8)), Reason::NoFlow);
    assert_eq!(node.receive(echo_reply(PEER, OWN, 7)), Reason::Reply);
}

#[test]
fn port_zero_and_protocols_without_ports_have_flows_of_their_own() {
    const GRE: u8 = 47;
    let tables = tables(&[inward(UDP, 0), inward(GRE, 0)]);
    let node = Node::new(&tables);
    assert_eq!(node.receive(ip(PEER, OWN, GRE, &[0; 8])), Reason::Rule);
    assert_eq!(node.send(udp((OWN, 0), (PEER, 0))), Reason::NoFlow);
    assert_eq!(node.send(ip(OWN, PEER, 50, &[0; 8])), Reason::NoFlow);
    assert_eq!(node.send(ip(OWN, PEER, GRE, &[0; 8])), Reason::Reply);
    assert_eq!(node.receive(udp((PEER, 0), (OWN, 0))), Reason::Rule);
    assert_eq!(node.send(udp((OWN, 0), (PEER, 0))), Reason::Reply);
}

#[test]
fn a_deny_of_the_way_back_does_not_cut_replies() {
    let tables = tables(&[inward(UDP, 53), denied(outward(UDP, 40_000))]);
    let node = Node::new(&tables);
    assert_eq!(node.send(udp((OWN, 53), CLIENT)), Reason::DenyRule);
    assert_eq!(node.receive(udp(CLIENT, (OWN, 53))), Reason::Rule);
    assert_eq!(node.send(udp((OWN, 53), CLIENT)), Reason::Reply);
}
