//! What the machine must offer before anything is touched.

use std::path::Path;

use super::probe::{check_btf, check_tcx};
use super::{KernelError, bpffs};

/// Checks privilege, kernel features and the BPF file system at `bpffs`, which is mounted if
/// it is not; `is_the_hosts`: the operator says that it is the host's, which a container cannot know.
///
/// # Errors
/// What is missing, and what to do.
pub fn check_support(bpffs: &Path, is_the_hosts: bool) -> Result<(), KernelError> {
    check_privilege()?;
    check_btf()?;
    check_tcx()?;
    bpffs::check(bpffs, is_the_hosts)
}

fn check_privilege() -> Result<(), KernelError> {
    const CAP_NET_ADMIN: u32 = 12;
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    let bpf = has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON);
    if bpf && has(CAP_NET_ADMIN) { Ok(()) } else { Err(KernelError::Privilege) }
}
