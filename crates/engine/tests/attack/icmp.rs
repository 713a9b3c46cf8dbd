//! ICMP errors: only about a tracked flow, and only to the end that sent the quoted packet.

use bulkhead_engine::Reason;

use super::packets::*;
use super::world::*;

const LOCAL: (&str, u16) = (OWN, 40_000);
const REMOTE: (&str, u16) = (PEER, 443);

#[test]
fn a_router_may_tell_the_sender_and_nobody_else() {
    let tables = tables(&[outward(TCP, 443), outward(ICMP, 0)]);
    let mut node = Node::new(&tables);
    let sent = tcp(LOCAL, REMOTE, SYN);
    assert_eq!(node.receive(too_big(ROUTER, OWN, &sent)), Reason::IcmpErrorUnrelated, "before it was sent");
    assert_eq!(node.send(&sent), Reason::Rule);
    assert_eq!(node.receive(too_big(ROUTER, OWN, &sent)), Reason::IcmpError);
    // The quoted packet is the remote's, so the remote gets the error.
    let answer = tcp(REMOTE, LOCAL, SYN_ACK);
    assert_eq!(node.receive(too_big(ROUTER, OWN, &answer)), Reason::IcmpErrorUnrelated);
    assert_eq!(node.send(too_big(OWN, PEER, &answer)), Reason::IcmpError);
    assert_eq!(node.send(too_big(OWN, OTHER, &answer)), Reason::IcmpErrorUnrelated);
    // Another port, another end, and the same ports backwards.
    for other in [
        tcp((OWN, 40_001), REMOTE, ACK),
        tcp(LOCAL, (PEER, 444), ACK),
        tcp(LOCAL, (OTHER, 443), ACK),
        tcp((OWN, 443), (PEER, 40_000), ACK),
        udp(LOCAL, REMOTE),
    ] {
        assert_eq!(node.receive(too_big(ROUTER, OWN, &other)), Reason::IcmpErrorUnrelated);
    }
    node.0.settings.zone = 2;
    assert_eq!(node.receive(too_big(ROUTER, OWN, &sent)), Reason::IcmpErrorUnrelated, "another zone");
}

#[test]
fn on_an_overlay_only_who_can_know_is_believed() {
    let tables = tables(&[outward(UDP, 53), inward(UDP, 54)]);
    let node = Node::new(&tables);
    let (sent, sent6) = (udp(LOCAL, (PEER, 53)), udp((OWN6, 40_000), (PEER6, 53)));
    assert_eq!([&sent, &sent6].map(|sent| node.send(sent)), [Reason::Rule; 2]);
    for (source, own, sent) in
        [(PEER, OWN, &sent), (ROUTER, OWN, &sent), (PEER6, OWN6, &sent6), (ROUTER6, OWN6, &sent6)]
    {
        assert_eq!(node.receive(too_big(source, own, sent)), Reason::IcmpError, "{source}");
    }
    for (source, own, sent) in [(OTHER, OWN, &sent), (NOBODY, OWN, &sent), ("fd7a::3", OWN6, &sent6)] {
        assert_eq!(node.receive(too_big(source, own, sent)), Reason::IcmpErrorSource, "{source}");
    }
    // Of a reply of this node's, too.
    assert_eq!(node.receive(udp((PEER, 5000), (OWN, 54))), Reason::Rule);
    let reply = udp((OWN, 54), (PEER, 5000));
    assert_eq!(node.receive(too_big(OTHER, OWN, &reply)), Reason::IcmpErrorSource);
    assert_eq!(node.receive(too_big(PEER, OWN, &reply)), Reason::IcmpError);
    // Where nobody routes.
    let mut alone = tables.clone();
    alone.routes.clear();
    let node = Node::new(&alone);
    assert_eq!(node.send(&sent), Reason::Rule);
    assert_eq!(node.receive(too_big(ROUTER, OWN, &sent)), Reason::IcmpErrorSource);
    assert_eq!(node.receive(too_big(PEER, OWN, &sent)), Reason::IcmpError);
    // Routers of an underlay are in no inventory.
    let node = Node::new(&alone).ethernet();
    let frame = |packet: Vec<u8>| [&[2; 12][..], &[0x08, 0x00], &packet].concat();
    assert_eq!(node.send(frame(sent.clone())), Reason::Rule);
    assert_eq!(node.receive(frame(too_big(NOBODY, OWN, &sent))), Reason::IcmpError);
}

