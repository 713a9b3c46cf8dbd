//! Datagrams that have to begin as DTLS or QUIC.

use bulkhead_abi::CELL_TLS;
use bulkhead_engine::Reason;

use super::packets::*;
use super::tls::*;
use super::world::*;

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
