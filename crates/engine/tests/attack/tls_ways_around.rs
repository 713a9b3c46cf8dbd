//! Ways around: bytes that are hidden from the comparison, and beginnings that are moved or forgotten.

use bulkhead_abi::{CELL_ALLOW, CELL_TLS};
use bulkhead_engine::Reason;

use super::packets::*;
use super::tls::*;
use super::untracked::give_socket;
use super::world::*;

#[test]
fn what_begins_before_the_syn_does_not_reach_behind_it() {
    let tables = compared(REQUIRED, TCP);
    for (is_inward, side) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let node = Node::new(&tables);
        let mut connection = Connection::open(&node, is_inward, [100, 200]);
        let hello: &[u8] = if side == FROM_CLIENT { &CLIENT_HELLO } else { &SERVER_HELLO };
        let numbers = (connection.syn[side] + 1, connection.syn[1 - side] + 1);
        // With a wrong checksum.
        assert!(passes(connection.raw(side, ACK, numbers, hello)));
        assert_eq!(connection.say(side, -10, b"0123456789GET / HTTP/1.1"), Reason::TlsUnseen);
        assert_eq!(connection.given(side), b"");
    }
}

/// The first fragment of a segment with four bytes of options and nothing behind, and the other one.
fn in_fragments(from: (&str, u16), to: (&str, u16), flags: u8, numbers: (u32, u32)) -> [Vec<u8>; 2] {
    let mut header = tcp_header(from.1, to.1, flags);
    header[4..8].copy_from_slice(&numbers.0.to_be_bytes());
    header[8..12].copy_from_slice(&numbers.1.to_be_bytes());
    header[12] = 0x60;
    header.extend([1, 1, 1, 0]);
    let first = fragment4(ip(from.0, to.0, TCP, &header), 5, 0, true);
    [first, fragment4(ip(from.0, to.0, TCP, b"GET / HTTP/1.1\r\n\r\n"), 5, 24, false)]
}

#[test]
fn a_first_fragment_without_data_hides_none() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let none = in_fragments(CLIENT, SERVER, ACK, (2, 3));
    assert_eq!(none.map(|fragment| passes(node.receive(fragment))), [false; 2], "there is no flow");
    let node = Node::new(&tables);
    Connection::open(&node, true, [1, 2]);
    let open = in_fragments(CLIENT, SERVER, ACK, (2, 3));
    assert_eq!(open.map(|fragment| passes(node.receive(fragment))), [false; 2]);
    // A port that is used again.
    let again = in_fragments(CLIENT, SERVER, SYN, (900, 0));
    assert_eq!(again.map(|fragment| passes(node.receive(fragment))), [false; 2]);
    let node = Node::new(&tables);
    Connection::open(&node, false, [1, 2]);
    let replies = in_fragments(ASKED, ASKING, ACK, (3, 2));
    assert_eq!(replies.map(|fragment| passes(node.receive(fragment))), [false; 2]);
    // Of a direction in plaintext neither.
    let node = Node::new(&tables);
    let mut plain = Connection::open(&node, true, [1, 2]);
    assert_eq!(plain.say(FROM_CLIENT, 0, PLAINTEXT[0]), Reason::NotTls);
    let rest = in_fragments(CLIENT, SERVER, ACK, (2, 3));
    assert_eq!(rest.map(|fragment| passes(node.receive(fragment))), [false; 2]);
}

#[test]
fn urgent_bytes_fill_no_place() {
    const URG: u8 = 0x20;
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let mut connection = Connection::open(&node, true, [100, 200]);
    for (at, byte) in (0..).zip(&CLIENT_HELLO[..6]) {
        let reason = connection.raw(FROM_CLIENT, ACK | URG, (101 + at, 201), &[*byte]);
        assert_eq!(reason, Reason::TlsUnseen);
    }
}

#[test]
fn syn_acks_move_no_beginning_once_the_client_has_received_one() {
    let tables = compared(REQUIRED, TCP);
    for is_inward in [true, false] {
        let node = Node::new(&tables);
        let mut connection = Connection::open(&node, is_inward, [1000, 2000]);
        connection.raw(FROM_SERVER, SYN_ACK, (1900, 1001), &[]);
        connection.raw(FROM_SERVER, ACK, (1901, 1001), &SERVER_HELLO);
        assert!(!passes(connection.say(FROM_SERVER, 0, b"SSH-2.0-plaintext")));
        let node = Node::new(&tables);
        let mut connection = Connection::open(&node, is_inward, [1000, 2000]);
        for (at, byte) in (0..).zip(b"SSH-2.0") {
            connection.raw(FROM_SERVER, SYN_ACK, (2001 + at as u32, 1001), &[]);
            connection.say(FROM_SERVER, at, &[*byte]);
        }
        assert_eq!(connection.given(FROM_SERVER), b"");
        // A client's moves none either.
        let node = Node::new(&tables);
        let mut connection = Connection::open(&node, is_inward, [1000, 2000]);
        connection.raw(FROM_CLIENT, SYN_ACK, (900, 2001), &[]);
        connection.raw(FROM_CLIENT, ACK, (901, 2001), &CLIENT_HELLO);
        assert!(!passes(connection.say(FROM_CLIENT, 0, b"GET / HTTP/1.1")));
    }
}

