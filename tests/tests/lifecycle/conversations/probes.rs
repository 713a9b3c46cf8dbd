//! Segments of no conversation, from who may and who may not, to open and to closed ports: what
//! arrives, and what the host then answers. `docs/guide/conversations.md` says why.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{Namespace, slower};
use bulkhead_testkit::packets::build::{Ip, tcp};
use socket2::{Domain, Protocol, Socket, Type};

use super::BACKUP;
use crate::site::{Over, Site, WEB};

/// Lets the client use port 8082 of the server, where nobody listens.
const CLOSED: &str = r#"{"action": "accept", "src": ["tag:client"], "dst": ["tag:server:8082"]}"#;

const FIN_ACK: u8 = 0x11;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;
const RST_ACK: u8 = 0x14;

/// What becomes of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is dropped.
    Dropped,
    /// It is dropped, and the agent answers it by a reset.
    Told,
    /// The host's TCP gets it, and says nothing.
    Arrives,
    /// It gets it, and its reset comes back.
    Answered,
}
use Fate::{Answered, Arrives, Dropped, Told};

/// From whom, from which port, to which port; then of ACK, FIN, SYN-ACK, and of a reset with and
/// without ACK.
const PROBES: [(&str, u16, u16, [Fate; 4]); 10] = [
    // What the client may use he may also probe, as on a host without a filter; 8080 is open, 8082 not.
    ("client", 40_000, 8080, [Answered, Answered, Answered, Arrives]),
    ("client", 40_000, 8082, [Answered, Answered, Answered, Arrives]),
    // What he may not: 22 is open, 8081 not.
    ("client", 40_000, 22, [Dropped; 4]),
    ("client", 40_000, 8081, [Dropped; 4]),
    // From the port that the server may use of him, which may have to reset what the server began, and be
    // told that the server has forgotten it. Neither reset says anything of a port, open or not.
    ("client", 9000, 22, [Told, Told, Dropped, Arrives]),
    ("client", 9000, 8081, [Told, Told, Dropped, Arrives]),
    ("client", 9000, 50_000, [Told, Told, Dropped, Arrives]),
    // Who may nothing.
    ("stranger", 9000, 8080, [Dropped; 4]),
    ("stranger", 9000, 22, [Dropped; 4]),
    ("stranger", 40_000, 50_000, [Dropped; 4]),
];

/// A socket that hears every TCP segment that its host gets, with its IP header.
fn ear(of: &Namespace) -> Socket {
    let socket = of.run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))).unwrap().unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Whether a segment with these ports is heard, and with all of these flags.
fn hears(mut ear: &Socket, (from, to): (u16, u16), flags: u8, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut bytes = [0; 2048];
    loop {
        match ear.read(&mut bytes) {
            Ok(length) if length >= 40 => {
                let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                if (port(20), port(22)) == (from, to) && bytes[33] & flags == flags {
                    return true;
                }
            }
            _ if Instant::now() >= deadline => return false,
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The sum of RFC 1071, over the pseudo-header too, so that the host's TCP takes the segment.
fn with_checksum(source: IpAddr, destination: IpAddr, mut segment: Vec<u8>) -> Ip {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (source, destination) else { panic!("IPv4") };
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6, 0, segment.len() as u8], &segment].concat();
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !((folded & 0xffff) + (folded >> 16)) as u16;
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    Ip::new(source, destination, 6, segment)
}

fn send(from: &Namespace, packet: &Ip) {
    const RAW: i32 = 255;
    let sent = from.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?;
        socket.send_to(&packet.bytes(), &SocketAddr::new(packet.destination, 0).into())
    });
    assert_eq!(sent.unwrap().unwrap(), packet.bytes().len());
}

#[test]
fn what_passes_of_probes_is_known_packet_by_packet() {
    let mut site = Site::new("convx", Over::Ethernet, &[WEB, BACKUP, CLOSED]);
    site.start();
    let server = site.address("server");
    let open = [8080, 22].map(|port| {
        site.namespace("server").run(|| TcpListener::bind(SocketAddr::new(server, port))).unwrap().unwrap()
    });
    let host = ear(site.namespace("server"));
    for (name, source, port, fates) in PROBES {
        let (sender, address) = (site.namespace(name), site.address(name));
        let back = ear(sender);
        let resets = [(RST, fates[3]), (RST_ACK, fates[3])];
        let probes = [ACK, FIN_ACK, SYN_ACK].into_iter().zip(fates).chain(resets);
        for (flags, fate) in probes {
            send(sender, &with_checksum(address, server, tcp((source, port), flags, &[])));
            let within = |wanted: bool| {
                if wanted { slower(Duration::from_secs(2)) } else { Duration::from_millis(150) }
            };
            let arrived = hears(&host, (source, port), flags, within(matches!(fate, Arrives | Answered)));
            let answered = hears(&back, (port, source), RST, within(matches!(fate, Told | Answered)));
            let found = match (arrived, answered) {
                (false, false) => Dropped,
                (true, false) => Arrives,
                (true, true) => Answered,
                (false, true) => Told,
            };
            assert_eq!(found, fate, "{name}:{source} to {port}, flags {flags:#x}");
        }
    }
    drop(open);
}
