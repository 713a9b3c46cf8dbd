//! The reset itself, and how it leaves: by the routes, the guard and the hooks by which all that this host
//! sends leaves.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use bulkhead_abi::{ResetRequest, to_ip};
use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, Socket, Type};

/// `IPPROTO_RAW`: what is sent has its IP header, and nothing is received (raw(7)).
const RAW: i32 = 255;

const HOP_LIMIT: u8 = 64;

/// A reset in answer to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// This host's end.
    pub from: SocketAddr,
    /// Whom it tells.
    pub to: SocketAddr,
    /// Its sequence number: what the segment acknowledges.
    pub sequence: u32,
}

impl Answer {
    /// The answer to a segment.
    pub fn to(request: &ResetRequest) -> Self {
        Self {
            from: SocketAddr::new(to_ip(&request.destination), request.destination_port),
            to: SocketAddr::new(to_ip(&request.source), request.source_port),
            sequence: request.acknowledgement,
        }
    }

    /// The packet: `<SEQ=SEG.ACK><CTL=RST>` (RFC 9293 section 3.10.7.1).
    fn packet(&self) -> anyhow::Result<Vec<u8>> {
        let ip = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOP_LIMIT),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOP_LIMIT),
            _ => anyhow::bail!("{} and {} are of two families", self.from, self.to),
        };
        let segment = ip.tcp(self.from.port(), self.to.port(), self.sequence, 0).rst();
        let mut packet = Vec::with_capacity(segment.size(0));
        segment.write(&mut packet, &[])?;
        Ok(packet)
    }
}

/// Sends answers.
#[derive(Debug)]
pub struct Sender {
    v4: Socket,
    /// None where the kernel has no IPv6.
    v6: Option<Socket>,
}

impl Sender {
    /// Opens the sockets, in the network namespace of the thread.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open() -> io::Result<Self> {
        let open = |domain| -> io::Result<Socket> {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let v6 = match open(Domain::IPV6) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            opened => Some(opened?),
        };
        Ok(Self { v4: open(Domain::IPV4)?, v6 })
    }

    /// Sends one.
    ///
    /// # Errors
    /// If its source is no address of this host any more, or there is no way to its destination now.
    pub fn send(&self, answer: &Answer) -> anyhow::Result<()> {
        let Answer { from, to, .. } = answer;
        anyhow::ensure!(!from.ip().is_multicast(), "{} is a group", from.ip());
        let socket = if from.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        let socket = socket.context("the kernel has no IPv6")?;
        // Routes may depend on the source. A raw socket has no port.
        let address = |ip| SocketAddr::new(ip, 0).into();
        socket.bind(&address(from.ip())).with_context(|| format!("sending from {}", from.ip()))?;
        socket.send_to(&answer.packet()?, &address(to.ip())).context("sending")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::Answer;

    #[test]
    fn an_answer_is_a_bare_reset_with_right_checksums() {
        for (from, to) in
            [("100.64.0.1:50000", "100.64.0.2:443"), ("[fd7a:115c:a1e0::1]:50000", "[fd7a:115c:a1e0::2]:443")]
        {
            let answer =
                Answer { from: from.parse().unwrap(), to: to.parse().unwrap(), sequence: 0xdead_beef };
            let packet = answer.packet().unwrap();
            let sliced = SlicedPacket::from_ip(&packet).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("{sliced:?}") };
            assert_eq!((tcp.source_port(), tcp.destination_port()), (50_000, 443));
            assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (0xdead_beef, 0));
            // The flags' byte: RST alone.
            assert_eq!(tcp.slice()[13], 4);
            assert!(tcp.payload().is_empty());
            let header = tcp.to_header();
            let checksum = match sliced.net.unwrap() {
                NetSlice::Ipv4(ip) => {
                    let ip = ip.header();
                    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
                    header.calc_checksum_ipv4_raw(ip.source(), ip.destination(), &[])
                }
                NetSlice::Ipv6(ip) => {
                    let ip = ip.header();
                    header.calc_checksum_ipv6_raw(ip.source(), ip.destination(), &[])
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(tcp.checksum(), checksum.unwrap());
        }
    }

    #[test]
    fn two_families_make_no_packet() {
        let answer =
            Answer { from: "[::1]:1".parse().unwrap(), to: "127.0.0.1:1".parse().unwrap(), sequence: 0 };
        assert!(answer.packet().is_err());
    }
}
