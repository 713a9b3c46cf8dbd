//! Connections that have to begin as TLS: no byte of another protocol arrives, however it is cut into segments, and
//! every beginning of TLS does.

use std::collections::BTreeMap;

use bulkhead_abi::{CELL_ALLOW, CELL_TLS, CELL_TLS_POSTGRES, CELL_TLS_REQUIRED};
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Tables;

use super::packets::*;
use super::untracked::give_socket;
use super::world::*;

const SERVER: (&str, u16) = (OWN, 443);
const CLIENT: (&str, u16) = (PEER, 40_000);
const ASKING: (&str, u16) = (OWN, 50_000);
const ASKED: (&str, u16) = (PEER, 443);

const REQUIRED: u8 = CELL_TLS | CELL_TLS_REQUIRED;
const POSTGRES: u8 = REQUIRED | CELL_TLS_POSTGRES;
const PSH: u8 = 0x08;

/// What is compared of a beginning: of most cases, and with PostgreSQL's SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
const CLIENT_HELLO: [u8; 16] = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7, 7, 7];
const SERVER_HELLO: [u8; 16] = [22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3, 9, 9, 9, 9, 9];
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// How clients of protocols in plaintext begin, and servers that speak first.
const PLAINTEXT: [&[u8]; 20] = [
    b"GET / HTTP/1.1\r\nHost: x",
    b"POST /v1/orders HTTP/1.1",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
    b"SSH-2.0-OpenSSH_9.2p1 Debian",
    b"EHLO mail.example.com\r\n",
    b"220 mail.example.com ESMTP",
    b"* OK IMAP4rev1 ready\r\n",
    b"+OK POP3 server ready\r\n",
    b"USER anonymous\r\nPASS x\r\n",
    b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\n",
    b"8=FIX.4.4\x019=112\x0135=A\x0149=A",
    b"\x00\x00\x00\x25\x00\x03\x00\x00user\x00bob\x00data",
    b"\x4a\x00\x00\x00\x0a8.0.36\x00\x09\x00\x00\x00\x01\x02",
    b"AMQP\x00\x00\x09\x01\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x10\x1a\x00\x04MQTT\x04\x02\x00\x3c\x00\x0eid",
    b"CONNECT {\"verbose\":false,\"pedantic\":false}",
    b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00\x00\x00",
    b"<?xml version='1.0'?><stream:stream",
    b"\x04\x00\x00\x00\x07\x00\x00\x00\x0a\x00\x00\x00SELECT 1",
    // As near as can be: a record of another kind, and a handshake that no client begins with.
    b"\x16\x03\x01\x02\x00\x0e\x00\x01\xfc\x03\x03\x07\x07\x07\x07\x07",
];

fn compared(flags: u8, protocol: u8) -> Tables {
    let mut tables = tables(&[inward(protocol, 443), outward(protocol, 443)]);
    let cells = tables.cells.iter_mut().filter(|cell| cell.action == CELL_ALLOW);
    cells.for_each(|cell| cell.flags |= flags);
    tables
}

