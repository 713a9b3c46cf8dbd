use super::*;

const A: &str = "192.0.2.1:51820";
const B: &str = "192.0.2.2:51820";

fn config(secret: u8, peer: u8, psk: u8, allowed: &str) -> config::Config {
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.0.0.{secret}\n[Peer]\nPublicKey = {}\nPresharedKey = {}\n\
         AllowedIPs = {allowed}\nPersistentKeepalive = 25\n",
        encode(&[secret; 32]),
        encode(PublicKey::from(&StaticSecret::from([peer; 32])).as_bytes()),
        encode(&[psk; 32])
    );
    config::parse("wg0.conf", &text).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Host 1, which knows where host 2 is.
fn caller(psk: u8) -> Crypt {
    Crypt::new(&config(1, 2, psk, "10.0.0.2/32"), &[Some(B.parse().unwrap())])
}

/// Host 2, which learns where its peer is.
fn called(peer: u8, psk: u8, allowed: &str) -> Crypt {
    Crypt::new(&config(2, peer, psk, allowed), &[None])
}

/// A UDP packet between two hosts of 10.0.0.0/24, with nothing in it.
fn packet(source: u8, destination: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, source, 10, 0, 0, destination];
    packet.extend([0; 8]);
    packet
}

fn send(outcome: Outcome<'_>) -> (Vec<u8>, SocketAddr) {
    match outcome {
        Outcome::Send(packet, to) => (packet.to_vec(), to),
        other => panic!("nothing to send: {other:?}"),
    }
}

/// Completes the handshake that `packet` starts, and returns the packet sealed at last.
fn open(a: &Crypt, b: &Crypt, packet: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 2048];
    let (initiation, to) = send(a.outbound(packet, &mut out));
    assert_eq!(to, B.parse().unwrap());
    let (outcome, peer) = b.inbound(&initiation, A.parse().unwrap(), &mut out);
    let (response, to) = send(outcome);
    assert_eq!(to, A.parse().unwrap(), "the response goes where the call came from");
    assert!(!peer.unwrap().state().up, "an initiation alone may be a replay");
    let (outcome, peer) = a.inbound(&response, B.parse().unwrap(), &mut out);
    let (keepalive, _) = send(outcome);
    let peer = peer.unwrap();
    assert!(peer.state().up);
    let (sealed, _) = Crypt::flush(peer, B.parse().unwrap(), &mut out).unwrap();
    let sealed = sealed.to_vec();
    assert!(Crypt::flush(peer, B.parse().unwrap(), &mut out).is_none());
    assert!(matches!(b.inbound(&keepalive, A.parse().unwrap(), &mut out).0, Outcome::Nothing));
    assert!(b.peers().all(|peer| peer.state().up));
    sealed
}

#[test]
fn a_packet_waits_for_the_handshake_and_arrives_whole() {
    let (a, b) = (caller(7), called(1, 7, "10.0.0.1/32"));
    let inner = packet(1, 2);
    let sealed = open(&a, &b, &inner);
    let mut out = vec![0; 2048];
    match b.inbound(&sealed, A.parse().unwrap(), &mut out).0 {
        Outcome::Deliver(got) => assert_eq!(got, inner),
        other => panic!("{other:?}"),
    }
    // And back, to the endpoint that was learnt.
    let back = packet(2, 1);
    let (sealed, to) = send(b.outbound(&back, &mut out));
    assert_eq!(to, A.parse().unwrap());
    match a.inbound(&sealed, B.parse().unwrap(), &mut out).0 {
        Outcome::Deliver(got) => assert_eq!(got, back),
        other => panic!("{other:?}"),
    }
    // A replay is dropped.
    assert!(matches!(a.inbound(&sealed, B.parse().unwrap(), &mut out).0, Outcome::Nothing));
}

#[test]
fn a_peer_that_moves_is_followed_only_when_authentic() {
    let (a, b) = (caller(7), called(1, 7, "10.0.0.1/32"));
    let mut sealed = open(&a, &b, &packet(1, 2));
    let (moved, mut out) = ("198.51.100.9:4000".parse().unwrap(), vec![0; 2048]);
    let endpoint = |crypt: &Crypt| crypt.peers().next().unwrap().state().endpoint;
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    assert!(matches!(b.inbound(&sealed, moved, &mut out).0, Outcome::Nothing));
    assert_eq!(endpoint(&b), Some(A.parse().unwrap()), "a forged datagram moves nobody");
    sealed[last] ^= 1;
    assert!(matches!(b.inbound(&sealed, moved, &mut out).0, Outcome::Deliver(_)));
    assert_eq!(endpoint(&b), Some(moved));
}

#[test]
fn a_source_that_is_not_the_peers_is_dropped() {
    let (a, b) = (caller(7), called(1, 7, "10.0.0.1/32"));
    let sealed = open(&a, &b, &packet(9, 2));
    let mut out = vec![0; 2048];
    assert!(matches!(b.inbound(&sealed, A.parse().unwrap(), &mut out).0, Outcome::Nothing));
}

#[test]
fn strangers_and_wrong_keys_get_no_answer() {
    let mut out = vec![0; 2048];
    let from = A.parse().unwrap();
    let (initiation, _) = send(caller(7).outbound(&packet(1, 2), &mut out));
    // Known to nobody, or meant for another key, or damaged.
    let stranger = called(5, 7, "10.0.0.1/32");
    assert!(matches!(stranger.inbound(&initiation, from, &mut out).0, Outcome::Nothing));
    let other = Crypt::new(&config(3, 1, 7, "10.0.0.1/32"), &[None]);
    assert!(matches!(other.inbound(&initiation, from, &mut out).0, Outcome::Nothing));
    for length in [0, 1, 4, 147] {
        let (outcome, peer) = stranger.inbound(&initiation[..length], from, &mut out);
        assert!(matches!(outcome, Outcome::Nothing) && peer.is_none());
    }
    // With another pre-shared key the response is refused.
    let (a, b) = (caller(7), called(1, 8, "10.0.0.1/32"));
    let (initiation, _) = send(a.outbound(&packet(1, 2), &mut out));
    let (response, _) = send(b.inbound(&initiation, from, &mut out).0);
    assert!(matches!(a.inbound(&response, B.parse().unwrap(), &mut out).0, Outcome::Nothing));
    assert!(!a.peers().next().unwrap().state().up);
}

#[test]
fn nothing_is_sent_to_a_peer_without_endpoint_or_an_address_without_peer() {
    let mut out = vec![0; 2048];
    assert!(matches!(called(1, 7, "10.0.0.1/32").outbound(&packet(2, 1), &mut out), Outcome::Nothing));
    assert!(matches!(caller(7).outbound(&packet(1, 9), &mut out), Outcome::Nothing));
    assert!(matches!(caller(7).outbound(&[], &mut out), Outcome::Nothing));
    assert!(matches!(caller(7).outbound(&[0x45; 10], &mut out), Outcome::Nothing));
}

#[test]
fn a_peer_to_keep_alive_is_called_at_once() {
    let mut out = vec![0; 2048];
    let a = caller(7);
    assert_eq!(send(Crypt::greet(a.peers().next().unwrap(), &mut out)).0.len(), 148);
    let b = called(1, 7, "10.0.0.1/32");
    assert!(matches!(Crypt::greet(b.peers().next().unwrap(), &mut out), Outcome::Nothing));
}