#[test]
fn ports_are_not_guessed_and_the_rate_is_of_the_address_that_errors_are_about() {
    let tables = tables(&[outward(UDP, 53)]);
    let mut node = Node::new(&tables);
    let sent = udp(LOCAL, (PEER, 53));
    assert_eq!(node.send(&sent), Reason::Rule);
    let guess = |node: &Node, port| node.receive(too_big(PEER, OWN, &udp((OWN, port), (PEER, 53))));
    let missed = (32_768..61_000).filter(|port| guess(&node, *port) == Reason::IcmpErrorUnrelated).count();
    assert_eq!(missed, 16);
    // What is true is dropped with them, as long as they come.
    assert_eq!(node.receive(too_big(PEER, OWN, &sent)), Reason::IcmpErrorRate);
    assert_eq!(node.receive(too_big(ROUTER, OWN, &sent)), Reason::IcmpErrorRate);
    assert_eq!(node.send(udp(LOCAL, (PEER, 53))), Reason::Rule);
    // About another address nothing has changed; nor for who sends one a second, as Linux does.
    node.send(udp((OWN6, 40_000), (PEER6, 53)));
    assert_eq!(node.receive(too_big(PEER6, OWN6, &udp((OWN6, 40_000), (PEER6, 53)))), Reason::IcmpError);
    for second in 0..100 {
        node.wait(1);
        assert_eq!(node.receive(too_big(PEER, OWN, &sent)), Reason::IcmpError, "{second}");
        assert_eq!(guess(&node, 50_000), Reason::IcmpErrorUnrelated, "{second}");
        node.send(&sent);
    }
    // Four a second are let look: two hours for every port.
    let mut looked = 0;
    for _ in 0..10 {
        node.wait(1);
        looked += (32_768..33_768).filter(|port| guess(&node, *port) == Reason::IcmpErrorUnrelated).count();
    }
    assert!((40..=60).contains(&looked), "{looked}");
}

#[test]
fn an_error_does_not_pass_for_what_is_revoked_or_over() {
    let (old, new) = (tables(&[outward(UDP, 53)]), tables(&[outward(UDP, 54)]));
    let mut node = Node::new(&old);
    let sent = udp(LOCAL, (PEER, 53));
    assert_eq!(node.send(&sent), Reason::Rule);
    node.wait(31);
    assert_eq!(node.receive(too_big(ROUTER, OWN, &sent)), Reason::IcmpErrorUnrelated);
    assert_eq!(node.send(&sent), Reason::Rule);
    node.swap(&new, 11);
    assert_eq!(node.receive(too_big(ROUTER, OWN, &sent)), Reason::FlowRevoked);
}

#[test]
fn quotes_that_lie_are_malformed() {
    let tables = tables(&[outward(TCP, 443)]);
    let node = Node::new(&tables);
    let sent = tcp(LOCAL, REMOTE, SYN);
    assert_eq!(node.send(&sent), Reason::Rule);
    let spoilt = |at: usize, byte: u8| {
        let mut quote = sent.clone();
        quote[at] = byte;
        node.receive(too_big(ROUTER, OWN, &quote))
    };
    assert_eq!(spoilt(0, 0x65), Reason::IcmpErrorMalformed, "the other version");
    assert_eq!(spoilt(0, 0x44), Reason::IcmpErrorMalformed, "a header of 16 bytes");
    assert_eq!(spoilt(0, 0x4f), Reason::IcmpErrorMalformed, "a header longer than the quote");
    assert_eq!(spoilt(7, 1), Reason::IcmpErrorMalformed, "a later fragment");
    // A router may quote no more than 8 bytes of the transport header, and no less.
    assert_eq!(node.receive(too_big(ROUTER, OWN, &sent[..28])), Reason::IcmpError);
    for length in 0..28 {
        assert_eq!(
            node.receive(too_big(ROUTER, OWN, &sent[..length])),
            Reason::IcmpErrorMalformed,
            "{length}"
        );
    }
    // The quote ends where the IP header says, whatever lies behind.
    let mut padded = too_big(ROUTER, OWN, &sent);
    padded[3] = 20 + 8 + 27;
    assert_eq!(node.receive(&padded), Reason::IcmpErrorMalformed);
}

