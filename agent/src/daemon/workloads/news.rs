//! News of cgroups that come and go, by inotify: a watch on each, since a file system cannot be watched as a whole.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// What is watched.
pub struct News {
    inotify: OwnedFd,
    watched: BTreeSet<PathBuf>,
}

impl News {
    /// Nothing is watched yet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, watched: BTreeSet::new() })
    }

    /// Watches every cgroup below the root, and the root; those that are watched already at no cost. What cannot be
    /// watched is found by looks that are taken anyhow.
    pub fn watch(&mut self, root: &Path) {
        let mut left = vec![root.to_owned()];
        let mut there = BTreeSet::new();
        while let Some(directory) = left.pop() {
            if !self.watched.contains(&directory) {
                let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
                if inotify::add_watch(&self.inotify, &directory, flags).is_err() {
                    continue;
                }
            }
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            let inner = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            left.extend(inner.map(|entry| entry.path()));
            there.insert(directory);
        }
        self.watched = there;
    }

    /// What is to be polled.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Takes all that has come. A directory that is gone, and may come again under its name, is watched anew.
    pub fn take(&mut self) {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut is_any = false;
        while reader.next().is_ok() {
            is_any = true;
        }
        if is_any {
            self.watched.clear();
        }
    }
}
