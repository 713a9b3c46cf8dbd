//! The answer itself, and how it leaves: by the routes, the guard and the hooks by which all that this host
//! sends leaves, or over `lo` to a socket of this host.

use std::io;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use bulkhead_abi::{ANSWER_REJECTED, AnswerRequest, Direction, to_ip};
use etherparse::{Icmpv4Type, Icmpv6Type, IpNumber, PacketBuilder, icmpv4, icmpv6, ip_number};
use socket2::{Domain, Protocol, Socket, Type};

/// `IPPROTO_RAW`: what is sent has its IP header, and nothing is received (raw(7)).
const RAW: i32 = 255;

const HOP_LIMIT: u8 = 64;
/// Of what is for a socket of this host: no router passes it on.
const HERE: u8 = 1;

/// What a packet's sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// There is no such connection: `<SEQ=SEG.ACK><CTL=RST>` (RFC 9293 section 3.10.7.1). The sequence number.
    Forgotten(u32),
    /// There will be no connection: `<SEQ=0><ACK=SEG.SEQ+1><CTL=RST,ACK>` (the same section). The
    /// acknowledgement number.
    Refused(u32),
    /// Communication is administratively prohibited (RFC 1812 section 5.2.7.1, RFC 4443 section 3.1).
    Prohibited,
}

/// An answer to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whom the packet was for: who seems to answer, or would have.
    pub from: SocketAddr,
    /// Who sent the packet, and is told.
    pub to: SocketAddr,
    /// Who sent the packet is a socket of this host.
    pub is_here: bool,
    /// What it says.
    pub word: Word,
}

impl Answer {
    /// The answer to a packet; none if it was neither TCP nor UDP.
    pub fn to(request: &AnswerRequest) -> Option<Self> {
        let is_rejected = request.kind == ANSWER_REJECTED;
        let word = match IpNumber(request.protocol) {
            // A SYN counts as one.
            ip_number::TCP if is_rejected => Word::Refused(request.number.wrapping_add(1)),
            ip_number::TCP => Word::Forgotten(request.number),
            ip_number::UDP if is_rejected => Word::Prohibited,
            _ => return None,
        };
        Some(Self {
            from: SocketAddr::new(to_ip(&request.destination), request.destination_port),
            to: SocketAddr::new(to_ip(&request.source), request.source_port),
            is_here: u32::from(request.direction) == Direction::Egress.index(),
            word,
        })
    }

    /// Whose address the packet bears as its source: an ICMP error is this host's own.
    fn source(&self) -> IpAddr {
        if self.word == Word::Prohibited && self.is_here { self.to.ip() } else { self.from.ip() }
    }

    /// The packet.
    fn packet(&self) -> anyhow::Result<Vec<u8>> {
        let limit = if self.is_here { HERE } else { HOP_LIMIT };
        let ip = headers(self.source(), self.to.ip(), limit)?;
        let mut packet = Vec::new();
        match self.word {
            Word::Forgotten(sequence) => {
                ip.tcp(self.from.port(), self.to.port(), sequence, 0).rst().write(&mut packet, &[])?;
            }
            Word::Refused(acknowledgement) => {
                let segment = ip.tcp(self.from.port(), self.to.port(), 0, 0).rst().ack(acknowledgement);
                segment.write(&mut packet, &[])?;
            }
            Word::Prohibited if self.to.is_ipv4() => {
                let kind = icmpv4::DestUnreachableHeader::FilterProhibited;
                ip.icmpv4(Icmpv4Type::DestinationUnreachable(kind)).write(&mut packet, &self.quote()?)?;
            }
            Word::Prohibited => {
                let code = icmpv6::DestUnreachableCode::Prohibited;
                ip.icmpv6(Icmpv6Type::DestinationUnreachable(code)).write(&mut packet, &self.quote()?)?;
            }
        }
        Ok(packet)
    }

    /// How a datagram between these ends began: what an ICMP error has to quote of it, so that its sender finds the
    /// socket (RFC 792, RFC 4443 section 3.1). What was in it is not known here.
    fn quote(&self) -> anyhow::Result<Vec<u8>> {
        let mut quote = Vec::new();
        let datagram =
            headers(self.to.ip(), self.from.ip(), HOP_LIMIT)?.udp(self.to.port(), self.from.port());
        datagram.write(&mut quote, &[])?;
        Ok(quote)
    }
}

/// An IP header.
fn headers(
    from: IpAddr,
    to: IpAddr,
    hop_limit: u8,
) -> anyhow::Result<etherparse::PacketBuilderStep<etherparse::IpHeaders>> {
    Ok(match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), hop_limit),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), hop_limit),
        _ => anyhow::bail!("{from} and {to} are of two families"),
    })
}

/// Sends answers.
#[derive(Debug)]
pub struct Sender {
    /// To others.
    away: Sockets,
    /// To sockets of this host. What bears another's address must not leave: it is bound to `lo`, but IPv6 looks up
    /// own addresses by the interface that has them, so there the hop limit ends it.
    here: Sockets,
}

