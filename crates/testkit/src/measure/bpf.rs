//! bpf(2) for maps and programs that are written here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Hook;

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const OBJ_GET: libc::c_int = 7;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

/// Map types of linux/bpf.h.
pub const ARRAY: u32 = 2;
/// Programs to go on with.
pub const PROG_ARRAY: u32 = 3;
/// Hash that evicts what was not used lately.
pub const LRU_HASH: u32 = 9;
/// Longest prefix match.
pub const LPM_TRIE: u32 = 11;

const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;
/// `expected_attach_type` of XDP programs: a tail call wants the same on both sides.
const ATTACH_XDP: u32 = 37;
/// `attach_type` of a classifier at TCX.
const ATTACH_TCX_INGRESS: u32 = 46;
const ATTACH_TCX_EGRESS: u32 = 47;
/// The driver runs the program, or the attachment is refused.
const DRIVER_MODE: u32 = 1 << 2;
/// Before all others, where no other program is named.
const BEFORE: u32 = 1 << 3;
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`.
const MAPPED: u32 = 1 << 10;
const LIVE_FRAMES: u32 = 1 << 1;

/// Calls bpf(2) with a part of `union bpf_attr`.
fn call<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: callers pass attributes of the kernel's layout whose pointers are valid.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if answer >= 0 { Ok(answer) } else { Err(io::Error::last_os_error()) }
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: bpf(2) has just returned it as a new descriptor.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Makes a map of a type with keys and values of these sizes, in bytes.
///
/// # Errors
/// If the kernel refuses.
pub fn create(kind: u32, key: u32, value: u32, entries: u32) -> Result<OwnedFd> {
    let flags = if kind == LPM_TRIE { NO_PREALLOC } else { 0 };
    create_with(kind, key, value, entries, flags)
}

/// Makes an array that processes can map into their memory, with values of this size, in bytes.
///
/// # Errors
/// If the kernel refuses.
pub fn create_mapped(value: u32, entries: u32) -> Result<OwnedFd> {
    create_with(ARRAY, 4, value, entries, MAPPED)
}

fn create_with(kind: u32, key: u32, value: u32, entries: u32, flags: u32) -> Result<OwnedFd> {
    let mut attribute = [kind, key, value, entries, flags, 0];
    let fd = call(MAP_CREATE, &mut attribute)
        .with_context(|| format!("make a map of type {kind} with {entries} entries"))?;
    Ok(owned(fd))
}

/// Writes an element. `key` and `value` must have the map's sizes.
///
/// # Errors
/// If the kernel refuses.
pub fn update(map: &OwnedFd, key: &[u8], value: &[u8]) -> Result<()> {
    let mut attribute = [map.as_raw_fd() as u64, key.as_ptr() as u64, value.as_ptr() as u64, 0];
    call(MAP_UPDATE, &mut attribute).context("write an element of a map")?;
    Ok(())
}

/// Whether a map has a key; its value goes to `value`. Both must have the map's sizes.
pub fn has(map: &OwnedFd, key: &[u8], value: &mut [u8]) -> bool {
    let mut attribute = [map.as_raw_fd() as u64, key.as_ptr() as u64, value.as_mut_ptr() as u64, 0];
    call(MAP_LOOKUP, &mut attribute).is_ok()
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` uses.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// Loads a program.
///
/// # Errors
/// What the verifier said.
pub fn load(hook: Hook, instructions: &[u64]) -> Result<OwnedFd> {
    let mut log = vec![0; 1 << 16];
    let (kind, attach_type) = match hook {
        Hook::Tc => (SCHED_CLS, 0),
        Hook::Xdp => (XDP, ATTACH_XDP),
    };
    let mut attribute = Load {
        kind,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type,
    };
    match call(PROG_LOAD, &mut attribute) {
        Ok(fd) => Ok(owned(fd)),
        Err(error) => {
            bail!("load a program: {error}\n{}", String::from_utf8_lossy(&log).trim_end_matches('\0'))
        }
    }
}

/// The part of `union bpf_attr` that `BPF_PROG_TEST_RUN` uses.
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
    context: [u64; 3],
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// What runs of a program took.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// What the last one returned.
    pub returned: i32,
    /// CPU time of this thread, ns a run. The kernel's own figure is in whole ns.
    pub nanoseconds: f64,
}

