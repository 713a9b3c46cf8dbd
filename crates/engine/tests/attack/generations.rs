//! Programs of two generations on different hooks; audit mode and quarantine.

use bulkhead_engine::Reason;

use super::packets::*;
use super::world::*;

const SERVER: (&str, u16) = (OWN, 443);
const CLIENT: (&str, u16) = (PEER, 40_000);

#[test]
fn a_connection_made_during_a_swap_outlives_it() {
    let tables = tables(&[inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    node.swap(&tables, 11);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    // The accept leaves by the older program, which does not write.
    node.swap(&tables, 10);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::Reply);
    node.swap(&tables, 11);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
    assert_eq!(node.flows(), (1, 0));
    node.wait(3600);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
}

#[test]
fn an_older_program_does_not_write_a_newer_flow() {
    let (old, new) = (tables(&[inward(TCP, 443), outward(TCP, 40_000)]), tables(&[inward(TCP, 443)]));
    let other = tables(&[inward(TCP, 80)]);
    let mut node = Node::new(&new);
    node.swap(&new, 11);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::Reply);
    let before = node.0.flows.borrow().clone();
    node.swap(&old, 10);
    node.wait(5);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, FIN_ACK)), Reason::Rule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::Rule);
    node.swap(&other, 9);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::FlowRevoked);
    assert_eq!(*node.0.flows.borrow(), before);
}

#[test]
fn what_is_revoked_is_cut_both_ways_at_the_next_packet() {
    let (old, new) = (tables(&[inward(TCP, 443)]), tables(&[inward(TCP, 80)]));
    let mut node = Node::new(&old);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::Reply);
    node.swap(&new, 11);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, ACK)), Reason::NoRule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::FlowRevoked);
    assert_eq!(node.flows(), (0, 0));
    // It does not come back with the rule: the connection is gone.
    node.swap(&old, 12);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::NoFlow);
}

#[test]
fn what_audit_mode_tracked_is_no_pass_once_enforced() {
    let (closed, open) = (tables(&[outward(UDP, 9)]), tables(&[inward(UDP, 53), outward(UDP, 9)]));
    let mut node = Node::new(&closed);
    let (request, reply) = (udp(CLIENT, (OWN, 53)), udp((OWN, 53), CLIENT));
    let other = [udp((PEER, 40_001), (OWN, 53)), udp((OWN, 53), (PEER, 40_001))];
    node.audit(true);
    assert_eq!(node.receive(&request), Reason::NoFlow, "reported, and tracked");
    assert_eq!(node.send(&reply), Reason::AuditReply);
    assert_eq!(node.receive(&other[0]), Reason::NoFlow);
    assert_eq!(node.send(&other[1]), Reason::AuditReply);
    node.audit(false);
    node.swap(&open, 11);
    assert_eq!(node.send(&other[1]), Reason::Reply, "a rule admits it now");
    node.swap(&closed, 12);
    assert!(!passes(node.receive(&request)));
    assert!(!passes(node.send(&reply)));
    node.swap(&open, 13);
    assert_eq!(node.receive(&request), Reason::Rule);
    assert_eq!(node.send(&reply), Reason::Reply);
}

#[test]
fn what_audit_mode_would_cut_is_there_when_the_policy_returns() {
    let (open, closed) = (tables(&[inward(TCP, 443)]), tables(&[inward(TCP, 80)]));
    let mut node = Node::new(&open);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, SYN)), Reason::Rule);
    assert_eq!(node.send(tcp(SERVER, CLIENT, SYN_ACK)), Reason::Reply);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
    node.swap(&closed, 11);
    node.audit(true);
    for _ in 0..3 {
        assert_eq!(node.receive(tcp(CLIENT, SERVER, ACK)), Reason::NoRule);
        assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::FlowRevoked, "reported");
        node.wait(5000);
    }
    node.audit(false);
    node.swap(&open, 12);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::Reply);
    // Enforced, it is cut for good.
    node.swap(&closed, 13);
    assert_eq!(node.send(tcp(SERVER, CLIENT, ACK)), Reason::FlowRevoked);
    assert_eq!(node.flows(), (0, 0));
}

#[test]
fn quarantine_holds_in_audit_mode_for_packets_that_cannot_be_parsed() {
    let mut tables = tables(&[inward(TCP, 443), inward(UDP, 53), outward(UDP, 53)]);
    quarantine(&mut tables, PEER);
    quarantine(&mut tables, PEER6);
    let mut node = Node::new(&tables);
    node.audit(true);
    // A stack may take each of these for what the engine refuses.
    let null = tcp(CLIENT, SERVER, 0);
    let tiny = fragment4(ip(PEER, OWN, TCP, &[0; 8]), 1, 0, true);
    let mut deep: Vec<u8> = (0..9).flat_map(|_| [60, 0, 1, 4, 0, 0, 0, 0]).collect();
    deep[64] = UDP;
    deep.extend(udp_header(40_000, 53, 8));
    let mut routed = udp(CLIENT, (OWN, 53));
    routed.splice(20..20, [131, 3, 4, 0]);
    (routed[0], routed[3]) = (0x46, 32);
    for packet in [null, tiny, ip(PEER6, OWN6, 60, &deep), routed] {
        assert_eq!(node.receive(&packet), Reason::Quarantined, "{packet:x?}");
    }
    assert_eq!(node.receive(udp(CLIENT, (OWN, 53))), Reason::Quarantined);
    assert_eq!(node.send(tcp(SERVER, CLIENT, 0)), Reason::Quarantined);
    // What nobody is cut off for keeps its own reason, and so it does when enforced.
    assert_eq!(node.receive(tcp((OTHER, 1), SERVER, 0)), Reason::TcpFlags);
    node.audit(false);
    assert_eq!(node.receive(tcp(CLIENT, SERVER, 0)), Reason::TcpFlags);
}

#[test]
fn quarantine_cuts_replies_and_errors_too() {
    let open = tables(&[inward(UDP, 53), outward(UDP, 53)]);
    let mut cut = open.clone();
    quarantine(&mut cut, PEER);
    let mut node = Node::new(&open);
    let request = udp((OWN, 40_000), (PEER, 53));
    assert_eq!(node.send(&request), Reason::Rule);
    node.swap(&cut, 10);
    assert_eq!(node.receive(udp((PEER, 53), (OWN, 40_000))), Reason::Quarantined);
    // An honest router's error about a packet to whoever is cut off.
    assert_eq!(node.receive(too_big(ROUTER, OWN, &request)), Reason::Quarantined);
}
