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
    /// Payload of each segment of a merged packet; 0: it is not merged.
    segment: u32,
    bytes: PhantomData<&'a [u8]>,
}

/// Hides from the compiler what it knows of a value. It would rewrite `at + N > end` as
/// `at > end - N` and take that out of a loop, where the verifier forbids arithmetic on the
/// end; and it would add an offset to the start before the offset is checked.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    let value = {
        let copy: usize;
        // SAFETY: one move between registers. (Without any instruction the kernel would refuse
        // the line information.)
        unsafe { core::arch::asm!("{0} = {1}", out(reg) copy, in(reg) value, options(pure, nomem, nostack)) };
        copy
    };
    value
}

/// Types that all zeros are a value of.
///
/// # Safety
/// All zeros must be a valid value; the alignment must be 8 and the size a multiple of it.
pub(crate) unsafe trait Zeroable {}

/// Fills a value with zeros, word by word: BPF has no memset, and the compiler's replacement
/// for it goes byte by byte.
#[inline(always)]
pub(crate) fn clear<T: Zeroable>(value: &mut T) {
    const { assert!(align_of::<T>() == 8 && size_of::<T>().is_multiple_of(8)) };
    let words = core::ptr::from_mut(value).cast::<u64>();
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: within the value, whose alignment was checked; zeros are valid by the trait.
        unsafe { words.add(index).write_volatile(0) };
    }
}

/// Integers: every bit pattern is a value.
trait Plain: Copy {}
impl Plain for u16 {}
impl Plain for u32 {}

impl<'a> Packet<'a> {
    /// A packet that is wholly in memory.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let start = bytes.as_ptr() as usize;
        Self { start, end: start + bytes.len(), length: bytes.len() as u32, segment: 0, bytes: PhantomData }
    }

    /// A packet whose bytes from `start` to `end` (addresses) are readable, and which has
    /// `length` bytes on the wire.
    ///
    /// # Safety
    /// `start..end` must stay readable for `'a`. (In BPF the verifier checks each access.)
    #[inline(always)]
    #[must_use]
    pub unsafe fn from_raw(start: usize, end: usize, length: u32) -> Self {
        Self { start, end, length, segment: 0, bytes: PhantomData }
    }

    /// The same packet, merged from segments of `size` bytes of payload (the kernel's
    /// `gso_size`; 0: it is not merged).
    #[inline(always)]
    #[must_use]
    pub fn merged_from(self, size: u32) -> Self {
        Self { segment: size, ..self }
    }

    /// How many packets on the wire a payload of `payload` bytes is.
    #[inline(always)]
    #[must_use]
    pub(crate) fn segments(&self, payload: u32) -> u32 {
        match self.segment {
            0 => 1,
            size => payload.div_ceil(size).max(1),
        }
    }

    /// Bytes on the wire.
    #[inline(always)]
    #[must_use]
    pub fn length(&self) -> usize {
        self.length as usize
    }

    /// Bytes at the IP layer and above, if the packet is not tagged.
    #[inline(always)]
    #[must_use]
    pub fn length_of_ip(&self, is_frame: bool) -> u32 {
        self.length.saturating_sub(if is_frame { 14 } else { 0 })
    }

    /// Whether what follows `offset` is longer than any packet on a wire: the stack has merged
    /// packets, and their length field says 0 (BIG TCP, kernel commit 09f3d1a3a52c).
    #[inline(always)]
    #[must_use]
    pub(crate) fn is_merged(&self, offset: usize) -> bool {
        self.length() - offset > 0xffff
    }

    /// The `N` bytes at `offset`: one check for a whole header.
    #[inline(always)]
    #[must_use]
    pub fn header<const N: usize>(&self, offset: usize) -> Option<Header<'a, N>> {
        // The verifier learns nothing from a check that covers a single byte.
        const { assert!(N > 1) };
        if offset > MAX_OFFSET {
            return None;
        }
        let at = self.start + opaque(offset);
        if at + N > opaque(self.end) {
            return None;
        }
        // SAFETY: `at..at + N` was just checked to lie within the readable bytes.
        Some(Header(unsafe { &*(at as *const [u8; N]) }))
    }

    /// The first `N` bytes.
    #[inline(always)]
    #[must_use]
    pub(crate) fn start<const N: usize>(&self) -> Option<Header<'a, N>> {
        if self.start + N > opaque(self.end) {
            return None;
        }
        // SAFETY: `start..start + N` was just checked to lie within the readable bytes.
        Some(Header(unsafe { &*(self.start as *const [u8; N]) }))
    }

    /// The byte at `offset`, which is not the packet's first.
    #[inline(always)]
    #[must_use]
    pub fn byte(&self, offset: usize) -> Option<u8> {
        // The first one's would begin beyond every offset. Verifiers before 6.8 know less than the
        // compiler of an offset that was compared in another register, or with zero.
        Some(self.header::<2>(opaque(offset.wrapping_sub(1)))?.byte(1))
    }
}

/// `N` bytes of a packet that are known to be there. Fields are at constant offsets, so that
/// no bounds check is left.
#[derive(Clone, Copy)]
pub struct Header<'a, const N: usize>(&'a [u8; N]);

impl<'a, const N: usize> Header<'a, N> {
    /// The `M` bytes at `at`.
    #[inline(always)]
    #[must_use]
    pub(crate) fn part<const M: usize>(self, at: usize) -> Header<'a, M> {
        assert!(at + M <= N);
        // SAFETY: within the header, as just checked.
        Header(unsafe { &*self.0.as_ptr().add(at).cast() })
    }

    #[inline(always)]
    fn field<T: Plain>(self, at: usize) -> T {
        assert!(at + size_of::<T>() <= N);
        let field = self.0.as_ptr().wrapping_add(at).cast::<T>();
        // SAFETY: within the header, as just checked (at compile time, offsets being constants).
        // BPF loads from packets may be unaligned on every architecture that the kernel lets
        // them be; the compiler does not know, and would load byte by byte.
        unsafe { if cfg!(target_arch = "bpf") { field.read() } else { field.read_unaligned() } }
    }

    /// One byte.
    #[inline(always)]
    #[must_use]
    pub fn byte(self, at: usize) -> u8 {
        self.0[at]
    }

    /// Two bytes, big-endian.
    #[inline(always)]
    #[must_use]
    pub fn be16(self, at: usize) -> u16 {
        u16::from_be(self.field(at))
    }

    /// Four bytes as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub fn word(self, at: usize) -> u32 {
        self.field(at)
    }

    /// Sixteen bytes as four words as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub fn words(self, at: usize) -> [u32; 4] {
        [self.word(at), self.word(at + 4), self.word(at + 8), self.word(at + 12)]
    }
}

#[cfg(test)]
mod tests {
    use super::Packet;

    #[test]
    fn headers_end_at_the_last_byte() {
        let bytes = [1, 2, 3, 4];
        let packet = Packet::new(&bytes);
        assert_eq!(packet.header::<4>(0).map(|h| h.word(0).to_ne_bytes()), Some(bytes));
        assert_eq!(packet.header::<2>(2).map(|h| h.be16(0)), Some(0x0304));
        assert!(packet.header::<2>(3).is_none());
        assert!(packet.header::<5>(0).is_none());
        assert!(packet.header::<2>(usize::MAX).is_none());
        assert_eq!(packet.start::<4>().map(|h| h.part::<2>(2).be16(0)), Some(0x0304));
        assert!(packet.start::<5>().is_none());
        assert_eq!(packet.byte(3), Some(4));
        assert_eq!(packet.byte(4), None);
        assert_eq!(packet.byte(0), None);
    }
}
