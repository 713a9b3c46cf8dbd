//! IPv4 (RFC 791).

use super::{Carried, Headers, transport};
use crate::layout::Address;
use crate::packet::Header;
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

/// Parses the header at `offset` and what it carries.
#[inline(always)]
pub(super) fn parse(packet: &Packet, offset: usize) -> (Headers, Result<Carried, Reason>) {
    let Some(fixed) = packet.header::<HEADER>(offset) else {
        return (Headers::of_length(packet), Err(Reason::IpTruncated));
    };
    let mut headers = Headers {
        source: mapped(fixed.word(12)),
        destination: mapped(fixed.word(16)),
        protocol: fixed.byte(9),
        version: 4,
        hop_limit: fixed.byte(8),
        ..Headers::of_length(packet)
    };
    let carried = match header(packet, offset, fixed, &mut headers) {
        Ok(()) => transport::parse(packet, &mut headers).map(Carried::Ip),
        Err(reason) => Err(reason),
    };
    (headers, carried)
}

#[inline(always)]
fn header(
    packet: &Packet,
    offset: usize,
    fixed: Header<HEADER>,
    headers: &mut Headers,
) -> Result<(), Reason> {
    let (first, total, fragment) = (fixed.byte(0), fixed.be16(2), fixed.be16(6));
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
    Ok(())
}

/// A fragment's offset (units of 8 bytes), whether more follow, and its payload's length.
#[inline(always)]
pub(super) fn fragments(offset: u16, more: bool, payload: usize) -> Result<(), Reason> {
    if more && !payload.is_multiple_of(8) || payload == 0 || usize::from(offset) * 8 + payload > 0xffff {
        return Err(Reason::FragmentInvalid);
    }
    if offset != 0 { Err(Reason::Fragment) } else { Ok(()) }
}

/// Walks the options: each must be whole, and none may route. Out of line, so that the
/// verifier sees one state afterwards, not one for each way through.
#[inline(never)]
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
    let fixed = packet.header::<HEADER>(offset).ok_or(Reason::IcmpErrorMalformed)?;
    let (first, fragment) = (fixed.byte(0), fixed.be16(6));
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < HEADER || fragment & FRAGMENT_OFFSET != 0 {
        return Err(Reason::IcmpErrorMalformed);
    }
    quote.version = 4;
    quote.source = mapped(fixed.word(12));
    quote.destination = mapped(fixed.word(16));
    quote.protocol = fixed.byte(9);
    quote.transport = (offset + header) as u32;
    Ok(())
}
