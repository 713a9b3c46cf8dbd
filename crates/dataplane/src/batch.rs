//! Reads a hash map or an LPM trie whole. Key after key would start over whenever a program has removed the last one
//! read, and is a call of the system for each.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Pod;
use aya::maps::MapData;

use super::KernelError;

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd`, from Linux 5.6 on.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
/// `BPF_MAP_DELETE_BATCH`, from Linux 5.6 on.
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;
/// Entries asked for at a time; more than any bucket has.
const BATCH: usize = 4096;

/// The part of `union bpf_attr` that the batch commands use.
#[repr(C)]
#[derive(Default)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Hands all entries of a hash map to `take`. Entries that come or go meanwhile may be missing; none comes twice.
///
/// # Errors
/// If the kernel refuses, or keys and values are of another size.
pub(super) fn read<K: Pod, V: Pod>(map: &MapData, mut take: impl FnMut(K, V)) -> Result<(), KernelError> {
    let info = map.info().map_err(KernelError::refused("reading a table"))?;
    if (info.key_size() as usize, info.value_size() as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(failed(io::Error::other("keys or values of another size")));
    }
    read_bytes(map, |key, value| {
        // SAFETY: as many bytes as the types have, and any bytes are a `Pod`.
        take(unsafe { key.as_ptr().cast::<K>().read_unaligned() }, unsafe {
            value.as_ptr().cast::<V>().read_unaligned()
        });
    })
}

fn failed(error: io::Error) -> KernelError {
    KernelError::refused("reading a table")(error)
}

/// The same, whatever keys and values are: as bytes.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn read_bytes(map: &MapData, mut take: impl FnMut(&[u8], &[u8])) -> Result<(), KernelError> {
    let info = map.info().map_err(KernelError::refused("reading a table"))?;
    let (key, value) = (info.key_size() as usize, info.value_size() as usize);
    let mut keys = vec![0u8; BATCH * key];
    let mut values = vec![0u8; BATCH * value];
    // Of hash maps the place is a bucket's number, of LPM tries the last key.
    let (mut place, mut next) = (vec![0u8; key.max(4)], vec![0u8; key.max(4)]);
    let mut is_first = true;
    loop {
        let mut batch = Batch {
            from: if is_first { 0 } else { place.as_ptr() as u64 },
            to: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH as u32,
            map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            ..Batch::default()
        };
        // SAFETY: the kernel writes at most `count` keys and values of these sizes, and one place.
        let error = unsafe { call(BPF_MAP_LOOKUP_BATCH, &mut batch) }.err();
        let is_last = error.as_ref().is_some_and(|error| error.raw_os_error() == Some(libc::ENOENT));
        if let Some(error) = error.filter(|_| !is_last) {
            return Err(failed(error));
        }
        let entries = keys.chunks_exact(key).zip(values.chunks_exact(value));
        entries.take(batch.count as usize).for_each(|(key, value)| take(key, value));
        if is_last {
            return Ok(());
        }
        place.copy_from_slice(&next);
        is_first = false;
    }
}

/// Removes entries of a hash map in their order.
///
/// # Errors
/// If the kernel refuses, or one is not there: those behind it stay.
pub(super) fn remove<K: Pod>(map: &MapData, keys: &[K]) -> Result<(), KernelError> {
    let failed = |error: io::Error| KernelError::refused("emptying a table")(error);
    let info = map.info().map_err(KernelError::refused("emptying a table"))?;
    if info.key_size() as usize != size_of::<K>() {
        return Err(failed(io::Error::other("keys of another size")));
    }
    for keys in keys.chunks(BATCH) {
        let mut batch = Batch {
            keys: keys.as_ptr() as u64,
            count: keys.len() as u32,
            map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            ..Batch::default()
        };
        // SAFETY: the kernel reads `count` keys of this size.
        unsafe { call(BPF_MAP_DELETE_BATCH, &mut batch) }.map_err(failed)?;
    }
    Ok(())
}

/// # Safety
/// What the batch points to has room for what the command reads and writes.
unsafe fn call(command: libc::c_int, batch: &mut Batch) -> io::Result<()> {
    // SAFETY: the attribute of these commands; the caller answers for what it points to.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *batch, size_of::<Batch>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
