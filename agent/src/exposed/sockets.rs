//! Sockets that take packets of anybody: TCP and UDP by inet_diag (sock_diag(7)), raw ones by proc(5).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_host::netlink::attribute;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use procfs::net::UdpNetEntries;
use procfs::{FromReadSI as _, LocalSystemInfo};

use super::netlink::list;

/// `SOCK_DIAG_BY_FAMILY`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// States of net/tcp_states.h: what listens, and what is connected to nobody, as a UDP socket is.
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
/// Bytes of an `inet_diag_req_v2` and of an `inet_diag_msg` (linux/inet_diag.h).
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
/// Whether an IPv6 socket takes no IPv4 packets.
const INET_DIAG_SKV6ONLY: u16 = 11;
/// The cgroup that a socket is of (kernel commit 6e3a401fc8af).
const INET_DIAG_CGROUP_ID: u16 = 21;

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// IP, of one protocol.
    Raw,
}

impl Transport {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Raw => "raw",
        }
    }
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    /// What it speaks.
    pub transport: Transport,
    /// Its port; of a raw socket, the number of the IP protocol.
    pub port: u16,
    /// Its address; unspecified: every one.
    pub address: IpAddr,
    /// The interface that it is bound to, by index.
    pub device: Option<u32>,
    /// It takes IPv4 packets, too, though its address is every IPv6 one.
    pub is_dual: bool,
    /// Its inode.
    pub inode: u64,
    /// The id of the cgroup that it is of; none: the kernel does not say.
    pub cgroup: Option<u64>,
}

/// The sockets of the calling thread's network namespace, in order, and what could not be asked.
pub(crate) fn all() -> (Vec<Socket>, Vec<String>) {
    let (mut sockets, mut unknown) = (Vec::new(), Vec::new());
    for (transport, protocol, state) in
        [(Transport::Tcp, libc::IPPROTO_TCP, LISTEN), (Transport::Udp, libc::IPPROTO_UDP, CLOSE)]
    {
        for family in [libc::AF_INET, libc::AF_INET6] {
            match list(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, &request(family, protocol, state)) {
                Ok(messages) => sockets.extend(messages.iter().filter_map(|bytes| read(transport, bytes))),
                Err(error) => unknown.push(untold(transport, family == libc::AF_INET6, &error)),
            }
        }
    }
    for (path, is_v6) in [("/proc/thread-self/net/raw", false), ("/proc/thread-self/net/raw6", true)] {
        match raw(path) {
            Ok(found) => sockets.extend(found),
            // A kernel without IPv6.
            Err(error) if is_v6 && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unknown.push(untold(Transport::Raw, is_v6, &error)),
        }
    }
    sockets.sort();
    (sockets, unknown)
}

fn untold(transport: Transport, is_v6: bool, error: &io::Error) -> String {
    let family = if is_v6 { "IPv6" } else { "IPv4" };
    format!("{} sockets of {family} are not known: {error}; `ss -nlp` may list them", transport.name())
}

fn request(family: i32, protocol: i32, state: u8) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    (request[0], request[1]) = (family as u8, protocol as u8);
    request[4..8].copy_from_slice(&(1_u32 << state).to_ne_bytes());
    request
}

/// Reads an `inet_diag_msg`; none if it is bound to no port, as a UDP socket may be that never receives.
fn read(transport: Transport, message: &[u8]) -> Option<Socket> {
    let word = |at: usize| Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?));
    let port = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let is_v6 = i32::from(*message.first()?) == libc::AF_INET6;
    let address: IpAddr = if is_v6 {
        Ipv6Addr::from(<[u8; 16]>::try_from(message.get(8..24)?).ok()?).to_canonical()
    } else {
        Ipv4Addr::from(<[u8; 4]>::try_from(message.get(8..12)?).ok()?).into()
    };
    let only_v6 = attribute(message.get(MESSAGE..)?, INET_DIAG_SKV6ONLY).and_then(|value| value.first());
    Some(Socket {
        transport,
        port,
        address,
        device: word(40).filter(|index| *index != 0),
        // A kernel that does not say so may take them.
        is_dual: is_v6 && address.is_unspecified() && only_v6.is_none_or(|only| *only == 0),
        inode: word(68)?.into(),
        cgroup: attribute(message.get(MESSAGE..)?, INET_DIAG_CGROUP_ID)
            .and_then(|value| value.try_into().ok())
            .map(u64::from_ne_bytes),
    })
    .filter(|socket| socket.port != 0)
}

