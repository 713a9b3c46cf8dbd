//! The cgroups of the host, as the file system of cgroup2 has them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The root cgroup has this id on every host. The root of a container's view has another.
const ROOT: u64 = 1;

/// Looks at the tree until two agree in which cgroups there are; after so many the last one counts.
const ATTEMPTS: usize = 8;

/// One cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path below the root, which begins with `/`, as people and patterns have it.
    pub path: String,
    /// Its directory below the mount point, to open it by.
    pub directory: PathBuf,
    /// Its id: the inode of its directory. Later cgroups have higher ones.
    pub id: u64,
    /// How far below the root it lies.
    pub level: u32,
    /// It and each above it belongs to root: nobody else has made it.
    pub is_roots: bool,
    /// The agent itself is in it, or in one below it.
    pub is_agents: bool,
}

/// The agent's own cgroup, as a directory below the mount point: the root if there is no telling.
fn own() -> PathBuf {
    let written = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = written.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    PathBuf::from(path)
}

/// All cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Each, a parent before its children.
    pub cgroups: Vec<Cgroup>,
    /// No cgroup with this id or a lower one is missing.
    pub last: u64,
}

/// Where cgroup2 is mounted as a whole.
///
/// # Errors
/// If it is not.
pub fn mount_point() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let point = point_of(&mounts).ok_or_else(|| {
        io::Error::other("no cgroup2 file system is mounted; run `mount -t cgroup2 none /sys/fs/cgroup`")
    })?;
    let id = fs::metadata(&point)?.ino();
    if id != ROOT {
        return Err(io::Error::other(format!(
            "{}: it is not the host's root cgroup but a container's; run the agent in the host's cgroup namespace",
            point.display()
        )));
    }
    Ok(point)
}

/// The first mount of cgroup2 of which the root is mounted (proc_pid_mountinfo(5)).
fn point_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (after.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(unescaped(point)))
    })
}

/// Blanks and others are written as `\040` there.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => whole.push(char::from(byte)),
            None => whole.push('\\'),
        }
        whole.push_str(part.get(3..).unwrap_or(part));
    }
    whole
}

impl Tree {
    /// Reads it, more than once: whatever has an id as high as the highest of one look was there before the next began.
    ///
    /// # Errors
    /// If the root cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut before = Self::read_once(root)?;
        for _ in 0..ATTEMPTS {
            let now = Self::read_once(root)?;
            let highest = before.last;
            if now.last == highest {
                return Ok(now);
            }
            before = Self { last: now.last, cgroups: now.cgroups };
        }
        // Cgroups come all the time: what is known for sure ends before the last look.
        let last = before.last;
        let now = Self::read_once(root)?;
        Ok(Self { last, ..now })
    }

    /// One look, with the highest id that it has seen.
    fn read_once(root: &Path) -> io::Result<Self> {
        let (mut tree, own) = (Self { cgroups: Vec::new(), last: ROOT }, own());
        let top = Cgroup {
            path: String::new(),
            directory: PathBuf::new(),
            id: ROOT,
            level: 0,
            is_roots: fs::metadata(root)?.uid() == 0,
            is_agents: true,
        };
        let mut left = vec![top];
        while let Some(above) = left.pop() {
            let entries = match fs::read_dir(root.join(&above.directory)) {
                Err(error) if above.may_fail(&error) => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = match entry {
                    Err(error) if above.may_fail(&error) => break,
                    entry => entry?,
                };
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                // By the directory's descriptor, however long the path.
                let metadata = match entry.metadata() {
                    Err(error) if above.may_fail(&error) || is_gone(&error) => continue,
                    metadata => metadata?,
                };
                let name = entry.file_name();
                let directory = above.directory.join(&name);
                let cgroup = Cgroup {
                    path: format!("{}/{}", above.path, name.to_string_lossy()),
                    is_agents: own.starts_with(&directory),
                    directory,
                    id: metadata.ino(),
                    level: above.level + 1,
                    is_roots: above.is_roots && metadata.uid() == 0,
                };
                tree.last = tree.last.max(cgroup.id);
                left.push(cgroup.clone());
                tree.cgroups.push(cgroup);
            }
        }
        tree.cgroups.sort_by(|a, b| a.directory.cmp(&b.directory));
        Ok(tree)
    }
}

