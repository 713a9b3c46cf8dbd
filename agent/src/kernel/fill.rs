//! Fills array maps as memory, before a program reads them.

use std::os::fd::AsFd as _;

use aya::maps::{Map, MapData};
use bulkhead_engine::layout::{BLOCK_SLOTS, Cell, ExactBucket, Leaf, Pair, RateLimit};
use memmap2::MmapOptions;

use super::KernelError;

/// Layout types whose bytes may be copied into a map.
///
/// # Safety
/// Implementors must be `repr(C)` or `repr(transparent)`, without padding, any bytes a value, and as
/// large as the map's value (a multiple of 8, to which array maps round).
pub(super) unsafe trait Value: Copy {}
// SAFETY: 256 transparent words.
unsafe impl Value for [Leaf; BLOCK_SLOTS] {}
// SAFETY: 256 transparent words.
unsafe impl Value for [Pair; BLOCK_SLOTS] {}
// SAFETY: 256 half-words.
unsafe impl Value for [u16; BLOCK_SLOTS] {}
// SAFETY: repr(C), 16 bytes without padding.
unsafe impl Value for Cell {}
// SAFETY: repr(C), 64 bytes without padding.
unsafe impl Value for ExactBucket {}
// SAFETY: repr(C), 32 bytes without padding.
unsafe impl Value for RateLimit {}
// SAFETY: one word.
unsafe impl Value for u64 {}

/// Copies `values` into the array map from index 0. The map must have been made with
/// `BPF_F_MMAPABLE`.
pub(super) fn fill<T: Value>(name: &'static str, map: &Map, values: &[T]) -> Result<(), KernelError> {
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    let what = || format!("filling map {name}");
    let Map::Array(data) = map else {
        return Err(KernelError::Refused {
            what: what(),
            source: "the object has another type of map".into(),
        });
    };
    check(name, data, size_of::<T>(), values.len())?;
    let bytes = size_of_val(values);
    // SAFETY: the map is ours alone: no program that reads it has been loaded yet, or it is
    // unreachable from one that is attached.
    let mut memory = unsafe { MmapOptions::new().len(bytes).map_mut(&data.fd().as_fd()) }
        .map_err(KernelError::refused(what()))?;
    // SAFETY: `Value` types have no padding, so their bytes are initialised.
    memory.copy_from_slice(unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), bytes) });
    Ok(())
}

/// The mapping must lie within the map.
fn check(name: &str, data: &MapData, size: usize, count: usize) -> Result<(), KernelError> {
    let info = data.info().map_err(KernelError::refused(format!("map {name}: asking for its shape")))?;
    if info.value_size() as usize != size || (info.max_entries() as usize) < count {
        let problem =
            format!("{} values of {} bytes, need {count} of {size}", info.max_entries(), info.value_size());
        let advice = "this is a defect of the agent, please report it".to_owned();
        return Err(KernelError::PinnedLayout { path: name.to_owned(), problem, advice });
    }
    Ok(())
}
