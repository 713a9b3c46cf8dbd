//! The bytes that are compared, as many of them as a segment has.

use super::progress::{RECORD, SSL_REQUEST};

/// Some of the first eight bytes from a place of a stream on: the byte at place 0 lowest.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) bytes: u64,
    /// All ones for each byte that is there.
    pub(super) mask: u64,
}

/// `00 00 00 08 04 d2 16 2f` (PostgreSQL, "Message Formats", SSLRequest).
const SSL_REQUEST_BYTES: u64 = u64::from_be(0x0000_0008_04d2_162f);
/// PostgreSQL's answer: it is willing to perform TLS.
const WILLING: u8 = b'S';

const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// The longest record (RFC 8446 section 5.2, RFC 5246 section 6.2.3), and the shortest that an end begins with.
const LONGEST: u32 = (1 << 14) + 2048;
const SHORTEST: u32 = 2;

impl Window {
    /// None of them.
    pub(super) const EMPTY: Self = Self { bytes: 0, mask: 0 };

    /// `count` bytes of a stream from place `at` on, of which 0 to 7 are those of the window.
    #[inline(always)]
    pub(super) const fn new(bytes: u64, at: u32, count: u32) -> Self {
        let ones = if count >= 8 { u64::MAX } else { (1 << (count * 8)) - 1 };
        let shift = (at & 7) * 8;
        Self { bytes: (bytes & ones) << shift, mask: ones << shift }
    }

    #[inline(always)]
    const fn has(self, place: u32) -> bool {
        self.mask >> (place * 8) & 1 != 0
    }

    #[inline(always)]
    const fn byte(self, place: u32) -> u8 {
        (self.bytes >> (place * 8)) as u8
    }

    /// Whether the bytes that are there can be the beginning of a TLS record with which a client or a server begins.
    #[inline(always)]
    pub(super) const fn is_record(self, is_client: bool) -> bool {
        let kind = self.byte(0);
        let is_alert = self.has(0) && kind == ALERT && !is_client;
        let length = (self.byte(3) as u32) << 8 | self.byte(4) as u32;
        let first = self.byte(5);
        let hello = if is_client { CLIENT_HELLO } else { SERVER_HELLO };
        // The level of an alert, warning or fatal, and where the kind of record is not there it may be one.
        let is_level = !is_client && (is_alert || !self.has(0)) && (first == 1 || first == 2);
        (!self.has(0) || kind == HANDSHAKE || is_alert)
            && (!self.has(1) || self.byte(1) == 3)
            && (!self.has(2) || self.byte(2) <= 4)
            && (!self.has(3) || self.byte(3) as u32 <= LONGEST >> 8)
            && (!self.has(3) || !self.has(4) || SHORTEST <= length && length <= LONGEST)
            && (!self.has(5) || first == hello || is_level)
    }

    /// Whether they can be those that come before TLS.
    #[inline(always)]
    pub(super) const fn is_prelude(self, is_client: bool) -> bool {
        if is_client {
            (self.bytes ^ SSL_REQUEST_BYTES) & self.mask == 0
        } else {
            !self.has(0) || self.byte(0) == WILLING
        }
    }

    /// Whether the first byte is there, and is no TLS record's.
    #[inline(always)]
    pub(super) const fn begins_otherwise(self) -> bool {
        self.has(0) && self.byte(0) != HANDSHAKE && self.byte(0) != ALERT
    }
}

/// How many bytes come before TLS.
#[inline(always)]
pub(super) const fn prelude(is_client: bool) -> u32 {
    if is_client { SSL_REQUEST } else { 1 }
}

/// How many bytes are compared of a direction, where something comes before TLS.
#[inline(always)]
pub(super) const fn both(is_client: bool) -> u32 {
    prelude(is_client) + RECORD
}
