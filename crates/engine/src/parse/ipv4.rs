//! IPv4 (RFC 791).

use bulkhead_abi::{Address, recall};

use super::{Headers, set_fragment};
use crate::{Packet, Reason};

pub(super) const HEADER: usize = 20;
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
pub(crate) const fn mapped(word: u32) -> Address {
    [0, 0, 0xffff_u32.to_be(), word]
}

/// Parses the header at `offset`.
#[inline(always)]
pub(super) fn parse(packet: &Packet, offset: usize, headers: &mut Headers) -> Result<(), Reason> {
    let fixed = packet.header::<HEADER>(offset).ok_or(Reason::IpTruncated)?;
    headers.version = 4;
    headers.source = mapped(fixed.word(12));
    headers.destination = mapped(fixed.word(16));
    headers.protocol = fixed.byte(9);
    headers.hop_limit = fixed.byte(8);
    let (first, total, fragment) = (fixed.byte(0), fixed.be16(2), fixed.be16(6));
    let header = usize::from(first & 0x0f) * 4;
    if header < HEADER {
        return Err(Reason::IpHeaderLength);
    }
    let total = match usize::from(total) {
        0 if packet.is_merged(offset) => packet.length() - offset,
        total => total,
    };
    if total < header || total > packet.length() - offset {
        return Err(Reason::IpLength);
    }
    headers.length = total as u32;
    if header > HEADER {
        headers.transport = (offset + HEADER) as u32;
        options(packet, headers, (offset + header) as u32)?;
    }
    let transport_length = total - header;
    headers.transport = (offset + header) as u32;
    headers.transport_length = transport_length as u32;

    if fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0 {
        let id = u32::from(fixed.be16(4));
        set_fragment(headers, id, fragment & FRAGMENT_OFFSET, fragment & MORE_FRAGMENTS != 0)?;
    }
    Ok(())
}

/// Walks the options from `headers.transport` to `end`: each must be whole, and none may
/// route. Out of line: see [`super::parse`].
#[inline(never)]
fn options(packet: &Packet, headers: &mut Headers, end: u32) -> Result<(), Reason> {
    for _ in 0..MAX_OPTIONS {
        let at = recall(&headers.transport);
        if at >= end {
            return Ok(());
        }
        match packet.byte(at as usize).ok_or(Reason::IpTruncated)? {
            OPTION_END => return Ok(()),
            OPTION_NOP => headers.transport = at + 1,
            OPTION_LSRR | OPTION_SSRR => return Err(Reason::SourceRoute),
            _ => {
                if at + 1 >= end {
                    return Err(Reason::IpOption);
                }
                let size = u32::from(packet.byte(at as usize + 1).ok_or(Reason::IpTruncated)?);
                if size < 2 || size > end - at {
                    return Err(Reason::IpOption);
                }
                headers.transport = at + size;
            }
        }
    }
    Ok(())
}

/// Parses the header that an ICMP error quotes at `offset`; fills in addresses, protocol and
/// the transport header's offset. Only what a router may have cut off may be missing.
#[inline(always)]
pub(crate) fn quoted(packet: &Packet, offset: u32, quote: &mut Headers) -> Result<(), Reason> {
    let fixed = packet.header::<HEADER>(offset as usize).ok_or(Reason::IcmpErrorMalformed)?;
    let (first, fragment) = (fixed.byte(0), fixed.be16(6));
    let header = u32::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < HEADER as u32 || fragment & FRAGMENT_OFFSET != 0 {
        return Err(Reason::IcmpErrorMalformed);
    }
    quote.version = 4;
    quote.source = mapped(fixed.word(12));
    quote.destination = mapped(fixed.word(16));
    quote.protocol = fixed.byte(9);
    quote.transport = offset + header;
    Ok(())
}