impl Cgroup {
    /// Whether a look goes on without what is below: it is gone meanwhile, it is no workload as nothing below is, or it
    /// lies deeper than a path reaches, where none is either. What was not seen there stays off the overlay until others
    /// come.
    fn may_fail(&self, error: &io::Error) -> bool {
        self.level > 0
            && (!self.is_roots || is_gone(error) || error.raw_os_error() == Some(libc::ENAMETOOLONG))
    }
}

/// Whether an error says that a cgroup is not there any more.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENOTDIR))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use rustix::fs::{AtFlags, Mode, OFlags};

    use super::{Tree, mount_point, point_of};

    #[test]
    fn the_whole_of_cgroup2_is_found_among_mounts() {
        let mounts = "31 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
            41 31 0:38 /docker/x /mnt/part rw - cgroup2 cgroup2 rw\n\
            42 31 0:38 / /sys/fs/cgroup/the\\040unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(point_of(mounts).as_deref(), Some(Path::new("/sys/fs/cgroup/the unified")));
        assert_eq!(point_of("31 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"), None);
    }

    #[test]
    fn a_new_cgroup_is_above_all_that_were_seen_before() {
        let root = mount_point().unwrap();
        let before = Tree::read(&root).unwrap();
        let name = format!("bulkhead-tree-{}", std::process::id());
        let directory = root.join(&name);
        std::fs::create_dir_all(directory.join("inner")).unwrap();
        let after = Tree::read(&root).unwrap();
        std::fs::remove_dir(directory.join("inner")).unwrap();
        std::fs::remove_dir(directory).unwrap();
        let found = |path: &str| after.cgroups.iter().find(|cgroup| cgroup.path == path).unwrap();
        let (outer, inner) = (found(&format!("/{name}")), found(&format!("/{name}/inner")));
        assert_eq!((outer.level, inner.level), (1, 2));
        assert!(
            outer.is_roots && before.last < outer.id && outer.id < inner.id && inner.id <= after.last,
            "{outer:?} {inner:?}"
        );
    }

    /// Directories one in another, deeper than a path reaches.
    struct Deep(Vec<OwnedFd>);

    impl Deep {
        const NAME: [u8; 200] = [b'd'; 200];

        fn below(top: &Path) -> Self {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let mut all = vec![OwnedFd::from(std::fs::File::open(top).unwrap())];
            for at in 0..25 {
                rustix::fs::mkdirat(&all[at], &Self::NAME[..], Mode::RWXU).unwrap();
                all.push(rustix::fs::openat(&all[at], &Self::NAME[..], flags, Mode::empty()).unwrap());
            }
            Self(all)
        }
    }

    impl Drop for Deep {
        fn drop(&mut self) {
            self.0.pop();
            while let Some(above) = self.0.pop() {
                rustix::fs::unlinkat(&above, &Self::NAME[..], AtFlags::REMOVEDIR).unwrap();
            }
        }
    }

    #[test]
    fn what_lies_too_deep_or_has_an_odd_name_stops_no_look() {
        let root = mount_point().unwrap();
        let top = format!("bulkhead-deep-{}", std::process::id());
        let odd = Path::new(&top).join(OsStr::from_bytes(b"odd-\xff"));
        std::fs::create_dir_all(root.join(&odd)).unwrap();
        std::os::unix::fs::chown(root.join(&odd), Some(65534), None).unwrap();
        std::fs::create_dir(root.join(&odd).join("inner")).unwrap();
        let deep = Deep::below(&root.join(&top));
        let tree = Tree::read(&root);
        drop(deep);
        std::fs::remove_dir(root.join(&odd).join("inner")).unwrap();
        std::fs::remove_dir(root.join(&odd)).unwrap();
        std::fs::remove_dir(root.join(&top)).unwrap();
        let tree = tree.unwrap();
        let found = tree.cgroups.iter().find(|cgroup| cgroup.directory == odd).unwrap();
        assert_eq!(found.path, format!("/{top}/odd-\u{fffd}"));
        let inner = tree.cgroups.iter().find(|cgroup| cgroup.directory == odd.join("inner")).unwrap();
        assert!(!found.is_roots && !inner.is_roots, "{found:?} {inner:?}");
        let deepest = tree.cgroups.iter().filter(|cgroup| cgroup.directory.starts_with(&top));
        let level = deepest.map(|cgroup| cgroup.level).max().unwrap();
        assert!((19..26).contains(&level) && tree.last > inner.id, "{level}");
    }
}