fn segment(
    from: (&str, u16),
    to: (&str, u16),
    flags: u8,
    (sequence, acknowledgement): (u32, u32),
    data: &[u8],
) -> Vec<u8> {
    let mut header = tcp_header(from.1, to.1, flags);
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    header[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
    header.extend(data);
    ip(from.0, to.0, TCP, &header)
}

/// A connection, as its two ends see it. Each end receives what passes, and acknowledges all that it has in order.
struct Connection<'n, 't> {
    node: &'n Node<'t>,
    /// The client comes to this host, or is on it.
    is_inward: bool,
    ends: [(&'static str, u16); 2],
    /// The sequence numbers of both SYNs, the client's first.
    syn: [u32; 2],
    /// What each has received, by place; what came first stays.
    received: [BTreeMap<u32, u8>; 2],
}

const FROM_CLIENT: usize = 0;
const FROM_SERVER: usize = 1;

impl<'n, 't> Connection<'n, 't> {
    fn new(node: &'n Node<'t>, is_inward: bool, syn: [u32; 2]) -> Self {
        let ends = if is_inward { [CLIENT, SERVER] } else { [ASKING, ASKED] };
        Self { node, is_inward, ends, syn, received: Default::default() }
    }

    fn open(node: &'n Node<'t>, is_inward: bool, syn: [u32; 2]) -> Self {
        let mut connection = Self::new(node, is_inward, syn);
        assert!(passes(connection.raw(FROM_CLIENT, SYN, (syn[0], 0), &[])));
        assert!(passes(connection.raw(FROM_SERVER, SYN_ACK, (syn[1], syn[0].wrapping_add(1)), &[])));
        assert!(passes(connection.say(FROM_CLIENT, 0, &[])));
        connection
    }

    fn raw(&mut self, side: usize, flags: u8, numbers: (u32, u32), data: &[u8]) -> Reason {
        let packet = segment(self.ends[side], self.ends[1 - side], flags, numbers, data);
        if self.is_inward == (side == FROM_CLIENT) {
            self.node.receive(packet)
        } else {
            self.node.send(packet)
        }
    }

    /// How many bytes of the other's an end has in order.
    fn has(&self, side: usize) -> u32 {
        (0..).take_while(|place| self.received[1 - side].contains_key(place)).count() as u32
    }

    /// Sends bytes of a direction from place `at` on; -1 is where a SYN was.
    fn say(&mut self, side: usize, at: i64, data: &[u8]) -> Reason {
        let sequence = self.syn[side].wrapping_add(1).wrapping_add(at as u32);
        let acknowledgement = self.syn[1 - side].wrapping_add(1).wrapping_add(self.has(side));
        let reason = self.raw(side, ACK | PSH, (sequence, acknowledgement), data);
        if passes(reason) {
            for (place, byte) in (at..).zip(data).filter(|(place, _)| *place >= 0) {
                self.received[side].entry(place as u32).or_insert(*byte);
            }
        }
        reason
    }

    /// What the other end's application has been given.
    fn given(&self, side: usize) -> Vec<u8> {
        (0..self.has(1 - side)).map(|place| self.received[side][&place]).collect()
    }

    fn answer(&mut self) {
        let side = FROM_SERVER;
        self.say(side, i64::from(self.has(1 - side)), &[]);
    }
}

/// All ways to cut `length` bytes into pieces: a bit for each place behind which there is a cut.
fn cuts(length: usize) -> impl Iterator<Item = u32> {
    0..1 << (length - 1)
}

/// The pieces of one of them: where each begins, and its bytes.
fn pieces(bytes: &[u8], cut: u32) -> Vec<(i64, &[u8])> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for at in 0..bytes.len() {
        if at + 1 == bytes.len() || cut >> at & 1 != 0 {
            pieces.push((from as i64, &bytes[from..=at]));
            from = at + 1;
        }
    }
    pieces
}

#[test]
fn of_plaintext_nothing_arrives_however_it_is_cut() {
    let tables = compared(REQUIRED, TCP);
    for (number, protocol) in PLAINTEXT.iter().enumerate() {
        let beginning = &protocol[..16];
        for cut in cuts(16) {
            let node = Node::new(&tables);
            let mut connection = Connection::open(&node, number % 2 == 0, [cut, 7]);
            for (at, piece) in pieces(beginning, cut) {
                let reason = connection.say(FROM_CLIENT, at, piece);
                assert!(reason == Reason::NotTls || passes(reason), "{protocol:?} {cut:#x}: {reason:?}");
                connection.answer();
            }
            // Of the one that is nearly TLS, what it has in common with it.
            let given = connection.given(FROM_CLIENT);
            let common = if number + 1 == PLAINTEXT.len() { 5 } else { 0 };
            assert!(given.len() <= common, "{protocol:?} {cut:#x}: {given:?}");
            // It says it again, as a stack does, and something else.
            assert_eq!(connection.say(FROM_CLIENT, 0, beginning), Reason::NotTls);
            assert_eq!(connection.say(FROM_CLIENT, 0, &CLIENT_HELLO), Reason::NotTls, "it stays dropped");
        }
    }
    assert_eq!(PLAINTEXT.iter().filter(|protocol| protocol.len() >= 16).count(), 20);
}

#[test]
fn a_server_that_speaks_plaintext_is_not_heard() {
    let tables = compared(REQUIRED, TCP);
    for protocol in PLAINTEXT {
        for (is_first, cut) in
            [true, false].into_iter().flat_map(|first| cuts(16).step_by(97).map(move |cut| (first, cut)))
        {
            let node = Node::new(&tables);
            let mut connection = Connection::open(&node, false, [1, 2]);
            if !is_first {
                assert!(passes(connection.say(FROM_CLIENT, 0, &CLIENT_HELLO)));
            }
            for (at, piece) in pieces(&protocol[..16], cut) {
                connection.say(FROM_SERVER, at, piece);
            }
            assert!(connection.given(FROM_SERVER).len() <= 5, "{protocol:?}");
            assert_eq!(connection.say(FROM_SERVER, 0, &SERVER_HELLO), Reason::NotTls);
        }
    }
}

#[test]
fn every_beginning_of_tls_passes_however_it_is_cut_and_in_whatever_order() {
    let tables = compared(REQUIRED, TCP);
    for cut in cuts(16) {
        let node = Node::new(&tables);
        // Sequence numbers wrap within what is compared.
        let syn = [u32::MAX - cut % 9, 0xffff_fff0 | (cut % 16)];
        let mut connection = Connection::open(&node, cut % 2 == 0, syn);
        for (side, hello) in [(FROM_CLIENT, &CLIENT_HELLO), (FROM_SERVER, &SERVER_HELLO)] {
            let mut pieces = pieces(hello, cut);
            // Some last ones first, and each twice; until all have arrived, as a stack sends again what is lost.
            let turn = cut as usize % pieces.len();
            pieces.rotate_left(turn);
            for round in 0..=pieces.len() {
                for (at, piece) in &pieces {
                    let reason = connection.say(side, *at, piece);
                    assert!(passes(reason) || reason == Reason::TlsUnseen, "{cut:#x} {side}: {reason:?}");
                    assert!(passes(connection.say(1 - side, i64::from(connection.has(1 - side)), &[])));
                }
                assert!(round < pieces.len() || connection.given(side) == hello, "{cut:#x}");
            }
            assert_eq!(connection.given(side), hello, "{cut:#x} {side}");
        }
        // And all that follows, far beyond what is kept of sequence numbers as well.
        for at in [16, 1 << 19, (1 << 19) + 1, 1 << 21, u32::MAX - 3] {
            assert!(passes(connection.say(FROM_CLIENT, at.into(), b"GET / HTTP/1.1")), "{at:#x}");
            assert!(passes(connection.say(FROM_SERVER, at.into(), b"HTTP/1.1 200 OK")), "{at:#x}");
        }
        assert_eq!(node.0.beginnings.borrow().values().copied().collect::<Vec<_>>(), [[1, 0, 0]], "{cut:#x}");
    }
}

#[test]
fn what_keeps_a_connection_alive_is_not_compared() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let mut connection = Connection::open(&node, true, [5, 6]);
    assert!(passes(connection.say(FROM_CLIENT, -1, b"x")));
    assert!(passes(connection.say(FROM_SERVER, -1, b"\0")));
    let with_garbage = [b"x", &CLIENT_HELLO[..]].concat();
    assert!(passes(connection.say(FROM_CLIENT, -1, &with_garbage)));
    assert_eq!(connection.given(FROM_CLIENT), CLIENT_HELLO);
    // But nothing else hides there.
    let mut other = Connection::open(&node, false, [5, 6]);
    assert_eq!(other.say(FROM_CLIENT, -1, b"xGET / HTTP/1.1"), Reason::NotTls);
}

#[test]
fn what_was_compared_and_got_lost_is_compared_again() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let mut connection = Connection::open(&node, true, [100, 200]);
    // With a wrong checksum: it passes, and the server does not get it.
    let lost = (connection.syn[0] + 1, connection.syn[1] + 1);
    assert!(passes(connection.raw(FROM_CLIENT, ACK, lost, &CLIENT_HELLO)));
    assert_eq!(connection.say(FROM_CLIENT, 0, b"GET / HTTP/1.1\r\n"), Reason::NotTls);
    assert_eq!(connection.given(FROM_CLIENT), b"");
    // In parts: the bytes at each place are compared, whichever were sent before.
    let mut parts = Connection::open(&node, false, [100, 200]);
    assert!(passes(parts.raw(FROM_CLIENT, ACK, (101, 201), &CLIENT_HELLO)));
    assert!(passes(parts.say(FROM_CLIENT, 0, &[22])));
    assert_eq!(parts.say(FROM_CLIENT, 1, b"ET /"), Reason::NotTls);
    assert_eq!(parts.given(FROM_CLIENT), [22]);
}

