//! The program's read-only globals. The loader sets them before the verifier sees the
//! program, which then removes the code that they make unreachable.

use core::ptr::{addr_of, read_volatile};

use bulkhead_engine::layout::{Settings, TIMEOUTS, Timeouts};

/// Replaced by the loader. The initial values are never used: the loader refuses to leave them.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    fixed_clock: 0,
    generation: 0,
    features: 0,
    locals: 0,
    remotes: 0,
    timeouts: Timeouts([0; TIMEOUTS]),
    zone: 0,
    interface: 0,
    reserved: [0; 5],
};

macro_rules! setting {
    ($($field:ident: $type:ty),*) => {
        $(
            #[inline(always)]
            pub(crate) fn $field() -> $type {
                // SAFETY: the field of a static; volatile, since the loader changes it behind
                // the compiler's back.
                unsafe { read_volatile(addr_of!(SETTINGS.$field)) }
            }
        )*
    };
}

setting!(fixed_clock: u64, generation: u32, features: u32, locals: u32, remotes: u32, zone: u16, interface: u8);

/// The time-out of a flow's state, seconds.
#[inline(always)]
pub(crate) fn timeout(state: u8) -> u16 {
    let timeouts = addr_of!(SETTINGS.timeouts.0).cast::<u16>();
    // SAFETY: the index is masked to the array's length.
    unsafe { read_volatile(timeouts.add(usize::from(state) & (TIMEOUTS - 1))) }
}
