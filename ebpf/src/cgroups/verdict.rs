//! What a program answers.

use core::arch::asm;

/// 1 allows, 0 refuses. The verifier wants to see that it is nothing else, which a comparison that the compiler has made
/// a sum of does not show.
#[inline(always)]
pub(crate) fn verdict(is_allowed: bool) -> i32 {
    let mut value = u64::from(is_allowed);
    // SAFETY: one operation on a number.
    unsafe { asm!("{0} &= 1", inout(reg) value, options(pure, nomem, nostack)) };
    value as i32
}
