//! Reading back what the verifier must not know.

/// Reads a field back from memory. In BPF the memory is a map's, so that the verifier knows
/// nothing of the value and sees every round of a loop as the same.
#[inline(always)]
#[must_use]
pub fn recall<T: Copy>(field: &T) -> T {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(field) }
}
