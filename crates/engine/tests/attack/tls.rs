//! Connections that have to begin as TLS: no byte of another protocol arrives, however it is cut into segments, and
//! every beginning of TLS does.

use std::collections::BTreeMap;

use bulkhead_abi::{CELL_ALLOW, CELL_TLS, CELL_TLS_POSTGRES, CELL_TLS_REQUIRED};
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Tables;

use super::packets::*;
use super::untracked::give_socket;
use super::world::*;

pub const SERVER: (&str, u16) = (OWN, 443);
pub const CLIENT: (&str, u16) = (PEER, 40_000);
pub const ASKING: (&str, u16) = (OWN, 50_000);
pub const ASKED: (&str, u16) = (PEER, 443);

pub const REQUIRED: u8 = CELL_TLS | CELL_TLS_REQUIRED;
pub const POSTGRES: u8 = REQUIRED | CELL_TLS_POSTGRES;
pub const PSH: u8 = 0x08;

/// What is compared of a beginning: of most cases, and with PostgreSQL's SSLRequest.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
pub const CLIENT_HELLO: [u8; 16] = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 7, 7, 7, 7, 7];
pub const SERVER_HELLO: [u8; 16] = [22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3, 9, 9, 9, 9, 9];
pub const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// How clients of protocols in plaintext begin, and servers that speak first.
pub const PLAINTEXT: [&[u8]; 20] = [
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

pub fn compared(flags: u8, protocol: u8) -> Tables {
    let mut tables = tables(&[inward(protocol, 443), outward(protocol, 443)]);
    let cells = tables.cells.iter_mut().filter(|cell| cell.action == CELL_ALLOW);
    cells.for_each(|cell| cell.flags |= flags);
    tables
}

pub fn segment(
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
pub struct Connection<'n, 't> {
    pub node: &'n Node<'t>,
    /// The client comes to this host, or is on it.
    pub is_inward: bool,
    pub ends: [(&'static str, u16); 2],
    /// The sequence numbers of both SYNs, the client's first.
    pub syn: [u32; 2],
    /// What each has received, by place; what came first stays.
    pub received: [BTreeMap<u32, u8>; 2],
}

pub const FROM_CLIENT: usize = 0;
pub const FROM_SERVER: usize = 1;

impl<'n, 't> Connection<'n, 't> {
    pub fn new(node: &'n Node<'t>, is_inward: bool, syn: [u32; 2]) -> Self {
        let ends = if is_inward { [CLIENT, SERVER] } else { [ASKING, ASKED] };
        Self { node, is_inward, ends, syn, received: Default::default() }
    }

    pub fn open(node: &'n Node<'t>, is_inward: bool, syn: [u32; 2]) -> Self {
        let mut connection = Self::new(node, is_inward, syn);
        assert!(passes(connection.raw(FROM_CLIENT, SYN, (syn[0], 0), &[])));
        assert!(passes(connection.raw(FROM_SERVER, SYN_ACK, (syn[1], syn[0].wrapping_add(1)), &[])));
        assert!(passes(connection.say(FROM_CLIENT, 0, &[])));
        connection
    }

    pub fn raw(&mut self, side: usize, flags: u8, numbers: (u32, u32), data: &[u8]) -> Reason {
        let packet = segment(self.ends[side], self.ends[1 - side], flags, numbers, data);
        if self.is_inward == (side == FROM_CLIENT) {
            self.node.receive(packet)
        } else {
            self.node.send(packet)
        }
    }

    /// How many bytes of the other's an end has in order.
    pub fn has(&self, side: usize) -> u32 {
        (0..).take_while(|place| self.received[1 - side].contains_key(place)).count() as u32
    }

    /// Sends bytes of a direction from place `at` on; -1 is where a SYN was.
    pub fn say(&mut self, side: usize, at: i64, data: &[u8]) -> Reason {
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
    pub fn given(&self, side: usize) -> Vec<u8> {
        (0..self.has(1 - side)).map(|place| self.received[side][&place]).collect()
    }

    pub fn answer(&mut self) {
        let side = FROM_SERVER;
        self.say(side, i64::from(self.has(1 - side)), &[]);
    }
}

/// All ways to cut `length` bytes into pieces: a bit for each place behind which there is a cut.
pub fn cuts(length: usize) -> impl Iterator<Item = u32> {
    0..1 << (length - 1)
}

/// The pieces of one of them: where each begins, and its bytes.
pub fn pieces(bytes: &[u8], cut: u32) -> Vec<(i64, &[u8])> {
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