#[test]
fn a_server_that_speaks_before_its_syn_ack_is_compared_nevertheless() {
    let tables = compared(REQUIRED, TCP);
    for is_inward in [true, false] {
        let node = Node::new(&tables);
        // The sequence number is zero in the bits that are kept.
        let mut connection = Connection::new(&node, is_inward, [1000, 1 << 19]);
        connection.raw(FROM_CLIENT, SYN, (1000, 0), &[]);
        connection.raw(FROM_SERVER, ACK, (5, 1001), b"x");
        assert!(passes(connection.raw(FROM_SERVER, SYN_ACK, (1 << 19, 1001), &[])));
        assert!(passes(connection.say(FROM_CLIENT, 0, &[])));
        assert_eq!(connection.say(FROM_SERVER, 0, b"SSH-2.0-plaintext"), Reason::NotTls);
    }
}

#[test]
fn data_with_an_earlier_syn_are_none_of_another() {
    let tables = compared(REQUIRED, TCP);
    for is_inward in [true, false] {
        let node = Node::new(&tables);
        let mut connection = Connection::new(&node, is_inward, [1016, 2000]);
        // With a wrong checksum. The reset has the flow be one that ends.
        assert!(passes(connection.raw(FROM_CLIENT, SYN, (1000, 0), &CLIENT_HELLO)));
        connection.raw(FROM_CLIENT, RST, (1017, 0), &[]);
        assert_eq!(connection.raw(FROM_CLIENT, SYN, (1016, 0), &[]), Reason::TlsUnseen);
    }
}

#[test]
fn a_flow_that_is_over_is_compared_on_while_a_socket_has_its_connection() {
    let tables = compared(REQUIRED, TCP);
    for begins in [false, true] {
        let mut node = Node::new(&tables);
        let mut connection = Connection::open(&node, true, [1000, 2000]);
        // With a wrong checksum: the flow ends, and the connection does not.
        assert!(passes(connection.raw(FROM_CLIENT, RST, (1, 0), &[])));
        give_socket(&node, SERVER, CLIENT, 1);
        node.wait(31);
        let mut connection = Connection::new(&node, true, [1000, 2000]);
        let data = if begins { &CLIENT_HELLO[..] } else { b"GET / HTTP/1.1" };
        let expected = if begins { Reason::Rule } else { Reason::NotTls };
        assert_eq!(connection.say(FROM_CLIENT, 0, data), expected);
        assert_eq!(connection.say(FROM_CLIENT, 0, data), expected, "the flow is back");
    }
}

#[test]
fn a_syn_on_a_connection_whose_flow_is_lost_moves_no_beginning() {
    let tables = compared(REQUIRED, TCP);
    // Its answers say what the server has received of the connection that is there.
    for answers in [0, 1, 3] {
        for hello in [&CLIENT_HELLO[..], &CLIENT_HELLO[..1]] {
            let node = Node::new(&tables);
            give_socket(&node, SERVER, CLIENT, 1);
            let mut connection = Connection::new(&node, true, [1000, 2000]);
            connection.raw(FROM_CLIENT, SYN, (900, 0), &[]);
            let answer = |connection: &mut Connection| {
                for _ in 0..answers {
                    connection.raw(FROM_SERVER, ACK, (2001, 1001), &[]);
                }
            };
            answer(&mut connection);
            assert!(!passes(connection.raw(FROM_CLIENT, ACK, (901, 2001), hello)));
            answer(&mut connection);
            assert!(!passes(connection.say(FROM_CLIENT, 0, b"GET / HTTP/1.1")));
        }
    }
}

#[test]
fn no_flow_is_taken_up_at_the_nodes_own_addresses() {
    let tables = compared(REQUIRED, TCP);
    let mut node = Node::new(&tables);
    node.0.settings.forwarded_until = 2000;
    let mut connection = Connection::new(&node, true, [1, 2]);
    assert_eq!(connection.say(FROM_CLIENT, 0, b"GET / HTTP/1.1"), Reason::TlsUnseen);
}

#[test]
fn what_comes_before_tls_and_a_record_are_not_both_taken() {
    let tables = compared(POSTGRES, TCP);
    for is_inward in [true, false] {
        let node = Node::new(&tables);
        let mut connection = Connection::open(&node, is_inward, [100, 200]);
        // With a wrong checksum.
        assert!(passes(connection.raw(FROM_CLIENT, ACK, (101, 201), &CLIENT_HELLO)));
        connection.say(FROM_CLIENT, 0, &SSL_REQUEST);
        connection.answer();
        assert!(!passes(connection.say(FROM_CLIENT, 8, PLAINTEXT[11])));
    }
}

