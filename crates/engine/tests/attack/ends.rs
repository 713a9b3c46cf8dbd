//! The local check, unknown addresses, link layers, and lengths that do not agree.

use bulkhead_abi::{Direction, Leaf, TRIE_ROOT_BLOCKS, pair_index};
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Tables;

use super::packets::*;
use super::world::*;

#[test]
fn only_what_is_between_the_node_and_another_is_judged() {
    let everything = [inward(UDP, 53), outward(UDP, 53)];
    let tables = tables(&everything);
    let node = Node::new(&tables);
    let from_to = |from: &str, to: &str| udp((from, 4000), (to, 53));
    assert_eq!(node.receive(from_to(PEER, OWN)), Reason::Rule);
    assert_eq!(node.send(from_to(OWN, PEER)), Reason::Rule);
    for (from, to) in [(OWN, OWN), (OWN, PEER), (PEER, OTHER), (PEER, NOBODY), (NOBODY, NOBODY)] {
        assert_eq!(node.receive(from_to(from, to)), Reason::NotLocal, "in: {from} {to}");
    }
    for (from, to) in [(OWN, OWN), (PEER, OWN), (PEER, OTHER), (NOBODY, PEER), (NOBODY, NOBODY)] {
        assert_eq!(node.send(from_to(from, to)), Reason::NotLocal, "out: {from} {to}");
    }
    for to in ["255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.0"] {
        assert_eq!(node.receive(from_to(PEER, to)), Reason::NotLocal, "{to}");
    }
    for (from, to) in [("::1", OWN6), ("::", OWN6), ("fe80::1", OWN6), (NOBODY, OWN), ("127.0.0.1", OWN)] {
        assert_eq!(node.receive(from_to(from, to)), Reason::UnknownAddress, "{from}");
    }
    assert_eq!(node.receive(from_to(PEER6, "ff02::1")), Reason::NotLocal);
}

#[test]
fn what_is_behind_a_gateway_is_judged_by_its_own_class() {
    let to_routed = Rule { local: 2, ..inward(UDP, 53) };
    let tables = tables(&[to_routed]);
    let node = Node::new(&tables);
    assert_eq!(node.receive(udp((PEER, 4000), (ROUTED, 53))), Reason::Rule);
    assert_eq!(node.send(udp((ROUTED, 53), (PEER, 4000))), Reason::Reply);
    assert_eq!(
        node.receive(udp((PEER, 4000), (OWN, 53))),
        Reason::NoRule,
        "the gateway itself is another class"
    );
    assert_eq!(node.send(udp((OWN, 53), (PEER, 4000))), Reason::NoRule);
    // Somebody on the wire claims to be behind the gateway: no rule names that pair.
    assert_eq!(node.receive(udp((ROUTED, 4000), (OWN, 53))), Reason::NoRule);
}

/// An exit node: the root says that every address is local and nobody.
fn exit_node(tables: &mut Tables) {
    for entry in tables.trie.iter_mut().flatten().filter(|entry| entry.is_leaf()) {
        *entry = Leaf::new(if entry.local() == 0 { 2 } else { entry.local() }, entry.remote(), entry.own());
    }
}

#[test]
fn an_exit_node_lets_out_what_rules_admit_and_back_in_only_replies() {
    let out = Rule { local: 2, ..inward(TCP, 443) };
    let mut tables = tables(&[out, inward(TCP, 22)]);
    exit_node(&mut tables);
    let node = Node::new(&tables);
    let (peer, web) = ((PEER, 4000), (NOBODY, 443));
    assert_eq!(node.receive(tcp(peer, web, SYN)), Reason::Rule);
    assert_eq!(node.send(tcp(web, peer, SYN_ACK)), Reason::Reply);
    assert_eq!(node.send(tcp(web, (PEER, 4001), SYN_ACK)), Reason::NoFlow);
    assert_eq!(node.send(tcp(web, peer, SYN)), Reason::NoRule);
    assert_eq!(
        node.receive(tcp(web, peer, ACK)),
        Reason::UnknownAddress,
        "the web does not come out of the overlay"
    );
    assert_eq!(node.receive(tcp(peer, (NOBODY, 22), SYN)), Reason::NoRule, "that is the node's own port");
    assert_eq!(node.receive(tcp(peer, (OWN, 443), SYN)), Reason::NoRule);
    assert_eq!(node.receive(tcp((OWN, 1), web, SYN)), Reason::NotLocal, "its own address from outside");
}

