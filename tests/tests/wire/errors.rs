//! ICMP errors on an overlay, at a socket that they are about: who guesses ports is heard neither by the
//! path's MTU nor by the socket, and who can know is.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use aya::maps::PerCpuArray;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, TcAttachType};
use bulkhead_dataplane::{Generation, Hook, Kind, Specialisation, Specification};
use bulkhead_engine::Reason;
use bulkhead_testkit::lab::{Namespace, open_tun};
use bulkhead_testkit::packets::World;
use bulkhead_testkit::packets::build::{Ip, icmp, udp};

use crate::kernel::{ZONE, ample, specification};

const OWN: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 3);
const ROUTER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 4);
/// Behind the router: a host, and a router of the network there.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 7);
const INNER: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
const SERVICE: u16 = 8080;
/// The ports that Linux gives to sockets.
const PORTS: std::ops::Range<u16> = 32_768..61_000;

/// A node that may ask everybody.
fn world() -> World {
    let policy = r#"{"tagOwners": {"tag:node": [], "tag:peer": []}, "hosts": {"behind": "10.20.0.0/24"}, "acls": [
        {"action": "accept", "src": ["tag:node"], "dst": ["tag:peer:8080", "behind:8080"]}]}"#;
    let node = |last, tag, more| {
        format!(r#"{{"name": "n{last}", "addresses": ["100.64.0.{last}"], "tags": ["tag:{tag}"]{more}}}"#)
    };
    let nodes = [
        node(1, "node", ""),
        node(2, "peer", ""),
        node(3, "peer", ""),
        node(4, "peer", r#", "routes": ["10.20.0.0/24"]"#),
    ];
    World::new(policy.to_owned(), format!(r#"{{"nodes": [{}]}}"#, nodes.join(",")), "n1")
}

struct Overlay<'a> {
    host: &'a Namespace,
    tun: File,
    generation: Generation,
}

impl Overlay<'_> {
    /// Packets at ingress for a reason.
    fn counted(&mut self, reason: Reason) -> u64 {
        let sum = |map: &mut aya::maps::Map| {
            let counters = PerCpuArray::<_, [u64; 2]>::try_from(map).unwrap();
            counters.get(&(reason as u32), 0).unwrap().iter().map(|[packets, _]| packets).sum::<u64>()
        };
        ["REASON_COUNTERS", "UNREPORTED"].map(|map| sum(self.generation.map_mut(map).unwrap())).iter().sum()
    }

    /// An error from somebody arrives, about a datagram from a port to a destination; `narrow`: that it is
    /// too long for an MTU of 552, else that nobody listens there.
    fn error(&mut self, source: Ipv4Addr, port: u16, to: Ipv4Addr, narrow: bool) {
        let sent = Ip::new(OWN.into(), to.into(), 17, udp((port, SERVICE), b"q")).bytes();
        let [high, low] = 552u16.to_be_bytes();
        let (code, rest) = if narrow { (4, [0, 0, high, low]) } else { (3, [0; 4]) };
        let mut error = Ip::new(source.into(), OWN.into(), 1, icmp(3, code, rest, &sent)).bytes();
        summed(&mut error[20..], 2);
        summed(&mut error[..20], 10);
        self.tun.write_all(&[&[0, 0, 0x08, 0x00], &error[..]].concat()).unwrap();
    }

    /// A socket of a conversation, and its port.
    fn asks(&self, to: Ipv4Addr) -> (UdpSocket, u16) {
        let socket = self.host.run(|| UdpSocket::bind((OWN, 0))).unwrap().unwrap();
        socket.connect(SocketAddr::new(to.into(), SERVICE)).unwrap();
        socket.send(b"q").unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    }

    /// What the host has learnt of a path.
    fn is_narrow(&self, to: Ipv4Addr) -> bool {
        self.host.ip(&format!("route get {to}")).unwrap().contains("mtu 552")
    }
}

/// Writes the checksum of a header and what follows it (RFC 1071), for which there are zeros at `at`.
fn summed(bytes: &mut [u8], at: usize) {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[at..at + 2].copy_from_slice(&(!sum as u16).to_be_bytes());
}

/// Whether a socket was told that nobody listens.
fn is_refused(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let told = socket.recv(&mut [0; 8]).unwrap_err().kind();
    assert!(matches!(told, ErrorKind::ConnectionRefused | ErrorKind::WouldBlock), "{told}");
    told == ErrorKind::ConnectionRefused
}

#[test]
fn errors_on_an_overlay_are_believed_of_who_can_know() {
    let world = world();
    let host = &Namespace::create("flooderr").unwrap();
    let done = host.run(|| {
        let tun = open_tun("tun0").unwrap();
        for command in
            ["link set tun0 up", "addr add 100.64.0.1/24 dev tun0", "route add 10.20.0.0/24 dev tun0"]
        {
            host.ip(command).unwrap();
        }
        let specification =
            Specification { fixed_clock: None, ..specification(&world.program.tables, ample()) };
        let wanted = (Specialisation::new(Kind::BareIp, ZONE), vec![Hook::TcxIngress, Hook::TcxEgress]);
        let mut generation = Generation::build(&specification, &[wanted], None).unwrap();
        for (name, place) in [("tc_ingress", TcAttachType::Ingress), ("tc_egress", TcAttachType::Egress)] {
            let program = generation.only_group().unwrap().classifier(name).unwrap();
            program
                .attach_with_options("tun0", place, TcAttachOptions::TcxOrder(LinkOrder::first()))
                .unwrap();
        }
        check(&mut Overlay { host, tun, generation });
    });
    done.unwrap();
}

fn check(overlay: &mut Overlay) {
    // Another peer tries every port, and then knows it.
    let (socket, port) = overlay.asks(PEER);
    let started = Instant::now();
    PORTS.for_each(|guess| overlay.error(OTHER, guess, PEER, true));
    println!("{} guesses in {:?}", PORTS.len(), started.elapsed());
    overlay.error(OTHER, port, PEER, false);
    assert!(!is_refused(&socket) && !overlay.is_narrow(PEER));
    assert_eq!(overlay.counted(Reason::IcmpErrorSource), PORTS.len() as u64 + 1);
    // Nor is the router believed of whom it does not route, or a node of whom the router does.
    overlay.error(ROUTER, port, PEER, true);
    let (behind, port_behind) = overlay.asks(HOST);
    overlay.error(OTHER, port_behind, HOST, true);
    assert!(!overlay.is_narrow(PEER) && !overlay.is_narrow(HOST));
    assert_eq!(overlay.counted(Reason::IcmpErrorSource), PORTS.len() as u64 + 3);
    assert_eq!(overlay.counted(Reason::IcmpError), 0);

    // The destination itself, its router, and a router behind that one.
    overlay.error(PEER, port, PEER, false);
    assert!(is_refused(&socket));
    overlay.error(PEER, port, PEER, true);
    assert!(overlay.is_narrow(PEER));
    overlay.error(INNER, port_behind, HOST, false);
    assert!(is_refused(&behind));
    overlay.error(ROUTER, port_behind, HOST, true);
    assert!(overlay.is_narrow(HOST));
    assert_eq!(overlay.counted(Reason::IcmpError), 4);

    // Who may tell guesses no ports either.
    let again = Ipv4Addr::new(10, 20, 0, 8);
    let (socket, port) = overlay.asks(again);
    let others = PORTS.filter(|guess| *guess != port);
    others.for_each(|guess| overlay.error(ROUTER, guess, again, true));
    overlay.error(ROUTER, port, again, true);
    assert!(!overlay.is_narrow(again) && !is_refused(&socket));
    let (missed, late) =
        (overlay.counted(Reason::IcmpErrorUnrelated), overlay.counted(Reason::IcmpErrorRate));
    assert_eq!(missed + late, PORTS.len() as u64);
    assert!((16..100).contains(&missed), "{missed}");
    assert_eq!(IpAddr::from(again), socket.peer_addr().unwrap().ip());
}