#[test]
fn another_syn_changes_nothing_until_it_is_answered() {
    let tables = compared(REQUIRED, TCP);
    for byte_by_byte in [true, false] {
        let node = Node::new(&tables);
        let mut connection = Connection::open(&node, true, [1000, 2000]);
        // Each would have the next byte lie where a SYN was, or where nobody looks.
        for (at, byte) in (0..).zip(b"GET / HTTP/1.1\r\n") {
            let lie = if byte_by_byte { 1001 + at } else { 1000_u32.wrapping_sub(1 << 18) };
            connection.raw(FROM_CLIENT, SYN, (lie, 0), &[]);
            let reason = connection.say(FROM_CLIENT, at.into(), &[*byte]);
            assert!(!passes(reason), "{at}: {reason:?}");
        }
        assert_eq!(connection.given(FROM_CLIENT), b"");
    }
}

#[test]
fn a_port_that_is_used_again_begins_again() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    for syn in [[7, 9], [8, 10], [0x4_0007, 3], [9, 11]] {
        let mut connection = Connection::open(&node, true, syn);
        assert_eq!(connection.say(FROM_CLIENT, 0, b"GET / HTTP/1.1"), Reason::NotTls, "{syn:?}");
        let again = syn.map(|number: u32| number.wrapping_add(77));
        let mut connection = Connection::open(&node, true, again);
        assert!(passes(connection.say(FROM_CLIENT, 0, &CLIENT_HELLO)), "{syn:?}");
        assert!(passes(connection.say(FROM_SERVER, 0, &SERVER_HELLO)), "{syn:?}");
        assert!(passes(connection.say(FROM_CLIENT, 16, b"anything")), "{syn:?}");
    }
}

