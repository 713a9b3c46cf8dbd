//! IPv6 (RFC 8200), with a bounded walk over its extension headers.

use bulkhead_abi::{Address, recall};

use super::{Headers, set_fragment};
use crate::{Packet, Reason};

const HEADER: usize = 40;
/// Extension headers walked. RFC 8504 section 5.3 lets hosts limit the chain; 8 is its example.
const MAX_EXTENSIONS: usize = 8;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// Parses the header at `offset` and its extension headers.
#[inline(always)]
pub(super) fn parse(packet: &Packet, offset: usize, headers: &mut Headers) -> Result<(), Reason> {
    let fixed = packet.header::<HEADER>(offset).ok_or(Reason::IpTruncated)?;
    headers.version = 6;
    headers.source = fixed.words(8);
    headers.destination = fixed.words(24);
    headers.protocol = fixed.byte(6);
    headers.hop_limit = fixed.byte(7);
    // Tables and flows hold IPv4 addresses in this form (RFC 4942 section 2.2: drop them).
    if is_mapped(&headers.source) || is_mapped(&headers.destination) {
        return Err(Reason::MappedAddress);
    }
    let total = match usize::from(fixed.be16(4)) {
        0 if packet.is_merged(offset) => packet.length() - offset,
        payload => HEADER + payload,
    };
    if total > packet.length() - offset {
        return Err(Reason::IpLength);
    }
    headers.length = total as u32;
    headers.transport = (offset + HEADER) as u32;
    headers.transport_length = (total - HEADER) as u32;
    if is_extension(headers.protocol) {
        walk(packet, headers)?;
    }
    Ok(())
}

/// Whether an address is an IPv4 address in IPv6's form (RFC 4291 section 2.5.5.2).
#[inline(always)]
const fn is_mapped(address: &Address) -> bool {
    address[0] | address[1] == 0 && address[2] == 0xffff_u32.to_be()
}

/// Whether there is anything to walk over, or no upper layer at all.
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | NO_NEXT_HEADER)
}

/// Steps over all extension headers: `protocol`, `transport` and `transport_length` go from the
/// first to what is behind the last. Out of line: see [`super::parse`].
#[inline(never)]
fn walk(packet: &Packet, headers: &mut Headers) -> Result<(), Reason> {
    for position in 0..=MAX_EXTENSIONS {
        match recall(&headers.protocol) {
            HOP_BY_HOP if position != 0 => return Err(Reason::ExtensionHeader),
            // What follows the header of a later fragment is in the middle of the datagram.
            _ if recall(&headers.fragment_offset) != 0 => return Ok(()),
            NO_NEXT_HEADER => return Err(Reason::NoNextHeader),
            next if !is_extension(next) => return Ok(()),
            _ if position == MAX_EXTENSIONS => return Err(Reason::ExtensionDepth),
            next => step(packet, headers, next)?,
        }
    }
    Err(Reason::ExtensionDepth)
}

/// Steps over one extension header.
#[inline(always)]
fn step(packet: &Packet, headers: &mut Headers, this: u8) -> Result<(), Reason> {
    let (offset, length) = (recall(&headers.transport), recall(&headers.transport_length));
    let mut size = 8;
    if size > length {
        return Err(Reason::ExtensionHeader);
    }
    let fixed = packet.header::<8>(offset as usize).ok_or(Reason::IpTruncated)?;
    if this == FRAGMENT {
        if recall(&headers.first_fragment) != 0 {
            return Err(Reason::ExtensionHeader);
        }
        headers.transport_length = length - size;
        let field = fixed.be16(2);
        if field & 0xfff9 != 0 {
            set_fragment(headers, fixed.word(4), field >> 3, field & 1 != 0)?;
        } else {
            // An atomic fragment (offset 0, no more) is a whole packet (RFC 6946), but for what must not come in
            // fragments of any kind.
            headers.fragment_end = headers.transport_length;
        }
    } else {
        size += u32::from(fixed.byte(1)) * 8;
        if this == ROUTING {
            if fixed.byte(3) != 0 {
                return Err(Reason::SourceRoute);
            }
            // For a quote; whoever parses a packet overwrites it.
            headers.fault = Reason::SourceRoute;
        }
    }
    if size > length {
        return Err(Reason::ExtensionHeader);
    }
    headers.transport = offset + size;
    headers.transport_length = length - size;
    headers.protocol = fixed.byte(0);
    Ok(())
}

/// Parses the header that an ICMPv6 error quotes at `offset`, up to `end`; fills in addresses,
/// protocol and the transport header's offset.
#[inline(always)]
pub(crate) fn quoted(packet: &Packet, offset: u32, end: u32, quote: &mut Headers) -> Result<(), Reason> {
    let fixed = packet.header::<HEADER>(offset as usize).ok_or(Reason::IcmpErrorMalformed)?;
    if fixed.byte(0) >> 4 != 6 || end - offset < HEADER as u32 {
        return Err(Reason::IcmpErrorMalformed);
    }
    quote.version = 6;
    quote.source = fixed.words(8);
    quote.destination = fixed.words(24);
    quote.protocol = fixed.byte(6);
    quote.transport = offset + HEADER as u32;
    // A router may have cut the quote anywhere, also within a fragment's multiple of 8 bytes.
    quote.transport_length = (end - quote.transport) & !7;
    quote.first_fragment = 0;
    quote.fragment_offset = 0;
    quote.fault = Reason::LookupFailed;
    match walk(packet, quote) {
        // What is behind a routing header Linux takes for the destination (`seg6_get_daddr`, `__udp6_lib_err`): the
        // error would be about another conversation than the one that it quotes.
        Ok(()) if quote.fragment_offset == 0 && recall(&quote.fault) != Reason::SourceRoute => Ok(()),
        _ => Err(Reason::IcmpErrorMalformed),
    }
}
