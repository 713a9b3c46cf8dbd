//! Packet → headers. Anything malformed, truncated or unknown is an error with its own reason.

mod ethernet;
mod ipv4;
mod ipv6;
mod transport;

use crate::layout::Address;
use crate::{Packet, Reason};

pub(crate) use ipv4::quoted as quoted4;
pub(crate) use ipv6::quoted as quoted6;
pub(crate) use transport::ports;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// SCTP, RFC 9260.
    pub const SCTP: u8 = 132;
}

/// TCP flags, RFC 9293 section 3.1.
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
}

/// What a packet's transport header makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It opens a flow, and is never a reply: TCP SYN, SCTP INIT, an echo request.
    Open,
    /// It opens a flow or belongs to one: a UDP datagram, a packet of another protocol.
    Datagram,
    /// It accepts a flow: TCP SYN-ACK, SCTP INIT ACK.
    Accept,
    /// It belongs to a flow: TCP segments, SCTP chunks.
    Continue,
    /// An echo reply: passes only as a reply, since what rules admit is the request.
    EchoReply,
    /// It ends a flow: TCP FIN or RST, SCTP ABORT or SHUTDOWN.
    End,
    /// An ICMP error: about a flow that its payload quotes.
    Error,
    /// IPv6 neighbour solicitation or advertisement.
    NeighbourDiscovery,
    /// Any other ICMP message.
    OtherIcmp,
}

/// What the link layer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// An IP packet; its [`Headers`] are filled in.
    Ip(Role),
    /// ARP.
    Arp,
}

/// The parts of a packet that the decision needs. While parsing fails it holds what was read
/// until then, for the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, host byte order; the identifier of an echo.
    pub source_port: u16,
    /// Destination port, host byte order; 0 for protocols without ports.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6; 0 if not known yet.
    pub version: u8,
    /// TCP flags; ICMP type.
    pub detail: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Length at the IP layer and above, bytes.
    pub length: u32,
    /// Offset of the transport header in the packet.
    pub transport: u32,
    /// Length of the transport header and payload, bytes, as the IP header says.
    pub transport_length: u32,
    /// 1: a first fragment, the datagram goes on in others.
    pub first_fragment: u32,
}

/// Parses a packet from its link header (Ethernet) or its IP header: what could be read, and
/// what it is or the reason to drop it for.
#[inline(always)]
pub fn parse(packet: &Packet, is_ethernet: bool) -> (Headers, Result<Carried, Reason>) {
    let (offset, expected) = if is_ethernet {
        match ethernet::parse(packet) {
            Ok(ethernet::Payload::Ip { offset, version }) => (offset, version),
            Ok(ethernet::Payload::Arp) => return (Headers::of_length(packet), Ok(Carried::Arp)),
            Err(reason) => return (Headers::of_length(packet), Err(reason)),
        }
    } else {
        (0, 0)
    };
    let Some(start) = packet.header::<2>(offset) else {
        return (Headers::of_length(packet), Err(Reason::IpTruncated));
    };
    let version = start.byte(0) >> 4;
    match version {
        _ if expected != 0 && version != expected => (Headers::of_length(packet), Err(Reason::IpVersion)),
        4 => ipv4::parse(packet, offset),
        6 => ipv6::parse(packet, offset),
        _ => (Headers::of_length(packet), Err(Reason::IpVersion)),
    }
}

impl Headers {
    /// Nothing is known but the length.
    #[inline(always)]
    fn of_length(packet: &Packet) -> Self {
        Self { length: packet.length() as u32, ..Self::default() }
    }
}
