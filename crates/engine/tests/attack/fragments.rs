//! Fragments: the first is judged, the others follow it in order, or nothing does.

use bulkhead_abi::FRAGMENT_TIMEOUT;
use bulkhead_engine::Reason;

use super::packets::*;
use super::world::*;

/// Fragments of a datagram of 8 + 16 + 8 bytes to a port.
fn three(port: u16, id: u16) -> [Vec<u8>; 3] {
    let first = ip(PEER, OWN, UDP, &[udp_header(4000, port, 32), vec![0; 8]].concat());
    let part = ip(PEER, OWN, UDP, &[0; 8]);
    [fragment4(first, id, 0, true), fragment4(part.clone(), id, 16, true), fragment4(part, id, 24, false)]
}

#[test]
fn a_datagram_passes_in_order_and_ends() {
    let tables = tables(&[inward(UDP, 53)]);
    let node = Node::new(&tables);
    let [first, second, last] = three(53, 1);
    assert_eq!(node.receive(&second), Reason::FragmentOrphan);
    assert_eq!(node.receive(&first), Reason::Rule);
    assert_eq!(node.receive(&last), Reason::FragmentOrder);
    assert_eq!(node.receive(&second), Reason::Fragment);
    assert_eq!(node.receive(&second), Reason::FragmentOverlap);
    assert_eq!(node.receive(&last), Reason::Fragment);
    assert_eq!(node.receive(&last), Reason::FragmentOrphan);
    assert!(node.datagrams().is_empty());
}

#[test]
fn a_first_fragment_that_comes_again_starts_its_datagram_again() {
    let tables = tables(&[inward(UDP, 53)]);
    let node = Node::new(&tables);
    let [first, second, last] = three(53, 1);
    // The rest of the older datagram was lost; its identification is used again.
    assert_eq!(node.receive(&first), Reason::Rule);
    assert_eq!(node.receive(&second), Reason::Fragment);
    for packet in [&first, &second, &last] {
        assert!(passes(node.receive(packet)));
    }
    assert_eq!(node.datagrams().len(), 0);
}

#[test]
fn nothing_of_a_denied_datagram_passes() {
    let tables = tables(&[inward(UDP, 53)]);
    let node = Node::new(&tables);
    // A denied first fragment cannot ride on another datagram of its identification.
    assert_eq!(node.receive(&three(53, 1)[0]), Reason::Rule);
    let [first, second, _] = three(54, 1);
    assert_eq!(node.receive(&first), Reason::NoRule);
    assert_eq!(node.receive(&second), Reason::Fragment, "what is remembered is still the admitted one");
    let [first, second, last] = three(54, 2);
    assert_eq!(node.receive(&first), Reason::NoRule);
    assert_eq!(node.receive(&second), Reason::FragmentOrphan);
    assert_eq!(node.receive(&last), Reason::FragmentOrphan);
}

#[test]
fn fragments_follow_only_their_own_first() {
    let tables = tables(&[inward(UDP, 53), inward(TCP, 443)]);
    let mut node = Node::new(&tables);
    let [first, second, _] = three(53, 1);
    assert_eq!(node.receive(&first), Reason::Rule);
    let mut other = second.clone();
    other[9] = TCP;
    assert_eq!(node.receive(&other), Reason::FragmentOrphan, "another protocol");
    let mut other = second.clone();
    other[5] = 2;
    assert_eq!(node.receive(&other), Reason::FragmentOrphan, "another identification");
    node.0.settings.zone = 2;
    assert_eq!(node.receive(&second), Reason::FragmentOrphan, "another zone");
    node.0.settings.zone = 1;
    node.wait(FRAGMENT_TIMEOUT + 1);
    assert_eq!(node.receive(&second), Reason::FragmentOrphan, "too late");
}

