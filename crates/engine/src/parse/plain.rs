//! The plain packet, which nearly every packet is: TCP or UDP right behind an IPv4 header without
//! options, whole, with no tag before it.

use super::{Headers, Role, ethernet, ipv4, protocol, transport};
use crate::Packet;
use crate::packet::{Header, clear, opaque};

/// A plain packet. What its verdict may not need is read when it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a> {
    /// The IP header, and as much of the next as UDP has.
    head: Header<'a, UDP_END>,
    /// Length at the IP layer and above, bytes.
    pub(crate) length: u32,
    /// TCP or UDP.
    pub(crate) protocol: u8,
    /// TCP flags; 0 for UDP. The compiler must not know that they are good: it would keep what it knows of
    /// each in a variable of its own.
    flags: u8,
}

/// Where a UDP header ends behind the beginning of the IP header, and where one of TCP does that has no
/// options.
const UDP_END: usize = ipv4::HEADER + 8;
const TCP_END: usize = ipv4::HEADER + 20;
/// Version 4, and a header of five words.
const NO_OPTIONS: u8 = 0x45;
/// Don't fragment, or the bit that is reserved: the packet is whole.
const WHOLE: u16 = 0xc000;

/// Reads a plain packet as [`super::parse`] does, or nothing: then only that one can tell more.
#[inline(always)]
pub(crate) fn parse<'a>(packet: &Packet<'a>, is_ethernet: bool) -> Option<Plain<'a>> {
    const LINK: usize = ethernet::HEADER;
    if !is_ethernet {
        return parse_behind::<0, UDP_END, TCP_END>(packet);
    }
    let plain = parse_behind::<LINK, { LINK + UDP_END }, { LINK + TCP_END }>(packet)?;
    (packet.start::<LINK>()?.be16(LINK - 2) == ethernet::ETHERTYPE_IPV4).then_some(plain)
}

/// Source and destination of a plain packet, network byte order.
#[inline(always)]
pub(crate) fn ends(packet: &Packet, is_ethernet: bool) -> Option<[u32; 2]> {
    const END: usize = ethernet::HEADER + ipv4::HEADER;
    let header = if is_ethernet {
        packet.start::<END>()?.part::<{ ipv4::HEADER }>(ethernet::HEADER)
    } else {
        packet.start()?
    };
    Some([header.word(12), header.word(16)])
}

/// A plain packet behind `AT` bytes of link header, at offsets that the compiler knows.
#[inline(always)]
fn parse_behind<'a, const AT: usize, const UDP: usize, const TCP: usize>(
    packet: &Packet<'a>,
) -> Option<Plain<'a>> {
    const { assert!(UDP == AT + UDP_END && TCP == AT + TCP_END) };
    let head = packet.start::<UDP>()?.part::<UDP_END>(AT);
    let length = usize::from(head.be16(2));
    if head.byte(0) != NO_OPTIONS || head.be16(6) & !WHOLE != 0 || length > packet.length() - AT {
        return None;
    }
    let payload = length.checked_sub(ipv4::HEADER)?;
    let protocol = head.byte(9);
    let flags = match protocol {
        protocol::TCP => tcp(packet.start::<TCP>()?.part(AT + ipv4::HEADER), payload)?,
        protocol::UDP => udp(head.part(ipv4::HEADER), payload)?,
        _ => return None,
    };
    Some(Plain { head, length: length as u32, protocol, flags: opaque(flags.into()) as u8 })
}

/// The flags of a TCP segment of `length` bytes, if some stack sends them together.
#[inline(always)]
fn tcp(header: Header<20>, length: usize) -> Option<u8> {
    let whole = usize::from(header.byte(12) >> 4) * 4;
    let flags = header.byte(13);
    (20 <= whole && whole <= length && transport::tcp_role(flags).is_some()).then_some(flags)
}

/// No flags, of a UDP datagram that fits in `length` bytes.
#[inline(always)]
fn udp(header: Header<8>, length: usize) -> Option<u8> {
    let whole = usize::from(header.be16(4));
    (8 <= whole && whole <= length).then_some(0)
}

impl Plain<'_> {
    /// Source address, network byte order.
    #[inline(always)]
    pub(crate) fn source(&self) -> u32 {
        self.head.word(12)
    }

    /// Destination address, network byte order.
    #[inline(always)]
    pub(crate) fn destination(&self) -> u32 {
        self.head.word(16)
    }

    /// Destination port, host byte order.
    #[inline(always)]
    pub(crate) fn destination_port(&self) -> u16 {
        self.head.be16(ipv4::HEADER + 2)
    }

    /// Whether it is a [`Role::Open`].
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        transport::tcp_role(self.flags) == Some(Role::Open)
    }

    /// Whether it is a [`Role::Continue`].
    #[inline(always)]
    pub(crate) fn continues(&self) -> bool {
        transport::tcp_role(self.flags) == Some(Role::Continue)
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
    pub(crate) fn write(&self, is_ethernet: bool, headers: &mut Headers) {
        let at = if is_ethernet { ethernet::HEADER } else { 0 };
        clear(headers);
        headers.fault = crate::Reason::LookupFailed;
        headers.version = 4;
        headers.source = ipv4::mapped(self.source());
        headers.destination = ipv4::mapped(self.destination());
        headers.protocol = self.protocol;
        headers.hop_limit = self.head.byte(8);
        headers.length = self.length;
        headers.transport = (at + ipv4::HEADER) as u32;
        headers.transport_length = self.length - ipv4::HEADER as u32;
        headers.source_port = self.head.be16(ipv4::HEADER);
        headers.destination_port = self.destination_port();
        headers.detail = self.flags;
        headers.role = self.role();
    }
}
