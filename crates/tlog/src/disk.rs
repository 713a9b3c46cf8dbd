//! Files, and when they are durable.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, ReadDir};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How a directory on the way to a file is opened, and how the file is.
const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Files that are open at once before they are synced.
const OPEN: usize = 64;

/// A file that others may read.
pub(crate) const PUBLIC: u32 = 0o644;
/// A file that only its owner may read.
pub(crate) const PRIVATE: u32 = 0o600;

/// Bytes of the longest file of text: a note or a key.
const MOST_TEXT: u64 = 1 << 20;

/// Reads a file of at most `most` bytes below a log's directory, by its name there.
///
/// Whoever made a copy of a log can put anything in a file's place, or in that of a directory on the way to it: no link
/// is followed, no pipe is waited for, and no more is read than the log's own file can have. The log's directory itself
/// its reader has named, and may be a link.
pub(crate) fn read_below(root: &Path, name: &Path, most: u64) -> Result<Vec<u8>> {
    let path = root.join(name);
    let directory =
        openat(CWD, root, WAY, Mode::empty()).map_err(|errno| Error::io("open", root)(errno.into()))?;
    let no_links = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(&directory, name, FILE, Mode::empty(), no_links) {
        Ok(opened) => read_all(File::from(opened), &path, most),
        Err(errno @ Errno::NOENT) => Err(Error::io("read", &path)(errno.into())),
        // Step by step, to say where it ends; and for systems that do not have this call, or forbid it.
        Err(_) => read_in(walk(root, directory, name)?.as_fd(), name_of(name), &path, most),
    }
}

/// The directory of a file below `root`.
pub(crate) fn walk(root: &Path, mut directory: OwnedFd, name: &Path) -> Result<OwnedFd> {
    let mut at = root.to_owned();
    for part in name.parent().into_iter().flatten() {
        at.push(part);
        let opened = openat(&directory, part, WAY | OFlags::NOFOLLOW, Mode::empty());
        directory = opened.map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => Error::damaged(&at, NO_DIRECTORY),
            _ => Error::io("open", &at)(errno.into()),
        })?;
    }
    Ok(directory)
}

fn name_of(path: &Path) -> &Path {
    path.file_name().unwrap_or_default().as_ref()
}

/// Reads a file of at most `most` bytes in a log's directory, or one that is named by its path; no link is followed
/// where it should be.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    read_in(CWD, path, path, most)
}

fn read_in(directory: BorrowedFd<'_>, name: &Path, path: &Path, most: u64) -> Result<Vec<u8>> {
    let opened = openat(directory, name, FILE, Mode::empty()).map_err(|errno| match errno {
        // A link, a socket.
        Errno::LOOP | Errno::NXIO => Error::damaged(path, NO_FILE),
        _ => Error::io("read", path)(errno.into()),
    })?;
    read_all(File::from(opened), path, most)
}

fn read_all(file: File, path: &Path, most: u64) -> Result<Vec<u8>> {
    let data = file.metadata().map_err(Error::io("read", path))?;
    if !data.is_file() {
        return Err(Error::damaged(path, NO_FILE));
    }
    let mut bytes = Vec::with_capacity(data.len().min(most) as usize);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > most {
        return Err(Error::damaged(path, format!("has more than {most} bytes, which no such file has")));
    }
    Ok(bytes)
}

/// What is said of a link, a pipe, a device, a socket and a directory in a file's place.
const NO_FILE: &str = "is no regular file";

/// What is said of anything else in a directory's place, and of a link to one.
pub(crate) const NO_DIRECTORY: &str = "is no directory, or a link to one";

/// Lists a directory of a log, if it is there; one that is a link is not listed.
pub(crate) fn list(directory: &Path) -> Result<Option<ReadDir>> {
    let Some(found) = if_there(fs::symlink_metadata(directory).map_err(Error::io("list", directory)))? else {
        return Ok(None);
    };
    if !found.is_dir() {
        return Err(Error::damaged(directory, NO_DIRECTORY));
    }
    if_there(fs::read_dir(directory).map_err(Error::io("list", directory)))
}

/// Reads a file of text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    text(path, read(path, MOST_TEXT)?)
}

/// Reads a file of text below a log's directory.
pub(crate) fn read_text_below(root: &Path, name: &Path) -> Result<String> {
    text(&root.join(name), read_below(root, name, MOST_TEXT)?)
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::damaged(path, "is no text in UTF-8"))
}

/// Reads a file that need not be there.
pub(crate) fn if_there<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    if_there(fs::remove_file(path).map_err(Error::io("remove", path))).map(|_| ())
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(Error::io("sync", directory))
}

/// Writes a file under its name; after this it is durable, whole, and nothing else was ever there.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let new = path.with_added_extension("new");
    remove(&new)?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new);
    let written = opened.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(Error::io("write", &new))?;
    rename(&new, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Gives a file another name, in place of what has that name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("rename", from))
}

/// Files that are written one after the other and become durable together.
pub(crate) struct Batch<'d> {
    root: &'d Path,
    /// Written and not synced, at most [`OPEN`].
    files: Vec<(PathBuf, File)>,
    directories: BTreeSet<PathBuf>,
}

impl<'d> Batch<'d> {
    /// Of files below `root`.
    pub(crate) fn new(root: &'d Path) -> Self {
        Self { root, files: Vec::new(), directories: BTreeSet::new() }
    }

    /// Writes a file, replacing what an interrupted batch left under its name.
    pub(crate) fn write(&mut self, name: &Path, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        for directory in name.ancestors().skip(1) {
            self.directories.insert(self.root.join(directory));
        }
        let create = || OpenOptions::new().write(true).create(true).truncate(true).mode(PUBLIC).open(&path);
        let opened = create().or_else(|_| {
            fs::create_dir_all(path.parent().unwrap_or(self.root))?;
            create()
        });
        let mut file = opened.map_err(Error::io("create", &path))?;
        file.write_all(bytes).map_err(Error::io("write", &path))?;
        self.files.push((path, file));
        if self.files.len() == OPEN { self.sync_files() } else { Ok(()) }
    }

    /// Returns when all of them, and their names, are durable.
    pub(crate) fn sync(mut self) -> Result<()> {
        self.sync_files()?;
        self.directories.iter().try_for_each(|directory| sync_directory(directory))
    }

    fn sync_files(&mut self) -> Result<()> {
        // First all are on their way to the disk; then the file system's journal is waited for once, not by each.
        for (_, file) in &self.files {
            let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
        }
        for (path, file) in self.files.drain(..) {
            file.sync_all().map_err(Error::io("sync", &path))?;
        }
        Ok(())
    }
}
