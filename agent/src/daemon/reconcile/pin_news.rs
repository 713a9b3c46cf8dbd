//! News of pins: a directory of links that the reconciler watches tells when something in it changes, so that
//! between two whole looks no pin is asked for.

use std::fs::{File, Metadata};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// What happens to a directory's entries, and to itself.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The mounts that this process sees: polled, it tells when there is another (`POLLPRI`, proc_pid_mounts(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

/// Directories that are watched, all of them below one.
#[derive(Debug)]
pub struct PinNews {
    watch: OwnedFd,
    /// None if there are no news of mounts: whether one lies over the directories is asked for at every look then.
    mounts: Option<File>,
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
        Ok(Self { watch, mounts: File::open(MOUNTS).ok(), root, seen: None })
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

    /// Whether the paths still lead to what is watched, as far as no news would tell.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.seen.is_some() && (self.mounts.is_some() || self.seen == identity(&self.root))
    }

    /// Other descriptors of the same news, to wait for them.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn descriptors(&self) -> io::Result<Descriptors> {
        let mounts = self.mounts.as_ref().map(|mounts| mounts.try_clone().map(OwnedFd::from)).transpose()?;
        Ok(Descriptors { watch: self.watch.try_clone()?, mounts })
    }
}

/// What is polled for news of pins.
#[derive(Debug)]
pub struct Descriptors {
    watch: OwnedFd,
    mounts: Option<OwnedFd>,
}

impl Descriptors {
    /// What to poll.
    pub fn polls(&self) -> impl Iterator<Item = PollFd<'_>> {
        let mounts = self.mounts.iter().map(|mounts| PollFd::new(mounts, PollFlags::PRI));
        std::iter::once(PollFd::new(&self.watch, PollFlags::IN)).chain(mounts)
    }

    /// Takes what has come since; whether anything has, `polled` being what [`Self::polls`] gave. A poll that tells
    /// of another mount has taken that news.
    pub fn take(&self, polled: &[PollFd<'_>]) -> bool {
        let is_mounted = polled.iter().any(|poll| poll.revents().intersects(PollFlags::PRI | PollFlags::ERR));
        take(self.watch.as_fd()) || is_mounted
    }
}

fn take(watch: BorrowedFd) -> bool {
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
    use std::path::Path;
    use std::process::Command;

    use rustix::event::{Timespec, poll};

    use super::{Descriptors, PinNews};

    /// Whether there is news, and takes it.
    fn is_news(waiting: &Descriptors) -> bool {
        let mut polls: Vec<_> = waiting.polls().collect();
        poll(&mut polls, Some(&Timespec::default())).unwrap();
        waiting.take(&polls)
    }

    #[test]
    fn what_happens_to_a_pin_or_its_directory_is_news() {
        let root = std::env::temp_dir().join(format!("bulkhead-pin-news-{}", std::process::id()));
        let links = root.join("wg0");
        // Of mounts others tell as well, in tests that run at the same time.
        let mut news = PinNews { mounts: None, ..PinNews::below(root.clone()).unwrap() };
        let waiting = news.descriptors().unwrap();
        let is_news = || is_news(&waiting);
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

    #[test]
    fn what_is_mounted_over_the_pins_is_news() {
        let root = std::env::temp_dir().join(format!("bulkhead-pin-mounts-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let mut news = PinNews::below(root.clone()).unwrap();
        let waiting = news.descriptors().unwrap();
        news.begin();
        assert!(news.is_in_place());
        // Mounts of tests beside this one.
        while is_news(&waiting) {}
        let mount = |program: &str, words: &[&str], root: &Path| {
            assert!(Command::new(program).args(words).arg(root).status().unwrap().success(), "{program}");
        };
        mount("mount", &["-t", "tmpfs", "over"], &root);
        assert!(is_news(&waiting));
        mount("umount", &[], &root);
        assert!(is_news(&waiting));
        fs::remove_dir(root).unwrap();
    }
}
