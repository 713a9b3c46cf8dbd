//! IPv6 (RFC 8200), with a bounded walk over its extension headers.

use super::Headers;
use crate::{Packet, Reason};

const HEADER: usize = 40;
/// Extension headers walked. RFC 8504 section 5.3 lets hosts limit the chain; 8 is its example.
const MAX_EXTENSIONS: usize = 8;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// Parses the header at `offset`; returns the upper-layer protocol.
#[inline(always)]
pub(super) fn parse(packet: &Packet, offset: usize, headers: &mut Headers) -> Result<u8, Reason> {
    let (Some(source), Some(destination)) = (packet.words(offset + 8), packet.words(offset + 24)) else {
        return Err(Reason::IpTruncated);
    };
    headers.version = 6;
    headers.source = source;
    headers.destination = destination;
    let (Some(payload), Some(next), Some(hop_limit)) =
        (packet.be16(offset + 4), packet.byte(offset + 6), packet.byte(offset + 7))
    else {
        return Err(Reason::IpTruncated);
    };
    headers.protocol = next;
    headers.hop_limit = hop_limit;
    let total = HEADER + usize::from(payload);
    if total > packet.length() - offset {
        return Err(Reason::IpLength);
    }
    headers.length = total as u32;
    let mut walk = Walk { offset: offset + HEADER, end: offset + total, first_fragment: false };
    let protocol = walk.run(packet, next)?;
    headers.protocol = protocol;
    headers.transport = walk.offset as u32;
    headers.transport_length = (walk.end - walk.offset) as u32;
    headers.first_fragment = u32::from(walk.first_fragment);
    Ok(protocol)
}

struct Walk {
    offset: usize,
    end: usize,
    first_fragment: bool,
}

impl Walk {
    #[inline(always)]
    fn run(&mut self, packet: &Packet, mut next: u8) -> Result<u8, Reason> {
        for position in 0..MAX_EXTENSIONS {
            match next {
                HOP_BY_HOP if position != 0 => return Err(Reason::ExtensionHeader),
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT => {
                    next = self.step(packet, next)?;
                }
                NO_NEXT_HEADER => return Err(Reason::NoNextHeader),
                _ => return Ok(next),
            }
        }
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT => Err(Reason::ExtensionDepth),
            NO_NEXT_HEADER => Err(Reason::NoNextHeader),
            _ => Ok(next),
        }
    }

    /// Steps over one extension header; returns the next one's number.
    #[inline(always)]
    fn step(&mut self, packet: &Packet, this: u8) -> Result<u8, Reason> {
        if self.offset + 8 > self.end {
            return Err(Reason::ExtensionHeader);
        }
        let (Some(next), Some(length)) = (packet.byte(self.offset), packet.byte(self.offset + 1)) else {
            return Err(Reason::IpTruncated);
        };
        let mut size = 8;
        if this == FRAGMENT {
            if self.first_fragment {
                return Err(Reason::ExtensionHeader);
            }
            let field = packet.be16(self.offset + 2).ok_or(Reason::IpTruncated)?;
            // An atomic fragment (offset 0, no more) is a whole packet (RFC 6946).
            if field & 0xfff9 != 0 {
                let payload = self.end - self.offset - size;
                super::ipv4::fragments(field >> 3, field & 1 != 0, payload)?;
                self.first_fragment = true;
            }
        } else {
            size += usize::from(length) * 8;
            if this == ROUTING && packet.byte(self.offset + 3).ok_or(Reason::IpTruncated)? != 0 {
                return Err(Reason::SourceRoute);
            }
        }
        if self.offset + size > self.end {
            return Err(Reason::ExtensionHeader);
        }
        self.offset += size;
        Ok(next)
    }
}

/// Parses the header that an ICMPv6 error quotes at `offset`; fills in addresses, protocol and
/// the transport header's offset.
#[inline(always)]
pub(crate) fn quoted(packet: &Packet, offset: usize, end: usize, quote: &mut Headers) -> Result<(), Reason> {
    let (Some(source), Some(destination), Some(first), Some(next)) =
        (packet.words(offset + 8), packet.words(offset + 24), packet.byte(offset), packet.byte(offset + 6))
    else {
        return Err(Reason::IcmpErrorMalformed);
    };
    if first >> 4 != 6 {
        return Err(Reason::IcmpErrorMalformed);
    }
    quote.version = 6;
    quote.source = source;
    quote.destination = destination;
    let mut walk = Walk { offset: offset + HEADER, end, first_fragment: false };
    let Ok(protocol) = walk.run(packet, next) else {
        return Err(Reason::IcmpErrorMalformed);
    };
    quote.protocol = protocol;
    quote.transport = walk.offset as u32;
    Ok(())
}
