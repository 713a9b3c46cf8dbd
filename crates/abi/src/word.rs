//! A 64-bit word that CPUs share: of a map's value in BPF, of ordinary memory on the host.

use core::cell::UnsafeCell;

/// A word that CPUs share. Every access is one instruction on the whole word.
///
/// On the host all accesses are sequentially consistent. In BPF loads and stores are plain ones,
/// ordered as x86-64 orders them (stores after stores, loads after loads), and what reads and
/// writes at once is locked.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(UnsafeCell<u64>);

// SAFETY: every access is atomic.
unsafe impl Sync for Word {}

impl Word {
    /// A word of this value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The word at an address.
    ///
    /// # Safety
    /// It must be aligned and stay readable and writable for `'a`, and be accessed as a whole only.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn at<'a>(word: *mut u64) -> &'a Self {
        // SAFETY: the caller's; the type is transparent.
        unsafe { &*word.cast() }
    }
}

#[cfg(target_arch = "bpf")]
impl Word {
    /// Its value.
    #[inline(always)]
    pub fn load(&self) -> u64 {
        // SAFETY: an aligned word.
        unsafe { self.0.get().read_volatile() }
    }

    /// Gives it a value.
    #[inline(always)]
    pub fn store(&self, value: u64) {
        // SAFETY: an aligned word.
        unsafe { self.0.get().write_volatile(value) };
    }

    /// Puts `new` in the place of `old`; returns what was there.
    #[inline(always)]
    pub fn compare_exchange(&self, old: u64, new: u64) -> u64 {
        let found;
        // SAFETY: an aligned word. `core` has no such operation for this target; the instruction
        // set has (it compares with and returns in r0).
        unsafe {
            core::arch::asm!(
                "r0 = cmpxchg_64({0} + 0, r0, {1})",
                in(reg) self.0.get(), in(reg) new, inout("r0") old => found
            );
        }
        found
    }

    /// Adds to it, wrapping around.
    #[inline(always)]
    pub fn add(&self, amount: u64) {
        // SAFETY: an aligned word.
        unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) self.0.get(), in(reg) amount) };
    }

    /// Sets bits.
    #[inline(always)]
    pub fn set(&self, bits: u64) {
        // SAFETY: an aligned word.
        unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) |= {1}", in(reg) self.0.get(), in(reg) bits) };
    }

    /// Clears bits.
    #[inline(always)]
    pub fn clear(&self, bits: u64) {
        // SAFETY: an aligned word.
        unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) &= {1}", in(reg) self.0.get(), in(reg) !bits) };
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Word {
    fn atomic(&self) -> &core::sync::atomic::AtomicU64 {
        // SAFETY: aligned as a u64, and every access goes this way.
        unsafe { core::sync::atomic::AtomicU64::from_ptr(self.0.get()) }
    }

    /// Its value.
    pub fn load(&self) -> u64 {
        self.atomic().load(core::sync::atomic::Ordering::SeqCst)
    }

    /// Gives it a value.
    pub fn store(&self, value: u64) {
        self.atomic().store(value, core::sync::atomic::Ordering::SeqCst);
    }

    /// Puts `new` in the place of `old`; returns what was there.
    pub fn compare_exchange(&self, old: u64, new: u64) -> u64 {
        use core::sync::atomic::Ordering::SeqCst;
        self.atomic().compare_exchange(old, new, SeqCst, SeqCst).unwrap_or_else(|found| found)
    }

    /// Adds to it, wrapping around.
    pub fn add(&self, amount: u64) {
        self.atomic().fetch_add(amount, core::sync::atomic::Ordering::SeqCst);
    }

    /// Sets bits.
    pub fn set(&self, bits: u64) {
        self.atomic().fetch_or(bits, core::sync::atomic::Ordering::SeqCst);
    }

    /// Clears bits.
    pub fn clear(&self, bits: u64) {
        self.atomic().fetch_and(!bits, core::sync::atomic::Ordering::SeqCst);
    }
}
