//! Whether the kernel has what is needed: asked by doing it once. Its number tells nothing: distributions
//! take features over into older kernels.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use super::interface::kernel_release;
use super::link::Link;
use super::syscall::open;
use super::{Hook, KernelError};

/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;

/// Checks that a program can be put on a TCX hook and replaced there.
///
/// # Errors
/// What the kernel lacks, or why it refuses.
pub(super) fn check_tcx() -> Result<(), KernelError> {
    let pass_on = || constant(NEXT).map_err(KernelError::refused("trying a BPF program"));
    let (first, second) = (pass_on()?, pass_on()?);
    let link = Link::create(first.as_fd(), LOOPBACK, Hook::TcxEgress).map_err(|error| {
        lacks("TCX links", "Linux has them from 6.6 on, and RHEL from 9.4 on", "trying a TCX link", error)
    })?;
    link.update(second.as_fd()).map_err(|error| {
        lacks("updates of TCX links", "Linux has them from 6.6 on", "trying to update a TCX link", error)
    })
}

/// Checks that the kernel knows its own types.
///
/// # Errors
/// If it does not.
pub(super) fn check_btf() -> Result<(), KernelError> {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Ok(());
    }
    let needed = "a kernel built with CONFIG_DEBUG_INFO_BTF is needed";
    Err(KernelError::Feature { release: kernel_release(), feature: "BTF", needed })
}

/// Whether programs may interrupt each other on a CPU: PREEMPT_RT, where from 6.18 on bottom halves that
/// are disabled exclude no one (kernel commit 3253cb49cbad). Before, the programs only do more than they
/// need.
#[must_use]
pub fn is_realtime() -> bool {
    let says = |path, word: &str| std::fs::read_to_string(path).is_ok_and(|text| text.contains(word));
    // Not every such kernel has the first.
    says("/sys/kernel/realtime", "1") || says("/proc/sys/kernel/version", "PREEMPT_RT")
}

/// EINVAL is what a kernel answers that does not know a command, or a hook.
fn lacks(feature: &'static str, needed: &'static str, what: &'static str, error: io::Error) -> KernelError {
    match error.raw_os_error() {
        Some(libc::EINVAL) => KernelError::Feature { release: kernel_release(), feature, needed },
        _ => KernelError::refused(what)(error),
    }
}

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is needed.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    kernel_version: u32,
    flags: u32,
}

/// `TCX_NEXT`: every packet is left to the next program.
const NEXT: i32 = -1;

/// `TCX_DROP`: every packet is dropped.
pub(super) const DROP: i32 = 2;

/// Loads a classifier that has one answer for every packet.
///
/// # Errors
/// What the kernel answers.
pub(super) fn constant(answer: i32) -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
    // r0 = answer; exit
    let code = [u64::from(answer.cast_unsigned()) << 32 | 0xb7, 0x95];
    let mut attribute = Load {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log: [0; 2],
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attribute of this command; code and licence live on.
    unsafe { open(BPF_PROG_LOAD, &mut attribute) }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{check_btf, check_tcx, lacks};

    #[test]
    fn a_kernel_that_has_everything_is_told_so_by_trying() {
        check_tcx().unwrap();
        check_btf().unwrap();
    }

    #[test]
    fn what_is_lacking_has_a_name_and_what_is_forbidden_is_not_lacking() {
        let says = |error| {
            let lacks = lacks("TCX links", "wanted", "trying", io::Error::from_raw_os_error(error));
            format!("{:#}", anyhow::Error::from(lacks))
        };
        assert!(says(libc::EINVAL).ends_with("lacks TCX links: wanted"));
        assert!(says(libc::EPERM).starts_with("trying: Operation not permitted"));
    }
}
