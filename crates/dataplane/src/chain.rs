//! What runs on a TCX hook, in its order: asked of the kernel.

use std::io;

use super::syscall::call;

/// Of `enum bpf_cmd`, linux/bpf.h.
const BPF_PROG_QUERY: libc::c_int = 16;

/// As many programs as one TCX hook takes (`BPF_MPROG_MAX`, linux/bpf_mprog.h).
const MOST: usize = 64;

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

/// The programs on a TCX hook (`BPF_TCX_INGRESS` or `BPF_TCX_EGRESS`) of the interface with this index in the calling thread's network
/// namespace, in the order in which they run.
///
/// # Errors
/// `ENODEV` if there is no such interface.
pub(super) fn chain(index: u32, place: u32) -> io::Result<Vec<OnHook>> {
    let (mut programs, mut links) = ([0u32; MOST], [0u32; MOST]);
    let mut query = Query {
        index,
        place,
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        links: links.as_mut_ptr() as u64,
        ..Query::default()
    };
    // SAFETY: the attribute of this command; both arrays are as long as it says.
    match unsafe { call(BPF_PROG_QUERY, &mut query) } {
        Ok(_) => {}
        // Nothing was ever attached there (`bpf_mprog_query`, kernel/bpf/mprog.c).
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let found = programs.iter().zip(&links).take((query.count as usize).min(MOST));
    Ok(found.map(|(program, link)| OnHook { program: *program, link: *link }).collect())
}