#[test]
fn a_revoked_datagram_ends_where_it_is() {
    let (mut open, closed) = (tables(&[inward(UDP, 53)]), tables(&[inward(UDP, 54)]));
    let [first, second, last] = three(53, 1);
    let mut node = Node::new(&open);
    assert_eq!(node.receive(&first), Reason::Rule);
    node.swap(&closed, 11);
    assert_eq!(node.receive(&second), Reason::FlowRevoked);
    let remembered = node.0.fragments.clone();
    quarantine(&mut open, PEER);
    let node = Node::new(&open);
    node.0.fragments.swap(&remembered);
    assert_eq!(node.receive(&last), Reason::Quarantined);
}

#[test]
fn a_reply_may_come_in_fragments() {
    let tables = tables(&[outward(UDP, 53)]);
    let node = Node::new(&tables);
    let part = |payload: &[u8], offset, more| fragment4(ip(PEER, OWN, UDP, payload), 5, offset, more);
    let first = part(&[udp_header(53, 4000, 24), vec![0; 8]].concat(), 0, true);
    assert_eq!(node.receive(&first), Reason::NoFlow);
    assert_eq!(node.send(udp((OWN, 4000), (PEER, 53))), Reason::Rule);
    assert_eq!(node.receive(&first), Reason::Reply);
    assert_eq!(node.receive(part(&[0; 8], 16, false)), Reason::Fragment);
}

#[test]
fn ipv6_fragments_may_carry_options_and_are_walked_to_the_end() {
    let tables = tables(&[inward(UDP, 53)]);
    let node = Node::new(&tables);
    let options = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
    let body = [options(UDP), udp_header(4000, 53, 16)].concat();
    let packet = |offset, more, payload: &[u8]| ip(PEER6, OWN6, 44, &fragment6(60, 9, offset, more, payload));
    assert_eq!(node.receive(packet(0, true, &body)), Reason::Rule);
    assert_eq!(node.receive(packet(16, false, &[0; 8])), Reason::Fragment);
    // The chain must end in the first fragment.
    assert_eq!(node.receive(packet(0, true, &options(UDP))), Reason::FragmentTiny);
    assert!(!passes(node.receive(packet(0, true, &options(60)))));
    // A routing header behind the fragment header routes all the same.
    let routing = [vec![UDP, 0, 0, 1, 0, 0, 0, 0], udp_header(4000, 53, 16)].concat();
    let routed = ip(PEER6, OWN6, 44, &fragment6(43, 10, 0, true, &routing));
    assert_eq!(node.receive(routed), Reason::SourceRoute);
    // Two fragment headers, the first of them a real one.
    let inner = fragment6(UDP, 12, 0, true, &udp_header(4000, 53, 16));
    assert_eq!(
        node.receive(ip(PEER6, OWN6, 44, &fragment6(44, 11, 0, true, &inner))),
        Reason::ExtensionHeader
    );
    assert_eq!(node.datagrams().len(), 0);
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let tables = tables(&[inward(UDP, 53)]);
    let node = Node::new(&tables);
    let atomic =
        |port, length| ip(PEER6, OWN6, 44, &fragment6(UDP, 9, 0, false, &udp_header(4000, port, length)));
    assert_eq!(node.receive(atomic(53, 8)), Reason::Rule);
    assert_eq!(node.receive(atomic(54, 8)), Reason::NoRule);
    assert_eq!(node.receive(atomic(53, 9)), Reason::UdpLength, "nothing follows");
    let later = ip(PEER6, OWN6, 44, &fragment6(UDP, 9, 8, false, &[0; 8]));
    assert_eq!(node.receive(later), Reason::FragmentOrphan);
}

#[test]
fn an_error_in_fragments_brings_nothing_along() {
    let tables = tables(&[outward(UDP, 53)]);
    let node = Node::new(&tables);
    let sent = udp((OWN, 4000), (PEER, 53));
    assert_eq!(node.send(&sent), Reason::Rule);
    let mut error = too_big(ROUTER, OWN, &sent);
    error.extend([0; 4]);
    error[3] += 4;
    assert_eq!(node.receive(fragment4(error, 3, 0, true)), Reason::IcmpError);
    assert_eq!(node.receive(fragment4(ip(ROUTER, OWN, ICMP, &[0; 8]), 3, 40, false)), Reason::FragmentOrphan);
}
