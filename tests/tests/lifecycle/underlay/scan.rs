//! A scan of every port from outside hears nothing.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::Namespace;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{udp, underlay_site};

/// What one scan heard: TCP segments, ICMP messages and datagrams of the host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    tcp: usize,
    icmp: usize,
    udp: usize,
}

fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) as u16 + (sum >> 16) as u16)
}

/// A SYN to a port.
fn syn(from: Ipv4Addr, to: Ipv4Addr, port: u16) -> [u8; 20] {
    let mut segment = [0; 20];
    segment[..2].copy_from_slice(&40_000u16.to_be_bytes());
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment[4..8].copy_from_slice(&u32::from(port).to_be_bytes());
    (segment[12], segment[13]) = (5 << 4, 2);
    segment[14..16].copy_from_slice(&1024u16.to_be_bytes());
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6, 0, 20]].concat();
    let sum = checksum(&[&pseudo, &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// Takes what is there; how much of it is the host's.
fn take(socket: &Socket, of: Ipv4Addr) -> usize {
    let mut heard = 0;
    let mut bytes = [MaybeUninit::<u8>::uninit(); 2048];
    loop {
        match socket.recv_from(&mut bytes) {
            Ok((_, from)) => heard += usize::from(from.as_socket_ipv4().is_some_and(|from| *from.ip() == of)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
            // An answer by ICMP is an error of the next call, and counted where it comes.
            Err(_) => {}
        }
    }
}

/// Knocks at these ports of a host by TCP and UDP, and listens on for a while.
fn scan(
    at: &Namespace,
    from: Ipv4Addr,
    to: Ipv4Addr,
    ports: impl Iterator<Item = u16> + Send,
    quiet: Duration,
) -> Heard {
    at.run(|| {
        let raw = |protocol| {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.set_recv_buffer_size(8 << 20).unwrap();
            socket
        };
        let (tcp, icmp) = (raw(Protocol::TCP), raw(Protocol::ICMPV4));
        let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let mut heard = Heard::default();
        let mut take_all = || {
            heard.tcp += take(&tcp, to);
            heard.icmp += take(&icmp, to);
            heard.udp += take(&datagrams, to);
        };
        let send = |socket: &Socket, bytes: &[u8], port: u16| {
            let at = SockAddr::from(SocketAddrV4::new(to, port));
            while let Err(error) = socket.send_to(bytes, &at) {
                // Errors of earlier datagrams are told by later calls; a full queue empties.
                assert!(
                    matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable
                    ),
                    "{error}"
                );
            }
        };
        for port in ports {
            send(&tcp, &syn(from, to, port), 0);
            send(&datagrams, b"?", port);
            if port % 256 == 0 {
                take_all();
            }
        }
        let deadline = Instant::now() + quiet;
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            take_all();
        }
        heard
    })
    .unwrap()
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => panic!("the lab's switch has IPv4 addresses"),
    }
}

#[test]
fn a_scan_of_every_port_hears_nothing() {
    // The outsider is a neighbour, whom no list names, though the tunnel's peers are on the same network.
    let peers = "wireguard = { port = 51820, peers = [\"192.0.2.2\", \"192.0.2.3\"] }\n";
    let mut site = underlay_site("scan", peers);
    let server = v4(site.underlay("server"));
    let listen =
        |port: u16| site.namespace("server").run(|| TcpListener::bind(("0.0.0.0", port))).unwrap().unwrap();
    let _services = [22, 80, 443, 8080].map(listen);
    let _datagrams = [53, 123, 8081].map(|port| udp(&site, "server", port));
    let outsider = |site: &crate::site::Site, ports: std::ops::RangeInclusive<u16>, quiet| {
        scan(site.namespace("other"), v4(site.underlay("other")), server, ports, quiet)
    };
    let before = outsider(&site, 1..=500, Duration::from_millis(300));
    assert!(before.tcp >= 500 && before.icmp > 0, "without enforcement every port answers: {before:?}");
    site.start();
    let started = Instant::now();
    let heard = outsider(&site, 1..=u16::MAX, Duration::from_secs(2));
    println!("65535 ports by TCP and by UDP within {:?}: {heard:?}", started.elapsed());
    assert_eq!(heard, Heard::default());
    // It is there all the same, for those who are let in.
    let at = SocketAddr::from((server, 22));
    let reach = |from: &str| {
        site.namespace(from)
            .run(|| TcpStream::connect_timeout(&at, Duration::from_millis(700)))
            .unwrap()
            .is_ok()
    };
    assert!(reach("stranger") && !reach("other"));
    let status = site.status();
    assert_eq!(status["state"], "enforced", "{status}");
}
