//! What the hooks really run, asked of the kernel: it answers without an agent too.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use aya::maps::MapInfo;
use aya::programs::loaded_programs;

use super::{Hook, KernelError, Pins};

/// One pinned link.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunningLink {
    /// The interface's name when it was attached.
    pub interface: String,
    /// The hook.
    pub hook: Hook,
    /// The interface's index; 0 if it is gone, and with it the enforcement.
    pub index: u32,
    /// The generation whose tables the program reads; none if its pins are gone.
    pub generation: Option<u32>,
    /// The layout version of the agent that pinned it.
    pub layout: u32,
}

/// Every pinned link, of every layout, and what it runs.
///
/// # Errors
/// If the pins cannot be read.
pub fn running(pins: &Pins) -> Result<Vec<RunningLink>, KernelError> {
    let mut generation_of = HashMap::new();
    let mut programs: HashMap<u32, Option<u32>> = HashMap::new();
    let mut seen = Vec::new();
    let others = pins.others()?;
    for pins in [pins].into_iter().chain(&others) {
        for number in pins.generations()? {
            // One that was just being built or freed has no such map. While a candidate observes, it is
            // its program that the hook names.
            let exchange = pins.exchange();
            let tables = [pins, &exchange].into_iter();
            for path in tables.flat_map(|pins| ["TRIE4", "SHADOW_TRIE4"].map(|map| pins.table(number, map))) {
                if let Ok(info) = MapInfo::from_pin(path) {
                    generation_of.insert(info.id(), number);
                }
            }
        }
        for (interface, hook) in pins.links()? {
            let Some((program, index)) = link_info(&pins.link(&interface, hook))? else { continue };
            programs.insert(program, None);
            seen.push((interface, hook, index, program, pins.version()));
        }
    }
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    for info in loaded_programs().flatten() {
        if let Some(generation) = programs.get_mut(&info.id()) {
            let maps = info.map_ids().ok().flatten().unwrap_or_default();
            *generation = maps.iter().find_map(|map| generation_of.get(map).copied());
        }
    }
    let link = |(interface, hook, index, program, layout)| RunningLink {
        interface,
        hook,
        index,
        generation: programs.get(&program).copied().flatten(),
        layout,
    };
    Ok(seen.into_iter().map(link).collect())
}

/// `struct bpf_link_info` as far as it is needed: its union starts with the interface's index
/// for TCX and XDP links alike (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    index: u32,
    rest: [u32; 11],
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET` uses.
#[repr(C)]
struct GetPinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` uses.
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Detaches a pinned link at once. Without its pin it is detached too, but some time later.
pub(super) fn detach_now(pin: &Path) -> Result<(), KernelError> {
    let what = format!("{}: detaching", pin.display());
    let Some(link) = open(pin, &what)? else { return Ok(()) };
    let detach = link.as_raw_fd();
    // SAFETY: an attribute that is a descriptor, of the size that is given.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, &raw const detach, size_of_val(&detach)) };
    if done < 0 { Err(KernelError::refused(what)(std::io::Error::last_os_error())) } else { Ok(()) }
}

/// A pinned link, if it still is there.
fn open(pin: &Path, what: &str) -> Result<Option<OwnedFd>, KernelError> {
    let failed = || KernelError::refused(what)(std::io::Error::last_os_error());
    let path = CString::new(pin.as_os_str().as_encoded_bytes()).map_err(KernelError::refused(what))?;
    let get = GetPinned { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: a NUL-terminated path, in an attribute of the size that is given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw const get, size_of::<GetPinned>()) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        let error = failed();
        return if pin.exists() { Err(error) } else { Ok(None) };
    }
    // SAFETY: just opened, and nobody else's.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// The program's number and the interface's index of a pinned link, if it still is there. aya
/// tells only the first.
fn link_info(pin: &Path) -> Result<Option<(u32, u32)>, KernelError> {
    let what = format!("{}: asking what it runs", pin.display());
    let Some(fd) = open(pin, &what)? else { return Ok(None) };
    let mut info = LinkInfo::default();
    let mut get = GetInfo {
        fd: fd.as_raw_fd().cast_unsigned(),
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes at most `length` bytes to `info`, which lives on.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut get, size_of::<GetInfo>()) };
    if done < 0 {
        return Err(KernelError::refused(what)(std::io::Error::last_os_error()));
    }
    Ok(Some((info.program, info.index)))
}