#[test]
fn two_ends_behind_the_same_gateway_are_judged_and_not_taken_for_its_own() {
    let within = Rule { local: 2, remote: 3, ..inward(UDP, 53) };
    let tables = tables(&[within]);
    let node = Node::new(&tables);
    let mut second = tables.clone();
    set_leaf(&mut second, "10.20.0.6", Leaf::new(2, 3, false));
    // Two gateways may have one route: the other's packets come from within it.
    assert_eq!(Node::new(&second).receive(udp((ROUTED, 1), ("10.20.0.6", 53))), Reason::Rule);
    assert_eq!(Node::new(&second).receive(udp((ROUTED, 1), ("10.20.0.6", 54))), Reason::NoRule);
    assert_eq!(node.receive(udp((ROUTED, 1), ("10.20.0.6", 53))), Reason::NotLocal);
}

#[test]
fn a_rule_for_unknown_addresses_reaches_no_known_one() {
    let anybody = Rule { remote: 0, ..inward(TCP, 443) };
    let tables = tables(&[anybody]);
    let node = Node::new(&tables);
    assert_eq!(node.receive(tcp((NOBODY, 1), (OWN, 443), SYN)), Reason::Rule);
    assert_eq!(node.receive(tcp((PEER, 1), (OWN, 443), SYN)), Reason::NoRule);
    assert_eq!(node.receive(tcp((NOBODY, 1), (OWN, 444), SYN)), Reason::UnknownAddress);
}

#[test]
fn classes_at_their_limits_do_not_run_into_each_other() {
    let leaf = Leaf::new(Leaf::MAX_LOCAL, Leaf::MAX_REMOTE, false);
    assert_eq!((leaf.local(), leaf.remote(), leaf.own()), (Leaf::MAX_LOCAL, Leaf::MAX_REMOTE, false));
    assert!(
        !leaf.quarantined() && leaf.is_leaf() && leaf.as_block().is_none() && leaf.as_host_table().is_none()
    );
    let entry = Leaf::host_table(Leaf::new(Leaf::MAX_LOCAL, Leaf::MAX_REMOTE, true));
    assert!(!entry.is_leaf() && entry.as_block().is_none());
    assert_eq!(entry.as_host_table(), Some(Leaf::new(Leaf::MAX_LOCAL, Leaf::MAX_REMOTE, true)));
    let leaf = Leaf::new(0, 0, true).with_quarantine(true);
    assert_eq!((leaf.local(), leaf.remote(), leaf.as_block()), (0, 0, None));
    let last = Leaf::block(Leaf::MAX_BLOCK);
    assert_eq!((last.as_block(), last.as_host_table(), last.is_leaf()), (Some(Leaf::MAX_BLOCK), None, false));
    // The last pair of the largest table is in the table.
    let (locals, remotes) = (Leaf::MAX_LOCAL, Leaf::MAX_REMOTE + 1);
    let index = pair_index(Direction::Egress, locals, remotes - 1, locals, remotes);
    assert_eq!(u64::from(index), 2 * u64::from(locals) * u64::from(remotes) - 1);
}

#[test]
fn a_trie_that_names_a_block_it_does_not_have_drops() {
    // The root entry of 203.0.0.0/16 and that of 100.64.0.0/16.
    for (block, slot) in [(203, 0), (100, 64)] {
        let mut tables = tables(&[inward(UDP, 53)]);
        tables.trie[block][slot] = Leaf::block(TRIE_ROOT_BLOCKS + 1000);
        let node = Node::new(&tables);
        assert_eq!(node.receive(udp((NOBODY, 1), (OWN, 53))), Reason::LookupFailed);
    }
    let mut tables = tables(&[inward(UDP, 53)]);
    tables.cells.truncate(1);
    assert_eq!(Node::new(&tables).receive(udp((PEER, 1), (OWN, 53))), Reason::LookupFailed);
    tables.pairs.clear();
    assert_eq!(Node::new(&tables).receive(udp((PEER, 1), (OWN, 53))), Reason::LookupFailed);
}

