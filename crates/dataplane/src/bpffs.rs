//! The BPF file system: pins must outlive the process, and whatever it runs in.

use std::ffi::CString;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::KernelError;
use bulkhead_host::places;

/// `f_type` of the BPF file system, linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// The inode of the first process namespace, `PROC_PID_INIT_INO` in linux/proc_ns.h: only there is the
/// process with number 1 the host's.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// What to do in a container.
const IN_A_CONTAINER: &str = "this process is in a container, and the BPF file system may end with it, and with it what is enforced; \
     bind-mount the host's /sys/fs/bpf there and say so by --bpffs-is-the-hosts, or run the agent on the host";
/// What to do in a mount namespace of one's own.
const PRIVATE: &str = "this process is in a private mount namespace, whose pins would vanish with it; \
     enter a network namespace with `nsenter --net=/run/netns/NAME`, not `ip netns exec`";

/// Checks the BPF file system at `path`, which is mounted if it is not.
///
/// Pins in a mount that only this process's mount namespace has (`ip netns exec` hides /sys/fs/bpf)
/// would end with it, and with them the enforcement. Where the host's first process can be asked, it
/// must have the same file system mounted; where it cannot, nothing proves that somebody else holds it, and
/// `is_the_hosts` is the operator's word that it is the host's.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn check(path: &Path, is_the_hosts: bool) -> Result<(), KernelError> {
    let refuse =
        |problem: &str| KernelError::BpfFs { path: path.display().to_string(), problem: problem.to_owned() };
    let sees_host = sees_the_hosts_first_process();
    if is_bpffs(path) {
        match sees_host {
            true if !is_shared_with_host(path) => return Err(refuse(PRIVATE)),
            false if !is_the_hosts => return Err(refuse(IN_A_CONTAINER)),
            _ => {}
        }
    } else {
        match sees_host {
            true if !is_in_the_hosts_mount_namespace() => return Err(refuse(PRIVATE)),
            false => return Err(refuse(IN_A_CONTAINER)),
            true => mount(path)?,
        }
    }
    // Mounted by hand it lets everybody make what the agent will look for; systemd's does not.
    if places::keep_others_from_writing(path).map_err(KernelError::refused("the BPF file system"))? {
        tracing::warn!("{}: others could write to it, and cannot any more", path.display());
    }
    Ok(())
}

fn mount(path: &Path) -> Result<(), KernelError> {
    let refuse = |problem: String| KernelError::BpfFs { path: path.display().to_string(), problem };
    let (source, kind, data) = (c"bpf", c"bpf", c"mode=0700");
    let target =
        CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| refuse(error.to_string()))?;
    // SAFETY: NUL-terminated strings; a bpffs reads its data as one.
    let done =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, data.as_ptr().cast()) };
    if done != 0 {
        let error = std::io::Error::last_os_error();
        return Err(refuse(format!(
            "no BPF file system there, and mounting one failed ({error}); run `mount -t bpf -o mode=0700 bpf {}`",
            path.display()
        )));
    }
    Ok(())
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|answer| answer.f_type as u64 == BPF_FS_MAGIC)
}

fn inode(path: &str) -> Option<u64> {
    std::fs::metadata(path).map(|metadata| metadata.ino()).ok()
}

/// Whether process 1 is the host's first one.
fn sees_the_hosts_first_process() -> bool {
    inode("/proc/self/ns/pid") == Some(FIRST_PID_NAMESPACE)
}

/// Whether the host's first process has the same file system mounted, wherever: its list of mounts can be
/// read without the right to trace it, unlike what is mounted.
fn is_shared_with_host(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/1/mountinfo").unwrap_or_default();
    let device = std::fs::metadata(path).map(|metadata| metadata.dev());
    is_in_the_hosts_mount_namespace() || device.is_ok_and(|device| has_mounted(&mounts, device))
}

/// Whether a list of mounts (proc_pid_mountinfo(5)) has the file system with this device number.
fn has_mounted(mounts: &str, device: u64) -> bool {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    mounts.lines().any(|mount| mount.split(' ').nth(2) == Some(&device))
}

/// Whether this is the mount namespace of the host's first process, or of the kernel's own.
fn is_in_the_hosts_mount_namespace() -> bool {
    let own = inode("/proc/self/ns/mnt");
    own.is_some() && ["/proc/1/ns/mnt", "/proc/2/ns/mnt"].into_iter().any(|first| inode(first) == own)
}

#[cfg(test)]
mod tests {
    use super::has_mounted;

    #[test]
    fn a_file_system_is_known_by_its_device() {
        let mounts = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n42 23 0:39 / /sys/fs/bpf rw shared:7 - bpf bpf rw\n";
        let device = |minor| rustix::fs::makedev(0, minor);
        assert!(has_mounted(mounts, device(39)) && has_mounted(mounts, device(38)));
        assert!(
            !has_mounted(mounts, device(3))
                && !has_mounted(mounts, device(42))
                && !has_mounted("", device(39))
        );
    }
}
