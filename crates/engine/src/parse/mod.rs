//! Packet → headers. Anything malformed, truncated or unknown is an error with its own reason.

mod ethernet;
mod ipv4;
mod ipv6;
pub(crate) mod plain;
#[cfg(test)]
mod tests;
mod transport;

use crate::packet::{Zeroable, clear};
use crate::{Packet, Reason};
use bulkhead_abi::Address;

pub(crate) use ipv4::{mapped, quoted as quoted4};
pub(crate) use ipv6::quoted as quoted6;

/// IP protocol numbers (IANA).
pub mod protocol {
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// IGMP, RFC 3376.
    pub const IGMP: u8 = 2;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// VRRP, RFC 9568.
    pub const VRRP: u8 = 112;
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
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
}

/// What a packet's headers make of it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Nothing: it could not be parsed. See [`Headers::fault`].
    #[default]
    Invalid,
    /// ARP.
    Arp,
    /// A frame of another protocol than IP and ARP: its EtherType is the headers' destination port.
    Link,
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
    /// A fragment behind the first: it has no transport header.
    LaterFragment,
    /// IPv6 neighbour solicitation or advertisement.
    NeighbourDiscovery,
    /// Any other ICMP message.
    OtherIcmp,
}

/// The parts of a packet that the decision needs. Where parsing fails it holds what was read
/// until then, for the event.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Length at the IP layer and above, bytes.
    pub length: u32,
    /// Offset of the transport header in the packet.
    pub transport: u32,
    /// Length of the transport header and payload, bytes, as the IP header says.
    pub transport_length: u32,
    /// Source port, host byte order; the identifier of an echo.
    pub source_port: u16,
    /// Destination port, host byte order; 0 for protocols without ports. Of a frame that is not IP: its
    /// EtherType.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6; 0 if not known.
    pub version: u8,
    /// TCP flags; type of the first SCTP chunk; ICMP type.
    pub detail: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// 1: a first fragment, the datagram goes on in others.
    pub first_fragment: u8,
    /// What the packet is.
    pub role: Role,
    /// Why it is invalid, if it is.
    pub fault: Reason,
    /// 1: a fragment that others follow.
    pub more_fragments: u8,
    /// Identification of a fragmented datagram.
    pub fragment_id: u32,
    /// Of a fragment: its offset in the datagram, bytes.
    pub fragment_offset: u32,
    /// Of a packet with a fragment header: where it ends in the datagram, bytes.
    pub fragment_end: u32,
    /// Of a membership report whose records are still to be judged: where the next one begins; else 0.
    pub next_record: u32,
}

// SAFETY: integers, and enums whose first variant is 0. 72 bytes, aligned to 8.
unsafe impl Zeroable for Headers {}

impl Headers {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        source: [0; 4],
        destination: [0; 4],
        length: 0,
        transport: 0,
        transport_length: 0,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        version: 0,
        detail: 0,
        hop_limit: 0,
        first_fragment: 0,
        role: Role::Invalid,
        fault: Reason::LookupFailed,
        more_fragments: 0,
        fragment_id: 0,
        fragment_offset: 0,
        fragment_end: 0,
        next_record: 0,
    };
}

/// Parses a packet from its link header (Ethernet) or its IP header.
///
/// Through memory: in BPF `headers` is a map's value, whose contents the verifier does not
/// follow. It would otherwise verify the decision once for every way through the parser. In
/// line, since a BPF call costs as much as the whole parser where returns are mitigated.
#[inline(always)]
pub fn parse(packet: &Packet, is_ethernet: bool, headers: &mut Headers) {
    clear(headers);
    headers.fault = Reason::LookupFailed;
    headers.length = packet.length() as u32;
    match parse_link(packet, is_ethernet, headers) {
        Ok(role) => headers.role = role,
        Err(reason) => headers.fault = reason,
    }
}

#[inline(always)]
fn parse_link(packet: &Packet, is_ethernet: bool, headers: &mut Headers) -> Result<Role, Reason> {
    let (offset, expected) = if is_ethernet {
        match ethernet::parse(packet)? {
            ethernet::Payload::Ip { offset, version } => (offset, version),
            ethernet::Payload::Arp => return Ok(Role::Arp),
            ethernet::Payload::Link(ethertype) => {
                headers.destination_port = ethertype;
                return Ok(Role::Link);
            }
        }
    } else {
        (0, 0)
    };
    let start = packet.header::<2>(offset).ok_or(Reason::IpTruncated)?;
    let version = start.byte(0) >> 4;
    match version {
        _ if expected != 0 && version != expected => return Err(Reason::IpVersion),
        4 => ipv4::parse(packet, offset, headers)?,
        6 => ipv6::parse(packet, offset, headers)?,
        _ => return Err(Reason::IpVersion),
    }
    if headers.fragment_offset != 0 {
        return Ok(Role::LaterFragment);
    }
    transport::parse(packet, headers)
}

/// Takes a fragment's field: the offset in units of 8 bytes, and whether more follow. What the
/// packet has of the datagram is `transport_length`.
#[inline(always)]
fn set_fragment(headers: &mut Headers, id: u32, offset: u16, more: bool) -> Result<(), Reason> {
    let (offset, payload) = (u32::from(offset) * 8, headers.transport_length);
    // All but the last are a multiple of 8 bytes, and none reaches beyond the longest packet
    // (RFC 791 section 3.2, RFC 8200 section 4.5).
    if more && payload & 7 != 0 || payload == 0 || offset + payload > 0xffff {
        return Err(Reason::FragmentInvalid);
    }
    headers.fragment_id = id;
    headers.fragment_offset = offset;
    headers.fragment_end = offset + payload;
    headers.more_fragments = u8::from(more);
    headers.first_fragment = u8::from(offset == 0);
    Ok(())
}
