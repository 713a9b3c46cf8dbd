//! bpf(2) for programs that are written here, instruction by instruction.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;

/// Map types of linux/bpf.h.
pub const ARRAY: u32 = 2;
pub const PROG_ARRAY: u32 = 3;
pub const LRU_HASH: u32 = 9;
const SCHED_CLS: u32 = 3;

/// Calls bpf(2) with a part of `union bpf_attr`.
fn call<T>(command: libc::c_int, attribute: &mut T, what: &str) -> libc::c_long {
    // SAFETY: callers pass attributes of the kernel's layout whose pointers are valid.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    assert!(answer >= 0, "{what}: {}", std::io::Error::last_os_error());
    answer
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: bpf(2) has just returned it as a new descriptor.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

pub fn create(kind: u32, key: u32, value: u32, entries: u32) -> OwnedFd {
    let mut attribute = [kind, key, value, entries, 0, 0];
    owned(call(MAP_CREATE, &mut attribute, "creating a map"))
}

pub fn update(map: &OwnedFd, key: &[u8], value: &[u8]) {
    let mut attribute = [map.as_raw_fd() as u64, key.as_ptr() as u64, value.as_ptr() as u64, 0];
    call(MAP_UPDATE, &mut attribute, "updating a map");
}

/// Whether a map has a key; its value goes to `value`.
pub fn has(map: &OwnedFd, key: &[u8], value: &mut [u8]) -> bool {
    let mut attribute = [map.as_raw_fd() as u64, key.as_ptr() as u64, value.as_mut_ptr() as u64, 0];
    // SAFETY: an attribute of the kernel's layout; key and value have the map's sizes.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP, attribute.as_mut_ptr(), size_of_val(&attribute)) };
    answer == 0
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// Loads a classifier.
pub fn load(instructions: &[u64]) -> OwnedFd {
    let mut log = vec![0; 1 << 16];
    let mut attribute = Load {
        kind: SCHED_CLS,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
    };
    // SAFETY: an attribute of the kernel's layout whose pointers are valid.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw mut attribute, size_of::<Load>()) };
    assert!(answer >= 0, "{}", String::from_utf8_lossy(&log).trim_end_matches('\0'));
    owned(answer)
}

#[repr(C)]
struct Run {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context: [u64; 4],
}

/// Runs a classifier on a packet, which it may change for the runs after; returns what the
/// last run returned and the mean of all in ns.
pub fn run(program: BorrowedFd, packet: &[u8], repeat: u32) -> (i32, f64) {
    let mut attribute = Run {
        program: program.as_raw_fd() as u32,
        returned: 0,
        size_in: packet.len() as u32,
        size_out: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat,
        duration: 0,
        context: [0; 4],
    };
    call(PROG_TEST_RUN, &mut attribute, "running a program");
    (attribute.returned as i32, f64::from(attribute.duration))
}
