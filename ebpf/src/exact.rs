//! What looks into the exact table, out of the verifier's way.

use bulkhead_engine::exact::{self, Buckets};
use bulkhead_engine::layout::{ExactBucket, ExactKey};

use crate::maps::{MAPS, View};
use crate::tables;

impl<const SHADOW: bool> Buckets for View<SHADOW> {
    #[inline(always)]
    fn count(&self) -> u32 {
        tables::exact_buckets::<SHADOW>()
    }
    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&ExactBucket> {
        tables::exact_bucket::<SHADOW>(index.into())
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