#[test]
fn data_that_come_with_a_syn_are_compared() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let mut plain = Connection::new(&node, true, [50, 60]);
    assert_eq!(plain.raw(FROM_CLIENT, SYN, (50, 0), b"GET / HTTP/1.1"), Reason::NotTls);
    // The stack falls back to a SYN alone; what it says then is what it said.
    assert!(passes(plain.raw(FROM_CLIENT, SYN, (50, 0), &[])));
    assert!(passes(plain.raw(FROM_SERVER, SYN_ACK, (60, 51), &[])));
    assert_eq!(plain.say(FROM_CLIENT, 0, b"GET / HTTP/1.1"), Reason::NotTls);

    let mut fast = Connection::new(&node, false, [50, 60]);
    assert!(passes(fast.raw(FROM_CLIENT, SYN, (50, 0), &CLIENT_HELLO)));
    assert!(!passes(fast.raw(FROM_CLIENT, SYN, (50 + 16, 0), &[])), "the answer would say which it was");
    assert!(passes(fast.raw(FROM_CLIENT, SYN, (50, 0), &[])), "sent again");
    assert!(passes(fast.raw(FROM_SERVER, SYN_ACK, (60, 51 + 16), &[])));
    assert!(passes(fast.say(FROM_CLIENT, 16, b"early data")));
    assert!(passes(fast.say(FROM_SERVER, 0, &SERVER_HELLO)));
    // A server's, with its SYN-ACK.
    let node = Node::new(&tables);
    let mut server = Connection::new(&node, true, [50, 60]);
    assert!(passes(server.raw(FROM_CLIENT, SYN, (50, 0), &[])));
    assert_eq!(server.raw(FROM_SERVER, SYN_ACK, (60, 51), b"SSH-2.0-x"), Reason::TlsUnseen);
    assert!(passes(server.raw(FROM_SERVER, SYN_ACK, (60, 51), &[])));
    assert!(passes(server.say(FROM_CLIENT, 0, &[])));
    assert_eq!(server.say(FROM_SERVER, 0, b"SSH-2.0-x"), Reason::NotTls);
}