/// Raw sockets: their lines are those of UDP, with the protocol as the port. Those of IPPROTO_RAW send alone (raw(7)),
/// as the agent's own do.
fn raw(path: &str) -> io::Result<Vec<Socket>> {
    let entries = UdpNetEntries::from_read(std::fs::File::open(path)?, &LocalSystemInfo);
    let socket = |entry: procfs::net::UdpNetEntry| Socket {
        transport: Transport::Raw,
        port: entry.local_address.port(),
        address: entry.local_address.ip(),
        device: None,
        is_dual: false,
        inode: entry.inode,
        cgroup: None,
    };
    let all = entries.map_err(io::Error::other)?.0.into_iter().map(socket);
    Ok(all.filter(|socket| i32::from(socket.port) != libc::IPPROTO_RAW).collect())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use socket2::{Domain, Type};

    use super::{Socket, Transport, all, read};

    #[test]
    fn what_listens_is_listed_with_what_it_takes() {
        let bound = |domain, kind, address: &str, only_v6: bool| {
            let socket = socket2::Socket::new(domain, kind, None).unwrap();
            if domain == Domain::IPV6 {
                socket.set_only_v6(only_v6).unwrap();
            }
            let at: std::net::SocketAddr = address.parse().unwrap();
            socket.bind(&at.into()).unwrap();
            socket
        };
        let dual = bound(Domain::IPV6, Type::STREAM, "[::]:0", false);
        dual.listen(1).unwrap();
        let only: UdpSocket = bound(Domain::IPV6, Type::DGRAM, "[::]:0", true).into();
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        // Neither waits for anybody.
        let silent = bound(Domain::IPV4, Type::STREAM, "127.0.0.1:0", false);
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect("127.0.0.1:9").unwrap();

        let (found, unknown) = all();
        assert_eq!(unknown, [""; 0]);
        let of = |transport, address: std::net::SocketAddr| {
            found.iter().find(|socket| {
                (socket.transport, socket.address, socket.port) == (transport, address.ip(), address.port())
            })
        };
        let address = |socket: &socket2::Socket| socket.local_addr().unwrap().as_socket().unwrap();
        assert!(of(Transport::Tcp, address(&dual)).unwrap().is_dual);
        assert!(!of(Transport::Udp, only.local_addr().unwrap()).unwrap().is_dual);
        let listener = of(Transport::Tcp, v4.local_addr().unwrap()).unwrap();
        assert!(!listener.is_dual && listener.inode != 0 && listener.device.is_none());
        assert!(listener.cgroup.is_some_and(|id| id != 0));
        assert_eq!(of(Transport::Tcp, address(&silent)), None);
        assert_eq!(of(Transport::Udp, connected.local_addr().unwrap()), None);
    }

    #[test]
    fn what_is_cut_short_is_no_socket() {
        let mut message = vec![0; 72];
        message[0] = libc::AF_INET as u8;
        message[5] = 22;
        let at = "0.0.0.0".parse().unwrap();
        let socket = Socket {
            transport: Transport::Tcp,
            port: 22,
            address: at,
            device: None,
            is_dual: false,
            inode: 0,
            cgroup: None,
        };
        assert_eq!(read(Transport::Tcp, &message), Some(socket));
        assert_eq!(read(Transport::Tcp, &message[..71]), None);
    }
}
