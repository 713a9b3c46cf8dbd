//! Files, and when they are durable.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Result};

/// Files that are open at once before they are synced.
const OPEN: usize = 64;

/// A file that others may read.
pub(crate) const PUBLIC: u32 = 0o644;
/// A file that only its owner may read.
pub(crate) const PRIVATE: u32 = 0o600;

/// Bytes of the longest file of text: a note or a key.
const MOST_TEXT: u64 = 1 << 20;

/// Reads a file of at most `most` bytes.
///
/// Whoever made a copy of a log can put anything in a file's place: no link is followed, no pipe is waited for, and no
/// more is read than the log's own file can have.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        // A link, a socket.
        Some(Errno::LOOP | Errno::NXIO) => Error::damaged(path, NO_FILE),
        _ => Error::io("read", path)(error),
    })?;
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

/// Reads a file of text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path, MOST_TEXT)?).map_err(|_| Error::damaged(path, "is no text in UTF-8"))
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
