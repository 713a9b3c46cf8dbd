//! Whose a socket is (proc(5)).

use std::collections::BTreeMap;

use procfs::process::{FDTarget, all_processes};

/// A process that has a socket open.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Owner {
    /// Its process id.
    pub pid: i32,
    /// What it calls itself.
    pub name: String,
}

/// Processes by the inodes of their sockets, as far as this process may look. That reads every process's
/// descriptors. Of several that have one open, the first; but a service rather than process 1, which listens for it.
pub fn of_sockets() -> BTreeMap<u64, Owner> {
    let mut owners = BTreeMap::new();
    for process in all_processes().into_iter().flatten().flatten() {
        // It may end while it is looked at.
        let (Ok(stat), Ok(open)) = (process.stat(), process.fd()) else { continue };
        for descriptor in open.flatten() {
            if let FDTarget::Socket(inode) = descriptor.target {
                let owner =
                    owners.entry(inode).or_insert_with(|| Owner { pid: stat.pid, name: stat.comm.clone() });
                if owner.pid == 1 {
                    *owner = Owner { pid: stat.pid, name: stat.comm.clone() };
                }
            }
        }
    }
    owners
}
