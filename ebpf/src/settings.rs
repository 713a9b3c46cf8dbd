//! The program's read-only globals. The loader sets them before the verifier sees the
//! program, which then removes the code that they make unreachable.

use core::arch::asm;
use core::ptr::{addr_of, read_volatile};

use bulkhead_abi::{FEATURE_STAGED, Settings, TIMEOUTS};

/// Replaced by the loader. The initial values are never used: the loader refuses to leave them.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings::UNSET;

/// Of the generation that only observes: number, features and classes. Unset where there is none.
#[unsafe(no_mangle)]
static STAGED_SETTINGS: Settings = Settings::UNSET;

macro_rules! setting {
    ($($name:ident: $type:ty = $($field:ident).+;)*) => {
        $(
            #[inline(always)]
            pub(crate) fn $name() -> $type {
                // SAFETY: the field of a static; volatile, since the loader changes it behind
                // the compiler's back.
                unsafe { read_volatile(addr_of!($($field).+)) }
            }
        )*
    };
}

setting! {
    fixed_clock: u64 = SETTINGS.fixed_clock;
    new_flow_interval: u64 = SETTINGS.new_flows.interval;
    new_flow_tolerance: u64 = SETTINGS.new_flows.tolerance;
    generation: u32 = SETTINGS.generation;
    features: u32 = SETTINGS.features;
    locals: u32 = SETTINGS.locals;
    remotes: u32 = SETTINGS.remotes;
    wide: u32 = SETTINGS.wide;
    event_budget: u32 = SETTINGS.event_budget;
    allowed_budget: u32 = SETTINGS.allowed_budget;
    allowed_mask: u32 = SETTINGS.allowed_mask;
    flow_mask: u32 = SETTINGS.flow_mask;
    outward_ports: [u16; 2] = SETTINGS.outward_ports;
    forwarded_until: u32 = SETTINGS.forwarded_until;
    zone: u16 = SETTINGS.zone;
    interface: u8 = SETTINGS.interface;
    link: u32 = SETTINGS.link;
    staged_generation: u32 = STAGED_SETTINGS.generation;
    staged_features: u32 = STAGED_SETTINGS.features;
    staged_locals: u32 = STAGED_SETTINGS.locals;
    staged_remotes: u32 = STAGED_SETTINGS.remotes;
}

/// Whether programs may interrupt each other on a CPU. Not among the settings, which are read from
/// memory wherever something is asked of them: the loader writes 1 or 0 into each instruction that loads
/// where `REALTIME`, which is defined nowhere, seems to lie. (The compiler must not keep it in a register
/// over all that lies between.)
#[inline(always)]
pub(crate) fn is_realtime() -> bool {
    let flag: u64;
    // SAFETY: one load of a number.
    unsafe { asm!("{0} = REALTIME ll", out(reg) flag, options(nomem, nostack)) };
    flag != 0
}

/// Whether a staged policy observes.
#[inline(always)]
pub(crate) fn has_staged() -> bool {
    features() & FEATURE_STAGED != 0
}

/// The time-out of a flow's state, seconds.
#[inline(always)]
pub(crate) fn timeout(state: u8) -> u32 {
    let timeouts = addr_of!(SETTINGS.timeouts.0).cast::<u32>();
    // SAFETY: the index is masked to the array's length.
    unsafe { read_volatile(timeouts.add(usize::from(state) & (TIMEOUTS - 1))) }
}
