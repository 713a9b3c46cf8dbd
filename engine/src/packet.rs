//! The one checked accessor to packet bytes.

use core::marker::PhantomData;

/// Offsets stay below this, so that the BPF verifier can bound them. Headers end far earlier.
const MAX_OFFSET: usize = 0x3fff;

/// The bytes of one packet, as far as they lie in linear memory.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    start: usize,
    end: usize,
    /// Bytes on the wire from `start`; more than are linear if the packet is merged or paged.
    length: u32,
    bytes: PhantomData<&'a [u8]>,
}

/// Types that any bytes are a value of, without padding.
///
/// # Safety
/// Implementors must be valid for every bit pattern.
unsafe trait Plain: Copy {}
// SAFETY: integers and arrays of integers are valid for every bit pattern.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for [u8; 2] {}
// SAFETY: as above.
unsafe impl Plain for [u8; 4] {}
// SAFETY: as above.
unsafe impl Plain for [u32; 4] {}

impl<'a> Packet<'a> {
    /// A packet that is wholly in memory.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let start = bytes.as_ptr() as usize;
        Self { start, end: start + bytes.len(), length: bytes.len() as u32, bytes: PhantomData }
    }

    /// A packet whose bytes from `start` to `end` (addresses) are readable, and which has
    /// `length` bytes on the wire.
    ///
    /// # Safety
    /// `start..end` must stay readable for `'a`. (In BPF the verifier checks each access.)
    #[inline(always)]
    #[must_use]
    pub unsafe fn from_raw(start: usize, end: usize, length: u32) -> Self {
        Self { start, end, length, bytes: PhantomData }
    }

    /// Bytes on the wire.
    #[inline(always)]
    #[must_use]
    pub fn length(&self) -> usize {
        self.length as usize
    }

    #[inline(always)]
    fn read<T: Plain>(&self, offset: usize) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let at = self.start + offset;
        if at + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: `at..at + size_of::<T>()` was just checked to lie within the readable bytes,
        // and every bit pattern is a `T`.
        Some(unsafe { (at as *const T).read_unaligned() })
    }

    /// One byte.
    #[inline(always)]
    #[must_use]
    pub fn byte(&self, offset: usize) -> Option<u8> {
        self.read(offset)
    }

    /// Two bytes, big-endian.
    #[inline(always)]
    #[must_use]
    pub fn be16(&self, offset: usize) -> Option<u16> {
        self.read(offset).map(u16::from_be_bytes)
    }

    /// Four bytes as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<u32> {
        self.read(offset).map(u32::from_ne_bytes)
    }

    /// Sixteen bytes as four words as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub fn words(&self, offset: usize) -> Option<[u32; 4]> {
        self.read(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::Packet;

    #[test]
    fn reads_end_at_the_last_byte() {
        let bytes = [1, 2, 3, 4];
        let packet = Packet::new(&bytes);
        assert_eq!(packet.byte(3), Some(4));
        assert_eq!(packet.byte(4), None);
        assert_eq!(packet.be16(2), Some(0x0304));
        assert_eq!(packet.be16(3), None);
        assert_eq!(packet.word(0).map(u32::to_ne_bytes), Some(bytes));
        assert_eq!(packet.word(1), None);
        assert_eq!(packet.words(0), None);
        assert_eq!(packet.byte(usize::MAX), None);
    }
}