#[test]
fn an_error_about_an_echo_quotes_an_echo() {
    let tables = tables(&[outward(ICMP, 0), outward(ICMPV6, 0)]);
    let node = Node::new(&tables);
    for (own, peer, kind) in [(OWN, PEER, 8), (OWN6, PEER6, 128)] {
        assert_eq!(node.send(echo(own, peer, 7)), Reason::Rule);
        assert_eq!(node.receive(too_big(peer, own, &echo(own, peer, 7))), Reason::IcmpError);
        assert_eq!(node.receive(too_big(peer, own, &echo(own, peer, 8))), Reason::IcmpErrorUnrelated);
        // An error about an error, with the identifier where its own word is.
        let error = icmp(own, peer, kind - 5, [0, 7, 0, 0], &[]);
        assert_eq!(node.receive(too_big(peer, own, &error)), Reason::IcmpErrorUnrelated);
    }
}

#[test]
fn an_ipv6_error_may_quote_a_first_fragment_cut_anywhere() {
    let tables = tables(&[outward(UDP, 53)]);
    let node = Node::new(&tables);
    let mut datagram = udp_header(40_000, 53, 2000);
    datagram.resize(1024, 0);
    let first = ip(OWN6, PEER6, 44, &fragment6(UDP, 9, 0, true, &datagram));
    assert_eq!(node.send(&first), Reason::Rule);
    for length in 56..120 {
        assert_eq!(node.receive(too_big(ROUTER6, OWN6, &first[..length])), Reason::IcmpError, "{length}");
    }
    for length in 0..56 {
        let reason = node.receive(too_big(ROUTER6, OWN6, &first[..length]));
        assert_eq!(reason, Reason::IcmpErrorMalformed, "{length}");
    }
    let later = ip(OWN6, PEER6, 44, &fragment6(UDP, 9, 1024, false, &datagram[..976]));
    assert_eq!(node.receive(too_big(ROUTER6, OWN6, &later)), Reason::IcmpErrorMalformed);
    // With a routing header Linux would take the error for one about the address in it.
    assert_eq!(node.send(udp((OWN6, 40_001), (PEER6, 53))), Reason::Rule);
    let routed = |segments: u8| {
        let header = [&[UDP, 0, 4, segments, 0, 0, 0, 0][..], &udp_header(40_001, 53, 8)].concat();
        node.receive(too_big(ROUTER6, OWN6, &ip(OWN6, PEER6, 43, &header)))
    };
    assert_eq!([routed(0), routed(1)], [Reason::IcmpErrorMalformed; 2]);
    // Mapped addresses in a quote are those of no IPv4 flow.
    assert_eq!(node.send(udp((OWN, 40_000), (PEER, 53))), Reason::Rule);
    let mapped = ip("::ffff:100.64.0.1", "::ffff:100.64.0.2", UDP, &udp_header(40_000, 53, 8));
    assert_eq!(node.receive(too_big(ROUTER6, OWN6, &mapped)), Reason::IcmpErrorUnrelated);
}

#[test]
fn neighbour_discovery_is_for_ethernet_and_whole() {
    let tables = tables(&[]);
    let solicit = icmp("fe80::2", "ff02::1:ff00:1", 135, [0; 4], &[0; 16]);
    assert!(!passes(Node::new(&tables).receive(&solicit)));
    let node = Node::new(&tables).ethernet();
    let frame = |packet: &[u8]| [&[2; 12][..], &[0x86, 0xdd], packet].concat();
    assert_eq!(node.receive(frame(&solicit)), Reason::NeighbourDiscovery);
    let mut routed = solicit.clone();
    routed[7] = 254;
    assert!(!passes(node.receive(frame(&routed))), "it came through a router");
    let fragment = fragment6(ICMPV6, 1, 0, true, &solicit[40..]);
    assert!(!passes(node.receive(frame(&ip("fe80::2", OWN6, 44, &fragment)))));
    for kind in [133, 134, 137, 130] {
        let message = icmp("fe80::2", OWN6, kind, [0; 4], &[0; 16]);
        assert!(!passes(node.receive(frame(&message))), "{kind}");
    }
}
