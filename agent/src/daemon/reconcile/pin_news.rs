//! News of pins: a directory of links that the reconciler watches tells when something in it changes, so that
//! between two whole looks no pin is asked for.

use std::fs::Metadata;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// What happens to a directory's entries, and to itself.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Directories that are watched, all of them below one.
#[derive(Debug)]
pub struct PinNews {
    watch: OwnedFd,
    root: PathBuf,
    /// Device and inode of `root`, by which a file system over it is told.
    seen: Option<(u64, u64)>,
}

impl PinNews {
    /// Watches nothing yet. `root` holds all that will be.
    ///
    /// # Errors
    /// If the user has as many watches as the kernel allows (`fs.inotify.max_user_instances`).
    pub fn below(root: PathBuf) -> io::Result<Self> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { watch, root, seen: None })
    }

    /// To begin with, before the directories are watched and looked into: what lies over them from here on is
    /// told by [`Self::is_in_place`].
    pub fn begin(&mut self) {
        self.seen = identity(&self.root);
    }

    /// Watches a directory. It may be watched already.
    ///
    /// # Errors
    /// If it is not there.
    pub fn watch(&self, directory: &Path) -> io::Result<()> {
        inotify::add_watch(&self.watch, directory, CHANGES)?;
        Ok(())
    }

    /// Whether the paths still lead to what is watched.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.seen.is_some() && self.seen == identity(&self.root)
    }

    /// Another descriptor of the same news, to wait for them.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.watch.try_clone()
    }
}

/// Takes what has come by a descriptor of news; whether anything has.
pub fn take(watch: BorrowedFd) -> bool {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch.as_fd(), &mut buffer);
    let mut any = false;
    loop {
        match reader.next() {
            Ok(_) => any = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return any,
            // What cannot be read may be anything.
            Err(_) => return true,
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let of = |found: Metadata| (found.dev(), found.ino());
    std::fs::metadata(path).ok().map(of)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use super::{PinNews, take};

    #[test]
    fn what_happens_to_a_pin_or_its_directory_is_news() {
        let root = std::env::temp_dir().join(format!("bulkhead-pin-news-{}", std::process::id()));
        let links = root.join("wg0");
        let mut news = PinNews::below(root.clone()).unwrap();
        let waiting = news.descriptor().unwrap();
        let is_news = || take(waiting.as_fd());
        assert!(!news.is_in_place() && news.watch(&links).is_err(), "nothing is there");
        fs::create_dir_all(&links).unwrap();
        fs::write(links.join("pin"), "").unwrap();
        news.begin();
        news.watch(&links).unwrap();
        news.watch(&links).unwrap();
        assert!(news.is_in_place() && !is_news());
        fs::remove_file(links.join("pin")).unwrap();
        assert!(is_news() && !is_news());
        fs::write(root.join("other"), "").unwrap();
        assert!(!is_news());
        fs::rename(root.join("other"), links.join("pin")).unwrap();
        assert!(is_news());
        fs::rename(&links, root.join("elsewhere")).unwrap();
        assert!(is_news());
        // Another directory in the place of all of them.
        let aside = root.with_extension("aside");
        fs::rename(&root, &aside).unwrap();
        fs::create_dir(&root).unwrap();
        assert!(!news.is_in_place());
        for path in [root, aside] {
            fs::remove_dir_all(path).unwrap();
        }
    }
}
