//! Waits for what runs now: BPF programs on hooks run in RCU read sections.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use super::KernelError;
use super::syscall::{call, open};

/// Of `enum bpf_cmd`, linux/bpf.h.
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;

/// Of `enum bpf_map_type`.
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// Waits until every BPF program that runs now has ended.
///
/// # Errors
/// If the kernel offers no way to.
pub fn wait_for_programs() -> Result<(), KernelError> {
    let waited = match membarrier() {
        // With nohz_full the kernel has no such barrier (kernel commit 96f6d4444302).
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => update_of_a_map_in_a_map(),
        waited => waited,
    };
    waited.map_err(KernelError::refused("waiting for programs that run"))
}

/// The global memory barrier is a grace period (membarrier(2), kernel commit 5b25b13ab08f).
fn membarrier() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: no memory is passed.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `union bpf_attr` of `BPF_MAP_CREATE`.
#[repr(C)]
struct Create {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner: u32,
}

/// `union bpf_attr` of `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct Update {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Whoever puts a map into a map is told once no program uses the one that was there: the system call waits
/// for a grace period (kernel commit 1ae80cf31938).
fn update_of_a_map_in_a_map() -> io::Result<()> {
    let array = |kind, inner| -> io::Result<OwnedFd> {
        let mut create = Create { kind, key: 4, value: 4, entries: 1, flags: 0, inner };
        // SAFETY: the attribute of this command.
        unsafe { open(BPF_MAP_CREATE, &mut create) }
    };
    let inner = array(BPF_MAP_TYPE_ARRAY, 0)?;
    let outer = array(BPF_MAP_TYPE_ARRAY_OF_MAPS, inner.as_raw_fd().cast_unsigned())?;
    let (key, value) = (0u32, inner.as_raw_fd());
    let mut update = Update {
        map: outer.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: (&raw const key) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: the attribute of this command; key and value live on and are as long as the map's.
    unsafe { call(BPF_MAP_UPDATE_ELEM, &mut update) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::{membarrier, update_of_a_map_in_a_map};

    #[test]
    fn there_are_two_ways_to_wait() {
        membarrier().unwrap();
        update_of_a_map_in_a_map().unwrap();
    }
}