#[test]
fn observed_is_the_server_and_nothing_is_dropped() {
    let tables = compared(CELL_TLS, TCP);
    for (answer, counted) in
        [(&SERVER_HELLO[..], [1, 0, 0]), (&ALERT[..], [1, 0, 0]), (&b"HTTP/1.1 200 OK"[..], [0, 1, 0])]
    {
        for cut in cuts(answer.len().min(7)) {
            let node = Node::new(&tables);
            let mut connection = Connection::open(&node, cut % 2 == 0, [1, 2]);
            assert_eq!(connection.say(FROM_CLIENT, 0, b"anything at all"), Reason::Rule);
            for (at, piece) in pieces(&answer[..7], cut) {
                assert_eq!(connection.say(FROM_SERVER, at, piece), Reason::Reply);
                assert_eq!(connection.say(FROM_SERVER, at, piece), Reason::Reply, "and again");
            }
            let counts: Vec<_> = node.0.beginnings.borrow().values().copied().collect();
            assert_eq!(counts, [counted], "{answer:?} {cut:#x}");
        }
    }
}

#[test]
fn alerts_are_a_servers_alone() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let mut connection = Connection::open(&node, true, [1, 2]);
    assert!(passes(connection.say(FROM_CLIENT, 0, &CLIENT_HELLO)));
    assert!(passes(connection.say(FROM_SERVER, 0, &ALERT)));
    let mut other = Connection::open(&node, false, [1, 2]);
    assert_eq!(other.say(FROM_CLIENT, 0, &ALERT), Reason::NotTls);
}

#[test]
fn postgres_may_ask_first_and_only_so() {
    let tables = compared(POSTGRES, TCP);
    let asked = [&SSL_REQUEST[..], &CLIENT_HELLO[..6]].concat();
    let willing = [b"S", &SERVER_HELLO[..6]].concat();
    for cut in cuts(14).step_by(3) {
        let node = Node::new(&tables);
        let mut connection = Connection::open(&node, cut % 2 == 0, [1, 2]);
        for (at, piece) in pieces(&asked, cut) {
            assert!(passes(connection.say(FROM_CLIENT, at, piece)), "{cut:#x}");
            connection.answer();
        }
        for (at, piece) in pieces(&willing, cut) {
            assert!(passes(connection.say(FROM_SERVER, at, piece)), "{cut:#x}");
        }
        assert!(passes(connection.say(FROM_CLIENT, 14, b"what follows")), "{cut:#x}");
        assert_eq!(node.0.beginnings.borrow().values().copied().collect::<Vec<_>>(), [[1, 0, 0]]);
        // Without asking first, as PostgreSQL 17 can.
        let node = Node::new(&tables);
        let mut direct = Connection::open(&node, true, [1, 2]);
        for (at, piece) in pieces(&CLIENT_HELLO, cut) {
            assert!(passes(direct.say(FROM_CLIENT, at, piece)), "{cut:#x}");
        }
        assert!(passes(direct.say(FROM_SERVER, 0, &SERVER_HELLO)), "{cut:#x}");
        for protocol in PLAINTEXT {
            let node = Node::new(&tables);
            let mut connection = Connection::open(&node, false, [1, 2]);
            for (at, piece) in pieces(&protocol[..14], cut) {
                connection.say(FROM_CLIENT, at, piece);
            }
            // Lengths begin with zeros, as those of SSLRequest do.
            assert!(connection.given(FROM_CLIENT).len() <= 5, "{protocol:?}");
        }
    }
    let node = Node::new(&tables);
    let mut unwilling = Connection::open(&node, true, [1, 2]);
    assert!(passes(unwilling.say(FROM_CLIENT, 0, &SSL_REQUEST)));
    assert_eq!(unwilling.say(FROM_SERVER, 0, b"N"), Reason::NotTls);
    let mut startup = Connection::open(&node, false, [1, 2]);
    assert!(passes(startup.say(FROM_CLIENT, 0, &SSL_REQUEST)));
    assert_eq!(startup.say(FROM_CLIENT, 8, PLAINTEXT[11]), Reason::NotTls, "it goes on without");
    // What may come before TLS there may not elsewhere.
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    assert_eq!(Connection::open(&node, true, [1, 2]).say(FROM_CLIENT, 0, &SSL_REQUEST), Reason::NotTls);
}