#[test]
fn of_two_handshakes_at_once_the_one_that_was_seen_last_goes_on() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let mut connection = Connection::new(&node, true, [1000, 2000]);
    // With SYN cookies the server takes the answer to either.
    for (client, server) in [(1000, 2000), (900, 3000)] {
        assert!(passes(connection.raw(FROM_CLIENT, SYN, (client, 0), &[])));
        assert!(passes(connection.raw(FROM_SERVER, SYN_ACK, (server, client + 1), &[])));
    }
    assert!(passes(connection.raw(FROM_CLIENT, ACK, (901, 3001), &CLIENT_HELLO)));
    assert_eq!(connection.say(FROM_CLIENT, 0, &[]), Reason::TlsUnseen);
    assert_eq!(connection.say(FROM_CLIENT, 0, b"GET / HTTP/1.1"), Reason::TlsUnseen);
}

#[test]
fn connections_that_say_nothing_end() {
    let tables = compared(REQUIRED, TCP);
    for is_inward in [true, false] {
        let node = Node::new(&tables);
        // The client ends it, as a check of a load balancer does; or the server, as one that is full.
        for (side, numbers) in [(FROM_CLIENT, [11, 21]), (FROM_SERVER, [33, 44])] {
            let mut connection = Connection::open(&node, is_inward, numbers);
            let [one, other] = [numbers[side], numbers[1 - side]];
            assert!(passes(connection.raw(side, FIN_ACK, (one + 1, other + 1), &[])));
            assert!(passes(connection.raw(1 - side, FIN_ACK, (other + 1, one + 2), &[])));
            assert!(passes(connection.raw(side, ACK, (one + 2, other + 2), &[])));
        }
    }
}

#[test]
fn a_fin_hides_no_data() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let mut open = Connection::open(&node, true, [1, 2]);
    assert_eq!(open.raw(FROM_CLIENT, FIN_ACK, (2, 3), b"GET / HTTP/1.1"), Reason::NotTls);
    assert_eq!(open.raw(FROM_SERVER, FIN_ACK, (3, 2), b"SSH-2.0"), Reason::NotTls);
    let node = Node::new(&tables);
    let mut none = Connection::new(&node, true, [1, 2]);
    assert!(!passes(none.raw(FROM_CLIENT, FIN_ACK, (2, 3), b"GET / HTTP/1.1")));
    assert!(!passes(none.raw(FROM_SERVER, FIN_ACK, (3, 2), b"SSH-2.0")));
}

#[test]
fn connections_that_were_observed_go_on_when_tls_is_required() {
    let (observe, required) = (compared(CELL_TLS, TCP), compared(REQUIRED, TCP));
    for (is_inward, said) in [(true, 0), (true, 16), (false, 0), (false, 16)] {
        // They began while it was observed; or required, and what the client said was not compared.
        for first in [&observe, &required] {
            let mut node = Node::new(first);
            let [client, server] = Connection::open(&node, is_inward, [1, 2]).received;
            assert!(client.is_empty() && server.is_empty());
            node.swap(&observe, 11);
            node.audit(false);
            let mut open = Connection::new(&node, is_inward, [1, 2]);
            if said != 0 {
                assert!(passes(open.say(FROM_CLIENT, 0, &CLIENT_HELLO)));
                assert!(passes(open.say(FROM_SERVER, 0, &SERVER_HELLO)));
            }
            node.swap(&required, 12);
            node.audit(false);
            let mut open = Connection::new(&node, is_inward, [1, 2]);
            let sent = if said == 0 { &CLIENT_HELLO[..] } else { b"application data" };
            assert!(passes(open.say(FROM_CLIENT, said, sent)), "{is_inward} {said}");
            let answer = if said == 0 { &SERVER_HELLO[..] } else { b"application data" };
            assert!(passes(open.say(FROM_SERVER, said, answer)), "{is_inward} {said}");
        }
    }
}

#[test]
fn where_answers_pass_by_another_rule_a_long_connection_goes_on() {
    let mut tables = tables(&[inward(TCP, 443), outward(TCP, CLIENT.1)]);
    let asking = tables.cells.iter_mut().filter(|cell| cell.action == CELL_ALLOW && cell.rule == 0);
    asking.for_each(|cell| cell.flags |= REQUIRED);
    let node = Node::new(&tables);
    let mut connection = Connection::open(&node, true, [1, 2]);
    assert!(passes(connection.say(FROM_CLIENT, 0, &CLIENT_HELLO)));
    assert!(passes(connection.say(FROM_SERVER, 0, &SERVER_HELLO)));
    for at in [16, 1000, 1 << 17, 1 << 19, 1 << 20] {
        assert!(passes(connection.say(FROM_CLIENT, at, b"application data")), "{at}");
    }
    let node = Node::new(&tables);
    let mut plain = Connection::open(&node, true, [7, 8]);
    assert_eq!(plain.say(FROM_CLIENT, 0, b"GET / HTTP/1.1"), Reason::NotTls);
}
