//! IPv4 (RFC 791).

use super::Headers;
use crate::layout::Address;
use crate::{Packet, Reason};

const HEADER: usize = 20;
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
/// Loose source and record route.
const OPTION_LSRR: u8 = 131;
/// Strict source and record route.
const OPTION_SSRR: u8 = 137;
const MAX_OPTIONS: usize = 40;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// The IPv4-mapped form of an address in network byte order.
#[inline(always)]
const fn mapped(word: u32) -> Address {
    [0, 0, 0xffff_u32.to_be(), word]
}

/// Parses the header at `offset`; returns the protocol.
#[inline(always)]
pub(super) fn parse(packet: &Packet, offset: usize, headers: &mut Headers) -> Result<u8, Reason> {
    let (Some(source), Some(destination)) = (packet.word(offset + 12), packet.word(offset + 16)) else {
        return Err(Reason::IpTruncated);
    };
    headers.version = 4;
    headers.source = mapped(source);
    headers.destination = mapped(destination);
    let (Some(first), Some(total), Some(fragment), Some(hop_limit), Some(protocol)) = (
        packet.byte(offset),
        packet.be16(offset + 2),
        packet.be16(offset + 6),
        packet.byte(offset + 8),
        packet.byte(offset + 9),
    ) else {
        return Err(Reason::IpTruncated);
    };
    headers.protocol = protocol;
    headers.hop_limit = hop_limit;

    let header = usize::from(first & 0x0f) * 4;
    if header < HEADER {
        return Err(Reason::IpHeaderLength);
    }
    let total = usize::from(total);
    if total < header || total > packet.length() - offset {
        return Err(Reason::IpLength);
    }
    headers.length = total as u32;
    if header > HEADER {
        options(packet, offset + HEADER, header - HEADER)?;
    }
    let transport_length = total - header;
    headers.transport = (offset + header) as u32;
    headers.transport_length = transport_length as u32;

    if fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0 {
        fragments(fragment & FRAGMENT_OFFSET, fragment & MORE_FRAGMENTS != 0, transport_length)?;
        headers.first_fragment = 1;
    }
    Ok(protocol)
}

/// A fragment's offset (units of 8 bytes), whether more follow, and its payload's length.
#[inline(always)]
pub(super) fn fragments(offset: u16, more: bool, payload: usize) -> Result<(), Reason> {
    if more && !payload.is_multiple_of(8) || payload == 0 || usize::from(offset) * 8 + payload > 0xffff {
        return Err(Reason::FragmentInvalid);
    }
    if offset != 0 { Err(Reason::Fragment) } else { Ok(()) }
}

/// Walks the options: each must be whole, and none may route.
#[inline(always)]
fn options(packet: &Packet, start: usize, length: usize) -> Result<(), Reason> {
    let mut at = 0;
    for _ in 0..MAX_OPTIONS {
        if at >= length {
            return Ok(());
        }
        match packet.byte(start + at).ok_or(Reason::IpTruncated)? {
            OPTION_END => return Ok(()),
            OPTION_NOP => at += 1,
            OPTION_LSRR | OPTION_SSRR => return Err(Reason::SourceRoute),
            _ => {
                if at + 1 >= length {
                    return Err(Reason::IpOption);
                }
                let size = usize::from(packet.byte(start + at + 1).ok_or(Reason::IpTruncated)?);
                if size < 2 || size > length - at {
                    return Err(Reason::IpOption);
                }
                at += size;
            }
        }
    }
    Ok(())
}

/// Parses the header that an ICMP error quotes at `offset`; fills in addresses, protocol and
/// the transport header's offset. Only what a router may have cut off may be missing.
#[inline(always)]
pub(crate) fn quoted(packet: &Packet, offset: usize, quote: &mut Headers) -> Result<(), Reason> {
    let (Some(source), Some(destination), Some(first), Some(fragment), Some(protocol)) = (
        packet.word(offset + 12),
        packet.word(offset + 16),
        packet.byte(offset),
        packet.be16(offset + 6),
        packet.byte(offset + 9),
    ) else {
        return Err(Reason::IcmpErrorMalformed);
    };
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < HEADER || fragment & FRAGMENT_OFFSET != 0 {
        return Err(Reason::IcmpErrorMalformed);
    }
    quote.version = 4;
    quote.source = mapped(source);
    quote.destination = mapped(destination);
    quote.protocol = protocol;
    quote.transport = (offset + header) as u32;
    Ok(())
}
