//! The commands of bpf(2) that links need and aya lacks: a link is made by the interface's index and
//! never by another way than as a link, and what runs on a hook is asked of the kernel.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;

use super::Hook;

/// Commands of `enum bpf_cmd`, linux/bpf.h.
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;

/// Places of `enum bpf_attach_type`.
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// Before all others, if no other program is named.
const BPF_F_BEFORE: u32 = 1 << 3;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// As many programs as one TCX hook takes (`BPF_MPROG_MAX`, linux/bpf_mprog.h).
const MOST: usize = 64;

/// Makes a system call with one structure of `union bpf_attr`; the kernel's answer.
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: each caller passes a structure of plain integers as the kernel defines it for the command,
    // and what it points to lives on and is as long as it says.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(answer).unwrap_or(0)) }
}

fn descriptor(answer: i32) -> OwnedFd {
    // SAFETY: just opened by the kernel, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(answer) }
}

fn number(fd: BorrowedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)
}

/// `link_create` of `union bpf_attr`, with its part for TCX, which other links leave zero.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    index: u32,
    place: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

/// Attaches a program to a hook of the interface with this index in the calling thread's network
/// namespace; a TCX program before all others.
///
/// # Errors
/// What the kernel answers: `EBUSY` where another XDP program is, `EINVAL` where it has no such hook.
pub(super) fn attach(program: BorrowedFd, index: u32, hook: Hook) -> io::Result<OwnedFd> {
    let (place, flags) = match hook {
        Hook::TcxIngress => (BPF_TCX_INGRESS, BPF_F_BEFORE),
        Hook::TcxEgress => (BPF_TCX_EGRESS, BPF_F_BEFORE),
        Hook::XdpNative => (BPF_XDP, XDP_FLAGS_DRV_MODE),
        Hook::XdpGeneric => (BPF_XDP, XDP_FLAGS_SKB_MODE),
    };
    let mut attributes =
        LinkCreate { program: number(program), index, place, flags, ..LinkCreate::default() };
    bpf(BPF_LINK_CREATE, &mut attributes).map(descriptor)
}

/// `link_update` of `union bpf_attr`.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// Replaces a link's program atomically.
///
/// # Errors
/// `ENOLINK` if its interface is gone.
pub(super) fn update(link: BorrowedFd, program: BorrowedFd) -> io::Result<()> {
    let mut attributes = LinkUpdate { link: number(link), program: number(program), flags: 0, old: 0 };
    bpf(BPF_LINK_UPDATE, &mut attributes).map(drop)
}

/// What `BPF_OBJ_PIN` and `BPF_OBJ_GET` take.
#[repr(C)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins a link, map or program.
///
/// # Errors
/// `EEXIST` if something is there.
pub(super) fn pin(object: BorrowedFd, place: &Path) -> io::Result<()> {
    let place = path(place)?;
    let mut attributes = Pinned { path: place.as_ptr() as u64, fd: number(object), flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attributes).map(drop)
}

/// Opens what is pinned; `None` if nothing is.
///
/// # Errors
/// If it cannot be opened.
pub(super) fn open(place: &Path) -> io::Result<Option<OwnedFd>> {
    let place = path(place)?;
    let mut attributes = Pinned { path: place.as_ptr() as u64, fd: 0, flags: 0 };
    match bpf(BPF_OBJ_GET, &mut attributes) {
        Ok(answer) => Ok(Some(descriptor(answer))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What `BPF_OBJ_GET_INFO_BY_FD` takes.
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_link_info` as far as it is needed: its union begins with the interface's index
/// for TCX and XDP links alike (linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkInfo {
    kind: u32,
    /// The link's number.
    pub(super) id: u32,
    /// The program's number.
    pub(super) program: u32,
    padding: u32,
    /// The interface's index in the interface's namespace; 0 if it is gone or the link was detached.
    pub(super) index: u32,
    rest: [u32; 11],
}

/// What the kernel says of a link.
///
/// # Errors
/// If it is none.
pub(super) fn link_info(link: BorrowedFd) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attributes =
        GetInfo { fd: number(link), length: size_of::<LinkInfo>() as u32, info: (&raw mut info) as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// `query` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Query {
    index: u32,
    place: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// A program on a TCX hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnHook {
    /// Its number.
    pub(super) program: u32,
    /// The number of the link that holds it; 0 if none does.
    pub(super) link: u32,
}

/// The programs on a TCX hook of the interface with this index in the calling thread's network
/// namespace, in the order in which they run.
///
/// # Errors
/// `ENODEV` if there is no such interface.
///
/// # Panics
/// If the hook is none of TCX.
pub(super) fn chain(index: u32, hook: Hook) -> io::Result<Vec<OnHook>> {
    let place = match hook {
        Hook::TcxIngress => BPF_TCX_INGRESS,
        Hook::TcxEgress => BPF_TCX_EGRESS,
        Hook::XdpNative | Hook::XdpGeneric => unreachable!("XDP has one program, which the interface tells"),
    };
    let (mut programs, mut links) = ([0u32; MOST], [0u32; MOST]);
    let mut query = Query {
        index,
        place,
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        links: links.as_mut_ptr() as u64,
        ..Query::default()
    };
    match bpf(BPF_PROG_QUERY, &mut query) {
        Ok(_) => {}
        // Nothing was ever attached there (`bpf_mprog_query`, kernel/bpf/mprog.c).
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let found = programs.iter().zip(&links).take((query.count as usize).min(MOST));
    Ok(found.map(|(program, link)| OnHook { program: *program, link: *link }).collect())
}
