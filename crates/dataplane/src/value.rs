//! What tables hold, as it lies in memory.

use bulkhead_abi::{Cell, HostBucket, Leaf, Pair, RateLimit, Workload};

/// Layout types whose bytes may be copied into a map.
///
/// # Safety
/// Implementors must be `repr(C)` or `repr(transparent)`, without padding, and any bytes a value.
pub(super) unsafe trait Value: Copy {}
// SAFETY: one transparent word.
unsafe impl Value for Leaf {}
// SAFETY: one transparent word.
unsafe impl Value for Pair {}
// SAFETY: one half-word.
unsafe impl Value for u16 {}
// SAFETY: repr(C), 16 bytes without padding.
unsafe impl Value for Cell {}
// SAFETY: repr(C), 64 bytes without padding.
unsafe impl Value for HostBucket {}
// SAFETY: repr(C), 32 bytes without padding.
unsafe impl Value for RateLimit {}
// SAFETY: repr(C), 16 bytes without padding.
unsafe impl Value for Workload {}
// SAFETY: one double word.
unsafe impl Value for u64 {}
