//! The exact tables, and what looks into them out of the verifier's way.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use bulkhead_engine::exact::{self, Buckets};
use bulkhead_engine::layout::{ExactBucket, ExactKey};

use crate::maps::{MAPS, View};
use crate::settings;

/// Single addresses. Mapped arrays begin at a page, so that each bucket is one cache line.
#[map]
static EXACT: Array<ExactBucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SHADOW_EXACT: Array<ExactBucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);

impl<const SHADOW: bool> Buckets for View<SHADOW> {
    #[inline(always)]
    fn count(&self) -> u32 {
        if SHADOW { settings::shadow_exact_buckets() } else { settings::exact_buckets() }
    }
    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&ExactBucket> {
        (if SHADOW { &SHADOW_EXACT } else { &EXACT }).get(index)
    }
    #[inline(always)]
    fn rest(&self, [high, low]: ExactKey) -> u32 {
        if SHADOW { shadow_exact_rest(high, low) } else { exact_rest(high, low) }
    }
}

/// [`exact::rest`] of what is enforced. A global function: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn exact_rest(high: u64, low: u64) -> u32 {
    exact::rest(&MAPS, [high, low])
}

/// The same of what observes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn shadow_exact_rest(high: u64, low: u64) -> u32 {
    exact::rest(&crate::maps::SHADOW, [high, low])
}
