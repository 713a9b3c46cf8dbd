//! bpf(2), where a test needs less than the library does: an element's bytes, read fast.

use std::os::fd::{AsRawFd as _, OwnedFd};

use bulkhead_abi::{AggregateKey, AggregateValue, AnswerRequest, Counter, Event};
use bulkhead_engine::Metadata;

const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;

/// The element part of `union bpf_attr`.
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Types that the kernel's bytes are read as.
///
/// # Safety
/// Any bytes that the programs under test write, and all zeros, must be a value.
pub unsafe trait Layout: Copy {}
// SAFETY: integers.
unsafe impl Layout for Counter {}
// SAFETY: integers.
unsafe impl Layout for Event {}
// SAFETY: integers.
unsafe impl Layout for AnswerRequest {}
// SAFETY: integers.
unsafe impl Layout for AggregateKey {}
// SAFETY: integers.
unsafe impl Layout for AggregateValue {}
// SAFETY: written by the engine only; all zeros is metadata, since its map starts so.
unsafe impl Layout for Metadata {}

/// The value of some bytes of the kernel's.
pub fn read<T: Layout>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: as many bytes as the type has, of which any are a value.
    unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
}

/// Reads an element into `value`, which must be as long as the kernel makes it: for a per-CPU
/// map one value, rounded up to 8 bytes, for each possible CPU.
pub fn lookup(map: &OwnedFd, key: &[u8], value: &mut [u8]) {
    let element = Element {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: key.as_ptr() as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: the attribute points to a key and a value of the map's sizes.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_ELEM, &raw const element, size_of::<Element>())
    };
    assert_eq!(answer, 0, "map look-up: {}", std::io::Error::last_os_error());
}
