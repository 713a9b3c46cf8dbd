//! Who this process is to a program that looks at who sends.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bulkhead_engine::memory::Sender;

/// Who sends what BPF_PROG_TEST_RUN hands to a classifier: a socket of this process. XDP is not asked.
pub fn own_sender() -> Sender {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup2");
    let mut path = PathBuf::from(mount.split(' ').nth(4).expect("a mount point"));
    let own = fs::read_to_string("/proc/self/cgroup").expect("the own cgroup");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup of cgroup2");
    // One may be removed meanwhile, by a test beside this one.
    let id = |path: &Path| fs::metadata(path).map_or(0, |found| found.ino());
    let mut cgroups = vec![id(&path)];
    for name in own.split('/').filter(|name| !name.is_empty()) {
        path.push(name);
        cgroups.push(id(&path));
    }
    let is_kernel = cgroups.len() == 1;
    Sender { cgroups, is_kernel, is_packet_socket: false }
}
