//! TCP, UDP, SCTP, ICMP and ICMPv6.

use super::{Headers, Role, protocol, tcp};
use crate::packet::Header;
use crate::{Packet, Reason};

/// Parses the transport header of `headers.protocol` where `headers.transport` says.
#[inline(always)]
pub(super) fn parse(packet: &Packet, headers: &mut Headers) -> Result<Role, Reason> {
    let parsed = match headers.protocol {
        protocol::TCP => parse_tcp(packet, headers),
        protocol::UDP => parse_udp(packet, headers),
        protocol::SCTP => parse_sctp(packet, headers),
        protocol::ICMP if headers.version == 4 => parse_icmp(packet, headers),
        protocol::ICMPV6 if headers.version == 6 => parse_icmpv6(packet, headers),
        protocol::ICMP | protocol::ICMPV6 => Err(Reason::IcmpFamily),
        _ => Ok(Role::Datagram),
    };
    match parsed {
        // A whole header must be in the first fragment (RFC 7112, RFC 1858).
        Err(Reason::TransportTruncated) if headers.first_fragment != 0 => Err(Reason::FragmentTiny),
        other => other,
    }
}

/// The first `N` bytes of the transport header.
#[inline(always)]
fn fixed<'a, const N: usize>(packet: &Packet<'a>, headers: &Headers) -> Result<Header<'a, N>, Reason> {
    if (headers.transport_length as usize) < N {
        return Err(Reason::TransportTruncated);
    }
    packet.header(headers.transport as usize).ok_or(Reason::TransportTruncated)
}

#[inline(always)]
fn set_ports<const N: usize>(fixed: Header<N>, headers: &mut Headers) {
    headers.source_port = fixed.be16(0);
    headers.destination_port = fixed.be16(2);
}

const SYN: u8 = tcp::SYN;
const SYN_ACK: u8 = tcp::SYN | tcp::ACK;
const FIN_ACK: u8 = tcp::FIN | tcp::ACK;
const RST_ACK: u8 = tcp::RST | tcp::ACK;

#[inline(always)]
fn parse_tcp(packet: &Packet, headers: &mut Headers) -> Result<Role, Reason> {
    let fixed = fixed::<20>(packet, headers)?;
    set_ports(fixed, headers);
    let flags = fixed.byte(13);
    headers.detail = flags;
    let length = u32::from(fixed.byte(12) >> 4) * 4;
    if length < 20 {
        return Err(Reason::TcpHeaderLength);
    }
    if length > headers.transport_length {
        return Err(if headers.first_fragment != 0 { Reason::FragmentTiny } else { Reason::TcpHeaderLength });
    }
    tcp_role(flags).ok_or(Reason::TcpFlags)
}

/// What TCP flags make of a segment; none of those that no stack sends together.
#[inline(always)]
pub(super) const fn tcp_role(flags: u8) -> Option<Role> {
    match flags & (tcp::SYN | tcp::ACK | tcp::FIN | tcp::RST) {
        SYN => Some(Role::Open),
        SYN_ACK => Some(Role::Accept),
        tcp::ACK => Some(Role::Continue),
        FIN_ACK | tcp::RST | RST_ACK => Some(Role::End),
        // None at all, SYN with FIN or RST, FIN without ACK, FIN with RST.
        _ => None,
    }
}

#[inline(always)]
fn parse_udp(packet: &Packet, headers: &mut Headers) -> Result<Role, Reason> {
    let fixed = fixed::<8>(packet, headers)?;
    set_ports(fixed, headers);
    let length = u32::from(fixed.be16(4));
    let fits = length <= headers.transport_length || headers.first_fragment != 0;
    if length < 8 || !fits {
        return Err(Reason::UdpLength);
    }
    Ok(Role::Datagram)
}

const SCTP_HEADER: u32 = 12;
const SCTP_INIT: u8 = 1;
const SCTP_INIT_ACK: u8 = 2;
const SCTP_ABORT: u8 = 6;
const SCTP_SHUTDOWN: u8 = 7;
const SCTP_SHUTDOWN_COMPLETE: u8 = 14;

#[inline(always)]
fn parse_sctp(packet: &Packet, headers: &mut Headers) -> Result<Role, Reason> {
    let fixed = fixed::<16>(packet, headers)?;
    set_ports(fixed, headers);
    let (kind, length) = (fixed.byte(12), u32::from(fixed.be16(14)));
    headers.detail = kind;
    let chunks = headers.transport_length - SCTP_HEADER;
    if length < 4 || (length > chunks && headers.first_fragment == 0) {
        return Err(Reason::SctpChunk);
    }
    match kind {
        // INIT, INIT ACK and SHUTDOWN COMPLETE must be alone (RFC 9260 section 6.10), so the
        // first chunk tells the role of the packet.
        SCTP_INIT | SCTP_INIT_ACK | SCTP_SHUTDOWN_COMPLETE if ((length + 3) & !3) < chunks => {
            Err(Reason::SctpChunk)
        }
        SCTP_INIT => Ok(Role::Open),
        SCTP_INIT_ACK => Ok(Role::Accept),
        SCTP_ABORT | SCTP_SHUTDOWN | SCTP_SHUTDOWN_COMPLETE => Ok(Role::End),
        _ => Ok(Role::Continue),
    }
}

/// Fills in what ICMP and ICMPv6 share; returns the message's type.
#[inline(always)]
fn icmp(packet: &Packet, headers: &mut Headers) -> Result<u8, Reason> {
    let fixed = fixed::<8>(packet, headers)?;
    headers.detail = fixed.byte(0);
    // An echo's identifier.
    headers.source_port = fixed.be16(4);
    Ok(headers.detail)
}

#[inline(always)]
fn parse_icmp(packet: &Packet, headers: &mut Headers) -> Result<Role, Reason> {
    Ok(match icmp(packet, headers)? {
        8 => Role::Open,
        0 => Role::EchoReply,
        // Destination unreachable, time exceeded, parameter problem. Source quench (4) is
        // obsolete (RFC 6633) and redirects (5) are not for hosts to follow here.
        3 | 11 | 12 => Role::Error,
        _ => Role::OtherIcmp,
    })
}

#[inline(always)]
fn parse_icmpv6(packet: &Packet, headers: &mut Headers) -> Result<Role, Reason> {
    Ok(match icmp(packet, headers)? {
        128 => Role::Open,
        129 => Role::EchoReply,
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        1..=4 => Role::Error,
        // RFC 4861 section 7.1: a hop limit of 255 proves that no router forwarded it.
        // RFC 6980 section 5: with a fragment header it is to be ignored.
        135 | 136 if headers.hop_limit == 255 && headers.fragment_end == 0 => Role::NeighbourDiscovery,
        _ => Role::OtherIcmp,
    })
}
