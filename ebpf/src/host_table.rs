//! What looks into the host table, out of the verifier's way.

use bulkhead_abi::{HostBucket, HostKey};
use bulkhead_engine::host_table::{self, Buckets};
use bulkhead_engine::opaque;

use crate::environment::{MAPS, STAGED, View};
use crate::tables;

impl<const STAGED: bool, H> Buckets for View<STAGED, H> {
    #[inline(always)]
    fn count(&self) -> u32 {
        tables::exact_buckets::<STAGED>()
    }
    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&HostBucket> {
        // The compiler would make one shift and a mask of the shift that gave the index and of the one to
        // its offset. Verifiers take the branch behind the last bucket for possible then, find that no
        // number is in it, and from 6.16 to 6.18 call that a fault of their own in the kernel's log.
        tables::exact_bucket::<STAGED>(opaque(index as usize) as u64)
    }
    #[inline(always)]
    fn rest(&self, [high, low]: HostKey) -> u32 {
        if STAGED { staged_exact_rest(high, low) } else { exact_rest(high, low) }
    }
}

/// [`host_table::rest`] of what is enforced. A global function: the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn exact_rest(high: u64, low: u64) -> u32 {
    host_table::rest(&MAPS, [high, low])
}

/// The same of what observes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn staged_exact_rest(high: u64, low: u64) -> u32 {
    host_table::rest(&STAGED, [high, low])
}