#[derive(Debug)]
struct Sockets {
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
        let here = Sockets::open()?;
        here.v4.bind_device(Some(b"lo"))?;
        Ok(Self { away: Sockets::open()?, here })
    }

    /// Sends one.
    ///
    /// # Errors
    /// If its source is no address of this host any more, or there is no way to its destination now.
    pub fn send(&self, answer: &Answer) -> anyhow::Result<()> {
        let Answer { from, to, is_here, .. } = answer;
        for end in [from.ip(), to.ip()] {
            anyhow::ensure!(!end.is_multicast(), "{end} is a group");
        }
        let sockets = if *is_here { &self.here } else { &self.away };
        let socket = if from.is_ipv4() { Some(&sockets.v4) } else { sockets.v6.as_ref() };
        let socket = socket.context("the kernel has no IPv6")?;
        // A raw socket has no port.
        let address = |ip| SocketAddr::new(ip, 0).into();
        if !is_here {
            // Routes may depend on the source.
            socket.bind(&address(from.ip())).with_context(|| format!("sending from {}", from.ip()))?;
        }
        socket.send_to(&answer.packet()?, &address(to.ip())).context("sending")?;
        Ok(())
    }
}

impl Sockets {
    fn open() -> io::Result<Self> {
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
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4, icmpv6};

    use super::{Answer, Word};

    const ENDS: [[&str; 2]; 2] =
        [["100.64.0.1:50000", "100.64.0.2:443"], ["[fd7a:115c:a1e0::1]:50000", "[fd7a:115c:a1e0::2]:443"]];

    fn answers(word: Word, is_here: bool) -> impl Iterator<Item = Answer> {
        ENDS.into_iter().map(move |[from, to]| Answer {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            is_here,
            word,
        })
    }

    #[test]
    fn resets_are_bare_with_right_checksums() {
        for (word, numbers, flags) in [
            (Word::Forgotten(0xdead_beef), (0xdead_beef, 0), 0x04),
            (Word::Refused(0xdead_beef), (0, 0xdead_beef), 0x14),
        ] {
            for answer in answers(word, false).chain(answers(word, true)) {
                let packet = answer.packet().unwrap();
                let sliced = SlicedPacket::from_ip(&packet).unwrap();
                let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("{sliced:?}") };
                assert_eq!((tcp.source_port(), tcp.destination_port()), (50_000, 443));
                assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), numbers);
                assert_eq!(tcp.slice()[13], flags);
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
    }

    #[test]
    fn an_icmp_error_is_of_this_host_and_quotes_the_datagram() {
        for is_here in [false, true] {
            for answer in answers(Word::Prohibited, is_here) {
                let packet = answer.packet().unwrap();
                let sliced = SlicedPacket::from_ip(&packet).unwrap();
                let quote = match sliced.transport.unwrap() {
                    TransportSlice::Icmpv4(icmp) => {
                        let kind = icmpv4::DestUnreachableHeader::FilterProhibited;
                        assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(kind));
                        icmp.payload().to_vec()
                    }
                    TransportSlice::Icmpv6(icmp) => {
                        let code = icmpv6::DestUnreachableCode::Prohibited;
                        assert_eq!(icmp.icmp_type(), Icmpv6Type::DestinationUnreachable(code));
                        icmp.payload().to_vec()
                    }
                    other => panic!("{other:?}"),
                };
                let ends = |net: Option<NetSlice<'_>>| -> [IpAddr; 2] {
                    match net.unwrap() {
                        NetSlice::Ipv4(ip) => {
                            let ip = ip.header();
                            [ip.source_addr().into(), ip.destination_addr().into()]
                        }
                        NetSlice::Ipv6(ip) => {
                            let ip = ip.header();
                            [ip.source_addr().into(), ip.destination_addr().into()]
                        }
                        other => panic!("{other:?}"),
                    }
                };
                let source = if is_here { answer.to.ip() } else { answer.from.ip() };
                assert_eq!(ends(sliced.net), [source, answer.to.ip()]);
                let quoted = SlicedPacket::from_ip(&quote).unwrap();
                assert_eq!(ends(quoted.net), [answer.to.ip(), answer.from.ip()]);
                let Some(TransportSlice::Udp(udp)) = quoted.transport else { panic!("no datagram") };
                assert_eq!((udp.source_port(), udp.destination_port()), (443, 50_000));
            }
        }
    }

    #[test]
    fn two_families_make_no_packet() {
        for word in [Word::Forgotten(0), Word::Refused(0), Word::Prohibited] {
            let [from, to] = ["[::1]:1".parse().unwrap(), "127.0.0.1:1".parse().unwrap()];
            assert!(Answer { from, to, is_here: false, word }.packet().is_err());
        }
    }
}
