//! The plain packet, which nearly every packet is: TCP or UDP right behind an IPv4 header without
//! options, whole, with no tag before it.

use super::{Headers, Role, ethernet, ipv4, protocol, transport};
use crate::Packet;
use crate::packet::{Header, clear, opaque};

/// A plain packet. What its verdict may not need is read when it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a> {
    ip: Header<'a, { ipv4::HEADER }>,
    transport: Header<'a, 8>,
    /// Where the transport header begins in the packet.
    at: usize,
    /// Length at the IP layer and above, bytes.
    pub(crate) length: u32,
    /// TCP or UDP.
    pub(crate) protocol: u8,
    /// TCP flags. The compiler must not know that they are good: it would keep what it knows of
    /// each in a variable of its own.
    flags: u8,
}

/// Version 4, and a header of five words.
const NO_OPTIONS: u8 = 0x45;
/// Don't fragment, or the bit that is reserved: the packet is whole.
const WHOLE: u16 = 0xc000;

/// Reads a plain packet as [`super::parse`] does, or nothing: then only that one can tell more.
#[inline(always)]
pub(crate) fn parse<'a>(packet: &Packet<'a>, is_ethernet: bool) -> Option<Plain<'a>> {
    let mut at = 0;
    if is_ethernet {
        at = ethernet::HEADER;
        if packet.header::<{ ethernet::HEADER }>(0)?.be16(at - 2) != ethernet::ETHERTYPE_IPV4 {
            return None;
        }
    }
    let ip = packet.header::<{ ipv4::HEADER }>(at)?;
    let length = usize::from(ip.be16(2));
    if ip.byte(0) != NO_OPTIONS || ip.be16(6) & !WHOLE != 0 || length > packet.length() - at {
        return None;
    }
    at += ipv4::HEADER;
    let payload = length.checked_sub(ipv4::HEADER)?;
    let protocol = ip.byte(9);
    let flags = match protocol {
        protocol::TCP => tcp(packet, at, payload)?,
        protocol::UDP => udp(packet, at, payload)?,
        _ => return None,
    };
    let transport = packet.header::<8>(at)?;
    Some(Plain { ip, transport, at, length: length as u32, protocol, flags: opaque(flags.into()) as u8 })
}

/// The flags of a TCP segment of `length` bytes, if some stack sends them together.
#[inline(always)]
fn tcp(packet: &Packet, at: usize, length: usize) -> Option<u8> {
    let fixed = packet.header::<20>(at)?;
    let header = usize::from(fixed.byte(12) >> 4) * 4;
    let flags = fixed.byte(13);
    (20 <= header && header <= length && transport::tcp_role(flags).is_some()).then_some(flags)
}

/// No flags, of a UDP datagram that fits in `length` bytes.
#[inline(always)]
fn udp(packet: &Packet, at: usize, length: usize) -> Option<u8> {
    let whole = usize::from(packet.header::<8>(at)?.be16(4));
    (8 <= whole && whole <= length).then_some(0)
}

impl Plain<'_> {
    /// Source address, network byte order.
    #[inline(always)]
    pub(crate) fn source(&self) -> u32 {
        self.ip.word(12)
    }

    /// Destination address, network byte order.
    #[inline(always)]
    pub(crate) fn destination(&self) -> u32 {
        self.ip.word(16)
    }

    /// Destination port, host byte order.
    #[inline(always)]
    pub(crate) fn destination_port(&self) -> u16 {
        self.transport.be16(2)
    }

    /// What the packet is.
    #[inline(always)]
    pub(crate) fn role(&self) -> Role {
        match self.protocol {
            protocol::TCP => transport::tcp_role(self.flags).unwrap_or_default(),
            _ => Role::Datagram,
        }
    }

    /// Writes what [`super::parse`] would have written.
    #[inline(always)]
    pub(crate) fn write(&self, headers: &mut Headers) {
        clear(headers);
        headers.fault = crate::Reason::LookupFailed;
        headers.version = 4;
        headers.source = ipv4::mapped(self.source());
        headers.destination = ipv4::mapped(self.destination());
        headers.protocol = self.protocol;
        headers.hop_limit = self.ip.byte(8);
        headers.length = self.length;
        headers.transport = self.at as u32;
        headers.transport_length = self.length - ipv4::HEADER as u32;
        headers.source_port = self.transport.be16(0);
        headers.destination_port = self.destination_port();
        headers.detail = self.flags;
        headers.role = self.role();
    }
}