#[test]
fn connections_that_were_open_go_on_and_are_counted_as_such() {
    let (without, with) = (compared(0, TCP), compared(REQUIRED, TCP));
    let mut node = Node::new(&without);
    let open = Connection::open(&node, true, [1, 2]);
    let received = open.received;
    node.swap(&with, 11);
    node.audit(false);
    let mut open = Connection { received, ..Connection::new(&node, true, [1, 2]) };
    assert!(passes(open.say(FROM_CLIENT, 0, b"GET / HTTP/1.1")));
    assert!(passes(open.say(FROM_SERVER, 0, b"HTTP/1.1 200 OK")));
    assert!(passes(open.say(FROM_CLIENT, 14, b"GET / HTTP/1.1")));
    assert_eq!(node.0.beginnings.borrow().values().copied().collect::<Vec<_>>(), [[0, 0, 1]]);
    // Of one whose flow is gone a socket must know.
    let node = Node::new(&with);
    let mut gone = Connection::new(&node, true, [1, 2]);
    assert!(passes(gone.say(FROM_CLIENT, 0, &[])), "it says nothing");
    assert_eq!(gone.say(FROM_CLIENT, 0, &CLIENT_HELLO), Reason::TlsUnseen);
    give_socket(&node, SERVER, CLIENT, 1);
    assert!(passes(gone.say(FROM_CLIENT, 900, b"in the middle")));
    assert!(passes(gone.say(FROM_SERVER, 900, b"in the middle")));
}

#[test]
fn parts_of_a_segment_in_fragments_are_not_read_and_do_not_pass() {
    let tables = compared(REQUIRED, TCP);
    let node = Node::new(&tables);
    let mut connection = Connection::open(&node, true, [1, 2]);
    let whole = segment(CLIENT, SERVER, ACK, (2, 3), &CLIENT_HELLO);
    let first = ip(CLIENT.0, SERVER.0, TCP, &whole[20..20 + 24]);
    assert_eq!(node.receive(fragment4(first, 5, 0, true)), Reason::TlsUnseen);
    let rest = ip(CLIENT.0, SERVER.0, TCP, b"GET / HT");
    assert_eq!(node.receive(fragment4(rest, 5, 24, false)), Reason::FragmentOrphan);
    assert!(passes(connection.say(FROM_CLIENT, 0, &CLIENT_HELLO)));
}

fn datagram(from: (&str, u16), to: (&str, u16), data: &[u8]) -> Vec<u8> {
    let mut payload = udp_header(from.1, to.1, 8 + data.len() as u16);
    payload.extend(data);
    ip(from.0, to.0, UDP, &payload)
}

fn dtls(kind: u8, message: u8) -> Vec<u8> {
    [&[kind, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50, message][..], &[0; 50]].concat()
}

fn quic(first: u8, version: u32) -> Vec<u8> {
    [&[first][..], &version.to_be_bytes(), &[8; 40]].concat()
}