fn test_run(program: BorrowedFd, packet: &[u8], repeat: u32, flags: u32) -> Result<i32> {
    let mut attribute = Run {
        program: program.as_raw_fd() as u32,
        returned: 0,
        size_in: packet.len() as u32,
        size_out: 0,
        data_in: packet.as_ptr() as u64,
        data_out: 0,
        repeat,
        duration: 0,
        context: [0; 3],
        flags,
        cpu: 0,
        batch: 0,
        padding: 0,
    };
    loop {
        match call(PROG_TEST_RUN, &mut attribute) {
            Ok(_) => return Ok(attribute.returned as i32),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("run a program"),
        }
    }
}

/// Runs a program on a packet, which it may change for the runs after.
///
/// # Errors
/// If the kernel refuses.
pub fn run(program: BorrowedFd, packet: &[u8], repeat: u32) -> Result<Ran> {
    let start = thread_time();
    let returned = test_run(program, packet, repeat, 0)?;
    let time = thread_time().saturating_sub(start);
    Ok(Ran { returned, nanoseconds: time.as_nanos() as f64 / f64::from(repeat) })
}

/// Runs an XDP program on frames that go where it says (`BPF_F_TEST_XDP_LIVE_FRAMES`), in this
/// thread's network namespace.
///
/// # Errors
/// If the kernel refuses.
pub fn send(program: BorrowedFd, frame: &[u8], count: u32) -> Result<()> {
    test_run(program, frame, count, LIVE_FRAMES).map(drop)
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` uses, without what TCX could be told of its place.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    place: [u64; 2],
}

/// Where on an interface a program can be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// XDP, by the driver.
    Xdp,
    /// TCX, ingress.
    TcxIngress,
    /// TCX, egress.
    TcxEgress,
}

/// Puts a program on an interface of this thread's network namespace. Closing the link takes it off.
///
/// # Errors
/// If the kernel refuses.
pub fn attach(place: Place, program: BorrowedFd, interface: u32) -> Result<OwnedFd> {
    create_link(place, program, interface, 0)
}

/// The same, before all other programs that are there.
///
/// # Errors
/// If the kernel refuses, as it does for XDP, which has no order.
pub fn attach_first(place: Place, program: BorrowedFd, interface: u32) -> Result<OwnedFd> {
    create_link(place, program, interface, BEFORE)
}

fn create_link(place: Place, program: BorrowedFd, interface: u32, order: u32) -> Result<OwnedFd> {
    let (attach_type, flags) = match place {
        Place::Xdp => (ATTACH_XDP, DRIVER_MODE | order),
        Place::TcxIngress => (ATTACH_TCX_INGRESS, order),
        Place::TcxEgress => (ATTACH_TCX_EGRESS, order),
    };
    let program = program.as_raw_fd() as u32;
    let mut attribute = Link { program, interface, attach_type, flags, place: [0; 2] };
    call(LINK_CREATE, &mut attribute)
        .map(owned)
        .with_context(|| format!("attach a program to interface {interface}"))
}

/// Detaches a pinned link, as `bpftool link detach` does: the pin stays, and holds nothing.
///
/// # Errors
/// If nothing is pinned there, or the kernel refuses.
pub fn detach(pin: &Path) -> Result<()> {
    let link = pinned(pin)?;
    let mut attribute = link.as_raw_fd();
    call(LINK_DETACH, &mut attribute).with_context(|| format!("detach {pin:?}"))?;
    Ok(())
}

/// Puts another program into a pinned link, as anybody with the right to can.
///
/// # Errors
/// If nothing is pinned there, or the kernel refuses.
pub fn update_link(pin: &Path, program: BorrowedFd) -> Result<()> {
    let link = pinned(pin)?;
    let mut attribute = [link.as_raw_fd(), program.as_raw_fd(), 0, 0];
    call(LINK_UPDATE, &mut attribute).with_context(|| format!("update {pin:?}"))?;
    Ok(())
}

fn pinned(pin: &Path) -> Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_encoded_bytes())?;
    let mut attribute = [path.as_ptr() as u64, 0];
    call(OBJ_GET, &mut attribute).map(owned).with_context(|| format!("open {pin:?}"))
}

/// CPU time that this thread has used.
#[must_use]
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