#[test]
fn frames_of_other_kinds_are_dropped() {
    let tables = tables(&[inward(UDP, 53)]);
    let node = Node::new(&tables).ethernet();
    let packet = udp((PEER, 1), (OWN, 53));
    let frame = |link: &[u8], packet: &[u8]| [&[2; 12][..], link, packet].concat();
    let padded = frame(&[8, 0], &[&packet[..], &[0xee; 18]].concat());
    assert_eq!(node.receive(padded), Reason::Rule, "padding is not the packet's");
    assert_eq!(node.receive(frame(&[0x81, 0, 0, 5, 8, 0], &packet)), Reason::Rule);
    assert_eq!(node.receive(frame(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0], &packet)), Reason::Rule);
    for (link, reason) in [
        // A length (802.3), with LLC and SNAP; odd tags; MPLS; PPPoE; a tag within a tag too many.
        (&[0, 36, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], Reason::LinkProtocol),
        (&[0x91, 0, 0, 5, 8, 0], Reason::LinkProtocol),
        (&[0x81, 0, 0, 5, 0x92, 0, 0, 6, 8, 0], Reason::LinkProtocol),
        (&[0x88, 0x47, 0, 0, 0x11, 64], Reason::LinkProtocol),
        (&[0x88, 0x64, 0x11, 0, 0, 1, 0, 30, 0, 0x21], Reason::LinkProtocol),
        (&[0x81, 0, 0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7, 8, 0], Reason::VlanDepth),
        (&[0x86, 0xdd], Reason::IpVersion),
        (&[0x81, 0, 0, 5, 0x86, 0xdd], Reason::IpVersion),
    ] {
        assert_eq!(node.receive(frame(link, &packet)), reason, "{link:x?}");
    }
    let whole = frame(&[0x81, 0, 0, 5, 0x81, 0, 0, 6, 8, 0], &packet);
    for length in 0..whole.len() {
        assert!(!passes(node.receive(&whole[..length])), "{length}");
    }
}

#[test]
fn lengths_that_do_not_agree_are_refused() {
    let tables = tables(&[inward(UDP, 53), inward(TCP, 443)]);
    let node = Node::new(&tables);
    let spoilt = |at: usize, byte: u8| {
        let mut packet = udp((PEER, 1), (OWN, 53));
        packet[at] = byte;
        node.receive(packet)
    };
    assert_eq!(spoilt(3, 29), Reason::IpLength, "longer than the packet");
    assert_eq!(spoilt(3, 19), Reason::IpLength, "shorter than the header");
    assert_eq!(spoilt(3, 0), Reason::IpLength, "no length, and nothing merged");
    assert_eq!(spoilt(3, 27), Reason::TransportTruncated);
    assert_eq!(spoilt(0, 0x44), Reason::IpHeaderLength);
    assert_eq!(spoilt(0, 0x4f), Reason::IpLength);
    assert_eq!(spoilt(0, 0x55), Reason::IpVersion);
    assert_eq!(spoilt(25, 7), Reason::UdpLength);
    assert_eq!(spoilt(25, 9), Reason::UdpLength);
    let mut segment = tcp((PEER, 1), (OWN, 443), SYN);
    segment[32] = 0x60;
    assert_eq!(node.receive(&segment), Reason::TcpHeaderLength);
    let mut datagram = ip(PEER6, OWN6, UDP, &udp_header(1, 53, 8));
    datagram[5] = 0;
    assert_eq!(
        node.receive(&datagram),
        Reason::TransportTruncated,
        "IPv6 without a length, and nothing merged"
    );
}