#[test]
fn datagrams_begin_as_dtls_or_quic() {
    let required = compared(REQUIRED, UDP);
    for (from_client, from_server) in [
        (dtls(22, 1), dtls(22, 2)),
        (dtls(22, 1), dtls(21, 2)),
        (quic(0xc3, 1), quic(0xe1, 1)),
        (quic(0xd0, 0x6b33_43cf), quic(0xc0, 0x6b33_43cf)),
    ] {
        let node = Node::new(&required);
        assert_eq!(node.receive(datagram(CLIENT, SERVER, &from_client)), Reason::Rule);
        assert_eq!(node.receive(datagram(CLIENT, SERVER, &from_client)), Reason::Rule, "once more");
        assert_eq!(node.send(datagram(SERVER, CLIENT, &from_server)), Reason::Reply);
        assert_eq!(node.send(datagram(SERVER, CLIENT, b"\x40 whatever follows it")), Reason::Reply);
        assert_eq!(node.receive(datagram(CLIENT, SERVER, b"\x40 whatever follows")), Reason::Rule);
        assert_eq!(node.0.beginnings.borrow().values().copied().collect::<Vec<_>>(), [[1, 0, 0]]);
    }
    for plaintext in [
        &b"orders.accepted:1|c"[..],
        b"",
        b"\x16\xfe\xfd",
        &dtls(22, 2),
        &dtls(23, 1),
        &quic(0x40, 1),
        &quic(0xc0, 7),
    ] {
        let node = Node::new(&required);
        assert_eq!(node.receive(datagram(CLIENT, SERVER, plaintext)), Reason::NotTls, "{plaintext:?}");
        assert_eq!(node.receive(datagram(CLIENT, SERVER, &dtls(22, 1))), Reason::NotTls, "it stays dropped");
    }
    // A server that ignores what it does not understand is not told the rest.
    let node = Node::new(&required);
    assert_eq!(node.receive(datagram(CLIENT, SERVER, &quic(0xc3, 1))), Reason::Rule);
    assert_eq!(node.receive(datagram(CLIENT, SERVER, b"orders.accepted:1|c")), Reason::NotTls);
    // And a server in plaintext is not heard.
    let node = Node::new(&required);
    assert_eq!(node.receive(datagram(CLIENT, SERVER, &dtls(22, 1))), Reason::Rule);
    assert_eq!(node.send(datagram(SERVER, CLIENT, b"an answer in plaintext")), Reason::NotTls);

    let observed = compared(CELL_TLS, UDP);
    let node = Node::new(&observed);
    assert_eq!(node.receive(datagram(CLIENT, SERVER, b"orders.accepted:1|c")), Reason::Rule);
    assert_eq!(node.send(datagram(SERVER, CLIENT, b"an answer in plaintext")), Reason::Reply);
    assert_eq!(node.0.beginnings.borrow().values().copied().collect::<Vec<_>>(), [[0, 1, 0]]);
}

#[test]
fn a_client_that_is_to_begin_again_does() {
    let tables = compared(REQUIRED, UDP);
    for (first, asked, again, answer) in [
        (dtls(22, 1), dtls(22, 3), dtls(22, 1), dtls(22, 2)),
        (quic(0xc0, 0x1a2a_3a4a), quic(0x80, 0), quic(0xc3, 1), quic(0xc0, 1)),
    ] {
        let node = Node::new(&tables);
        assert_eq!(node.receive(datagram(CLIENT, SERVER, &first)), Reason::Rule);
        assert_eq!(node.send(datagram(SERVER, CLIENT, &asked)), Reason::Reply);
        assert!(node.0.beginnings.borrow().is_empty());
        assert_eq!(node.receive(datagram(CLIENT, SERVER, &again)), Reason::Rule);
        assert_eq!(node.send(datagram(SERVER, CLIENT, &answer)), Reason::Reply);
        assert_eq!(node.receive(datagram(CLIENT, SERVER, b"\x40 whatever follows")), Reason::Rule);
        assert_eq!(node.0.beginnings.borrow().values().copied().collect::<Vec<_>>(), [[1, 0, 0]]);
    }
    // memcached answers with the number of the request, which the client has chosen.
    let node = Node::new(&tables);
    let asked = b"\xc0\x00\x00\x00\x01\x01\x00\x00set x 0 0 1\r\n";
    assert!(passes(node.receive(datagram(CLIENT, SERVER, asked))));
    let answer = b"\xc0\x00\x00\x00\x00\x01\x00\x00SERVER_ERROR multi-packet request not supported\r\n";
    assert!(passes(node.send(datagram(SERVER, CLIENT, answer))));
    let set = b"\x00\x01\x00\x00\x00\x01\x00\x00set x 0 0 1\r\ny\r\n";
    assert_eq!(node.receive(datagram(CLIENT, SERVER, set)), Reason::NotTls);
}

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
