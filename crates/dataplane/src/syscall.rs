//! bpf(2), for what aya does not offer.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};

use aya::maps::MapData;
use bulkhead_host::spare;

/// bpf(2).
///
/// # Safety
/// The attribute must be the command's, and what it points at be there.
pub(super) unsafe fn call<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_long> {
    let attribute = std::ptr::from_mut(attribute);
    // SAFETY: the caller's; the size is the attribute's.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// bpf(2) for a command that answers with a new descriptor, of the reserve's if there is no other.
///
/// # Safety
/// As for [`call`].
pub(super) unsafe fn open<T>(command: libc::c_int, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = spare::open(|| unsafe { call(command, attribute) })?;
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Of `enum bpf_cmd`, linux/bpf.h.
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

/// Reads an element of a map that is not one for each CPU; `value` is as long as the map's. Whether there is one.
///
/// # Errors
/// If the kernel refuses, or keys or values are of another size.
pub(super) fn lookup(map: &MapData, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let info = map.info().map_err(io::Error::other)?;
    if (info.key_size() as usize, info.value_size() as usize) != (key.len(), value.len()) {
        return Err(io::Error::other("keys or values of another size"));
    }
    let map = map.fd().as_fd().as_raw_fd().cast_unsigned();
    let (key, value) = (key.as_ptr() as u64, value.as_mut_ptr() as u64);
    let mut element = Element { map, padding: 0, key, value, flags: 0 };
    // SAFETY: the attribute of this command; key and value are as long as the map has them.
    match unsafe { call(BPF_MAP_LOOKUP_ELEM, &mut element) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
