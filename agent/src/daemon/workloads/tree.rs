//! The cgroups of the host, as the file system of cgroup2 has them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The root cgroup has this id on every host. The root of a container's view has another.
const ROOT: u64 = 1;

/// Looks at the tree until two agree in which cgroups there are; after so many the last one counts.
const ATTEMPTS: usize = 8;

/// One cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its path below the root, which begins with `/`.
    pub path: String,
    /// Its id: the inode of its directory. Later cgroups have higher ones.
    pub id: u64,
    /// How far below the root it lies.
    pub level: u32,
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
        let mut tree = Self { cgroups: Vec::new(), last: ROOT };
        let mut left = vec![(root.to_owned(), String::new(), 0)];
        while let Some((directory, path, level)) = left.pop() {
            let entries = match fs::read_dir(&directory) {
                // It is gone meanwhile.
                Err(error) if level > 0 && is_gone(&error) => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = match entry {
                    Err(error) if level > 0 && is_gone(&error) => break,
                    entry => entry?,
                };
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let name = entry.file_name().to_string_lossy().into_owned();
                let cgroup = Cgroup { path: format!("{path}/{name}"), id: entry.ino(), level: level + 1 };
                tree.last = tree.last.max(cgroup.id);
                left.push((entry.path(), cgroup.path.clone(), cgroup.level));
                tree.cgroups.push(cgroup);
            }
        }
        tree.cgroups.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENOTDIR))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
            before.last < outer.id && outer.id < inner.id && inner.id <= after.last,
            "{outer:?} {inner:?}"
        );
    }
}
