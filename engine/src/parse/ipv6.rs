//! IPv6 (RFC 8200), with a bounded walk over its extension headers.

use super::{Carried, Headers, transport};
use crate::packet::Header;
use crate::{Packet, Reason};

const HEADER: usize = 40;
/// Extension headers walked. RFC 8504 section 5.3 lets hosts limit the chain; 8 is its example.
const MAX_EXTENSIONS: usize = 8;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// Parses the header at `offset` and what it carries.
#[inline(always)]
pub(super) fn parse(packet: &Packet, offset: usize) -> (Headers, Result<Carried, Reason>) {
    let Some(fixed) = packet.header::<HEADER>(offset) else {
        return (Headers::of_length(packet), Err(Reason::IpTruncated));
    };
    let mut headers = Headers {
        source: fixed.words(8),
        destination: fixed.words(24),
        protocol: fixed.byte(6),
        version: 6,
        hop_limit: fixed.byte(7),
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
    let total = HEADER + usize::from(fixed.be16(4));
    if total > packet.length() - offset {
        return Err(Reason::IpLength);
    }
    headers.length = total as u32;
    let mut walk = Walk::new(offset + HEADER, offset + total, headers.protocol);
    if is_extension(walk.next) {
        walk.run(packet)?;
    }
    headers.protocol = walk.next;
    headers.transport = walk.offset as u32;
    headers.transport_length = (walk.end - walk.offset) as u32;
    headers.first_fragment = u32::from(walk.first_fragment);
    Ok(())
}

/// Whether there is anything to walk over, or no upper layer at all.
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | NO_NEXT_HEADER)
}

struct Walk {
    offset: usize,
    end: usize,
    first_fragment: bool,
    /// Number of the header at `offset`; in the end the upper-layer protocol.
    next: u8,
}

impl Walk {
    #[inline(always)]
    const fn new(offset: usize, end: usize, next: u8) -> Self {
        Self { offset, end, first_fragment: false, next }
    }

    /// Steps over all extension headers. Out of line: see [`super::ipv4`]'s options.
    #[inline(never)]
    fn run(&mut self, packet: &Packet) -> Result<(), Reason> {
        for position in 0..=MAX_EXTENSIONS {
            match self.next {
                HOP_BY_HOP if position != 0 => return Err(Reason::ExtensionHeader),
                NO_NEXT_HEADER => return Err(Reason::NoNextHeader),
                next if !is_extension(next) => return Ok(()),
                _ if position == MAX_EXTENSIONS => return Err(Reason::ExtensionDepth),
                next => self.next = self.step(packet, next)?,
            }
        }
        Err(Reason::ExtensionDepth)
    }

    /// Steps over one extension header; returns the next one's number.
    #[inline(always)]
    fn step(&mut self, packet: &Packet, this: u8) -> Result<u8, Reason> {
        let mut size = 8;
        if self.offset + size > self.end {
            return Err(Reason::ExtensionHeader);
        }
        let fixed = packet.header::<8>(self.offset).ok_or(Reason::IpTruncated)?;
        if this == FRAGMENT {
            if self.first_fragment {
                return Err(Reason::ExtensionHeader);
            }
            let field = fixed.be16(2);
            // An atomic fragment (offset 0, no more) is a whole packet (RFC 6946).
            if field & 0xfff9 != 0 {
                let payload = self.end - self.offset - size;
                super::ipv4::fragments(field >> 3, field & 1 != 0, payload)?;
                self.first_fragment = true;
            }
        } else {
            size += usize::from(fixed.byte(1)) * 8;
            if this == ROUTING && fixed.byte(3) != 0 {
                return Err(Reason::SourceRoute);
            }
        }
        if self.offset + size > self.end {
            return Err(Reason::ExtensionHeader);
        }
        self.offset += size;
        Ok(fixed.byte(0))
    }
}

/// Parses the header that an ICMPv6 error quotes at `offset`, up to `end`; fills in addresses,
/// protocol and the transport header's offset.
#[inline(always)]
pub(crate) fn quoted(packet: &Packet, offset: usize, end: usize, quote: &mut Headers) -> Result<(), Reason> {
    let fixed = packet.header::<HEADER>(offset).ok_or(Reason::IcmpErrorMalformed)?;
    if fixed.byte(0) >> 4 != 6 {
        return Err(Reason::IcmpErrorMalformed);
    }
    quote.version = 6;
    quote.source = fixed.words(8);
    quote.destination = fixed.words(24);
    let mut walk = Walk::new(offset + HEADER, end, fixed.byte(6));
    if walk.run(packet).is_err() {
        return Err(Reason::IcmpErrorMalformed);
    }
    quote.protocol = walk.next;
    quote.transport = walk.offset as u32;
    Ok(())
}
