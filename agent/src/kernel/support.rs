//! What the machine must offer before anything is touched.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::KernelError;
use super::probe::{check_btf, check_tcx};

/// `f_type` of the BPF file system, linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Checks privilege, kernel features and the BPF file system at `bpffs`, which is mounted if
/// it is not.
///
/// # Errors
/// What is missing, and what to do.
pub fn check_support(bpffs: &Path) -> Result<(), KernelError> {
    check_privilege()?;
    check_btf()?;
    check_tcx()?;
    check_bpffs(bpffs)
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

fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else {
        return false;
    };
    // SAFETY: all zeros is a valid statfs.
    let mut answer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated path and a statfs to fill in.
    let done = unsafe { libc::statfs(path.as_ptr(), &raw mut answer) } == 0;
    done && answer.f_type as u64 == BPF_FS_MAGIC
}

fn check_bpffs(path: &Path) -> Result<(), KernelError> {
    let refuse = |problem: String| KernelError::BpfFs { path: path.display().to_string(), problem };
    // Pins in a mount of this process's own (`ip netns exec` hides /sys/fs/bpf) would end
    // with it, and with them the enforcement.
    let private = || {
        refuse(
            "this process is in a private mount namespace, whose pins would vanish with it; \
             enter a network namespace with `nsenter --net=/run/netns/NAME`, not `ip netns exec`"
                .to_owned(),
        )
    };
    if is_bpffs(path) {
        return if is_shared_with_host(path) { Ok(()) } else { Err(private()) };
    }
    if !is_first_mount_namespace() {
        return Err(private());
    }
    let (source, kind) = (c"bpf", c"bpf");
    let target =
        CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| refuse(error.to_string()))?;
    // SAFETY: NUL-terminated strings, no data.
    let done = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if done != 0 {
        let error = std::io::Error::last_os_error();
        return Err(refuse(format!(
            "no BPF file system there, and mounting one failed ({error}); run `mount -t bpf bpf {}`",
            path.display()
        )));
    }
    Ok(())
}

/// Whether the first process sees the same file system there. One that may not look is in a
/// container, whose mounts are its operator's choice.
fn is_shared_with_host(path: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let outside = Path::new("/proc/1/root").join(path.strip_prefix("/").unwrap_or(path));
    match (device(path), device(&outside)) {
        (own, Some(first)) => own == Some(first),
        (_, None) => true,
    }
}

fn is_first_mount_namespace() -> bool {
    let inode = |path: &str| std::fs::metadata(path).map(|metadata| metadata.ino()).ok();
    match (inode("/proc/self/ns/mnt"), inode("/proc/1/ns/mnt")) {
        (Some(own), Some(first)) => own == first,
        // Another process's namespace may be unreadable; a container's own bpffs is its operator's choice.
        _ => true,
    }
}
