//! Which cgroups a workload's sockets are of.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use bulkhead_api::status;

use super::Workload;
use crate::daemon::workloads::mount_point;

/// Cgroups of one workload that are looked at.
const CGROUPS: usize = 4096;

impl Workload {
    /// As it runs now.
    #[must_use]
    pub fn now(workload: status::Workload) -> Self {
        let cgroups = workload.cgroup.as_deref().map(below).unwrap_or_default();
        Self { name: workload.name, addresses: workload.addresses, cgroups }
    }
}

/// The ids of a cgroup and of those below it, which are the inodes of their directories.
fn below(path: &str) -> BTreeSet<u64> {
    let Ok(root) = mount_point() else { return BTreeSet::new() };
    let mut todo: Vec<PathBuf> = vec![root.join(path.trim_start_matches('/'))];
    let mut found = BTreeSet::new();
    while let Some(directory) = todo.pop() {
        let Ok(metadata) = fs::metadata(&directory) else { continue };
        found.insert(metadata.ino());
        if found.len() == CGROUPS {
            break;
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        todo.extend(entries.filter(is_directory).map(|entry| entry.path()));
    }
    found
}
