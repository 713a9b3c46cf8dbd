//! Connections whose addresses this host translates: their sockets are elsewhere, in a container or on a host
//! behind, and the kernel's connection tracking alone knows them.
//!
//! Numbers are those of linux/netfilter/nfnetlink_conntrack.h.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::guard::netlink::{Netfilter, Request, attribute, nested};

/// How many connections the kernel tracks in this thread's network namespace. It has no such file unless it
/// can track; to ask by netlink would load what does.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET`.
const GET: (u8, u8) = (1, 1);
/// `CTA_TUPLE_ORIG`: source and destination of what the initiator sends.
const ORIGINAL: u16 = 1;
/// `CTA_TUPLE_REPLY`: of what is sent back.
const REPLY: u16 = 2;
/// `CTA_TUPLE_IP`, in a tuple.
const ADDRESSES: u16 = 1;
/// `CTA_TUPLE_PROTO`, in a tuple.
const PROTOCOL: u16 = 2;
/// `CTA_IP_V4_SRC` and `CTA_IP_V6_SRC`; the destination is the next.
const SOURCE: [u16; 2] = [1, 3];
/// `CTA_PROTO_NUM`, `CTA_PROTO_SRC_PORT`, `CTA_PROTO_DST_PORT`.
const NUMBER: u16 = 1;
const PORTS: [u16; 2] = [2, 3];
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const FAMILY: [u8; 2] = [2, 10];
/// TCP.
const TCP: u8 = 6;

/// Source and destination.
type Tuple = [SocketAddr; 2];

/// Asks for them.
#[derive(Debug, Default)]
pub struct Translated {
    /// Open from the first question on.
    netfilter: Option<Netfilter>,
}

impl Translated {
    /// Whether a TCP segment with this source and destination is of such a connection, either way. Only
    /// connections in the default zone are known.
    ///
    /// # Errors
    /// If the kernel tracks connections and cannot be asked.
    pub fn has(&mut self, source: SocketAddr, destination: SocketAddr) -> io::Result<bool> {
        match std::fs::read_to_string(COUNT) {
            Ok(count) if count.trim() != "0" => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(false),
        }
        let netfilter = match self.netfilter.take() {
            Some(open) => open,
            None => Netfilter::open()?,
        };
        let tuple = written([source, destination]);
        let request = Request {
            message: GET,
            family: FAMILY[usize::from(source.is_ipv6())],
            resource: 0,
            attributes: &[(ORIGINAL, &tuple)],
        };
        let mut found = Err(io::Error::other("the kernel's answer cannot be read"));
        let asked = netfilter.ask(&request, |answer| {
            let [original, reply] = [ORIGINAL, REPLY].map(|number| attribute(answer, number).and_then(read));
            if let (Some(original), Some([from, to])) = (original, reply) {
                found = Ok(original != [to, from]);
            }
        });
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => found = Ok(false),
            // The next one is asked by a socket of its own: an answer may still be under way.
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        self.netfilter = Some(netfilter);
        found
    }
}

/// A TCP tuple's attributes.
fn written([source, destination]: Tuple) -> Vec<u8> {
    let first = SOURCE[usize::from(source.is_ipv6())];
    let octets = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let addresses = nested(&[(first, &octets(source)), (first + 1, &octets(destination))]);
    let [from, to] = [source, destination].map(|end| end.port().to_be_bytes());
    let protocol = nested(&[(NUMBER, &[TCP]), (PORTS[0], &from), (PORTS[1], &to)]);
    nested(&[(ADDRESSES, &addresses), (PROTOCOL, &protocol)])
}

/// What a tuple's attributes say.
fn read(tuple: &[u8]) -> Option<Tuple> {
    let (addresses, protocol) = (attribute(tuple, ADDRESSES)?, attribute(tuple, PROTOCOL)?);
    let address = |step: u16| {
        let [v4, v6] = SOURCE.map(|first| attribute(addresses, first + step));
        let v4 = v4.map(|octets| Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)));
        v4.or_else(|| v6.map(|octets| Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?))))?
    };
    let port = |number| Some(u16::from_be_bytes(attribute(protocol, number)?.try_into().ok()?));
    Some([SocketAddr::new(address(0)?, port(PORTS[0])?), SocketAddr::new(address(1)?, port(PORTS[1])?)])
}

#[cfg(test)]
mod tests {
    use super::{read, written};

    #[test]
    fn a_tuple_is_read_as_it_was_written() {
        for ends in [["100.64.0.1:1025", "100.64.0.2:443"], ["[fd7a::1]:1025", "[fd7a::2]:443"]] {
            let tuple = ends.map(|end| end.parse().unwrap());
            let bytes = written(tuple);
            assert_eq!(read(&bytes), Some(tuple));
            for cut in 0..bytes.len() {
                // What is cut short is not taken for whole, nor read past its end.
                assert_eq!(read(&bytes[..cut]), None, "{cut}");
            }
        }
    }
}
