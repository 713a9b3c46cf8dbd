//! Batches through a directory, a collector's end.
//!
//! A node's directory is the node's to write in. It is opened once, not through a link, and all that is done there is
//! done by that descriptor: no name that the node gives leads anywhere else, and none is waited for.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::batch::MOST_BATCH;
use crate::directory::{EXTENSION, STANDS};
use crate::store::{Outcome, Store, node_name};

/// What `stands` is until it is whole.
const STANDS_NEW: &str = "stands.new";

/// Files that are taken from one node's directory at once: a host leaves one, or two.
const MOST_FILES: usize = 64;

/// Names that are looked at there.
const MOST_NAMES: usize = 1024;

/// How long a node's directory that cannot be used is left alone.
const REST: Duration = Duration::from_secs(60);

/// A collector's end.
#[derive(Debug)]
pub struct Inbox {
    directory: PathBuf,
    /// Directories of nodes that could not be used, and when.
    resting: Mutex<HashMap<OsString, Instant>>,
}

/// Why not all of a node's directory was taken.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The directory cannot be used: this concerns no other node.
    Place(io::Error),
    /// The store cannot take anything.
    Store(io::Error),
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::Place(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Place(error)
    }
}

impl Inbox {
    /// That of the directory below which hosts leave batches.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), resting: Mutex::default() }
    }

    /// Takes all that lies there, by so many threads, and returns how many batches that were. `tell` hears of each.
    ///
    /// A node's directory that cannot be used is a finding of that node, and is left alone for a minute.
    ///
    /// # Errors
    /// If the directory cannot be read. What the store cannot take stays, and is the error then.
    pub fn turn(
        &self,
        store: &Store,
        threads: usize,
        tell: &(dyn Fn(&Path, &Outcome) + Sync),
    ) -> io::Result<usize> {
        let root = openat(CWD, &self.directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        held(&self.resting).retain(|_, since| since.elapsed() < REST);
        let mut nodes = Vec::new();
        for found in fs::read_dir(&self.directory)? {
            let found = found?;
            // A link leads elsewhere.
            if found.file_type()?.is_dir() && !held(&self.resting).contains_key(&found.file_name()) {
                nodes.push(found.file_name());
            }
        }
        let next = Mutex::new(nodes.into_iter());
        let work = || {
            let mut count = 0;
            let mut failed = None;
            loop {
                let name = held(&next).next();
                let Some(name) = name else { break failed.map_or(Ok(count), Err) };
                match self.take_all(&root, &name, store, tell, &mut count) {
                    Ok(()) => {}
                    Err(Failure::Place(error)) => {
                        let of = name.to_str().and_then(node_name);
                        let what = format!("its directory of batches: {error}");
                        failed = store.note_failed(of.as_deref().unwrap_or("?"), what).err().or(failed);
                        held(&self.resting).insert(name, Instant::now());
                    }
                    Err(Failure::Store(error)) => failed = Some(error),
                }
            }
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            let ended = all.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the collector has ended")))
            });
            ended.sum()
        })
    }

    /// Takes the batches of one node, the oldest first.
    pub(crate) fn take_all(
        &self,
        root: &OwnedFd,
        name: &OsStr,
        store: &Store,
        tell: &(dyn Fn(&Path, &Outcome) + Sync),
        count: &mut usize,
    ) -> Result<(), Failure> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let place = match openat(root, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        let from = name.to_str().and_then(node_name);
        for file in batches(&place)? {
            let Some(bytes) = read(&place, &file)? else { continue };
            let outcome = store.take(Some(from.as_deref().unwrap_or("?")), &bytes).map_err(Failure::Store)?;
            if let Outcome::Taken { records, .. } | Outcome::Refused { records: Some(records), .. } = &outcome
            {
                say(&place, *records)?;
            }
            remove(&place, &file)?;
            tell(&self.directory.join(name).join(&file), &outcome);
            *count += 1;
        }
        Ok(())
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says in a node's directory how many of its records are here.
fn say(place: &OwnedFd, records: u64) -> io::Result<()> {
    // Whatever the node has put there is not written to.
    remove(place, STANDS_NEW.as_ref())?;
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let mut file = File::from(openat(place, STANDS_NEW, flags, Mode::from_raw_mode(0o644))?);
    file.write_all(format!("{records}\n").as_bytes())?;
    Ok(renameat(place, STANDS_NEW, place, STANDS)?)
}

/// Reads a batch; none if the host has just replaced it. Of one that is too long no more is read than shows that.
fn read(place: &OwnedFd, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(place, name, flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        Err(Errno::NOENT) => return Ok(None),
        // A link or a socket is no batch, and is refused as an empty one.
        Err(Errno::LOOP | Errno::NXIO) => return Ok(Some(Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.take(MOST_BATCH as u64 + 1).read_to_end(&mut bytes)?;
    }
    Ok(Some(bytes))
}

fn remove(place: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(place, name, AtFlags::empty()) {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The batches in a node's directory, the oldest first. A directory is none, whatever its name.
fn batches(place: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut all = Vec::new();
    for found in Dir::read_from(place)?.take(MOST_NAMES) {
        let name = OsString::from_vec(found?.file_name().to_bytes().to_vec());
        if Path::new(&name).extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let kind = match statat(place, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            found => FileType::from_raw_mode(found?.st_mode),
        };
        if kind != FileType::Directory {
            all.push(name);
        }
        if all.len() == MOST_FILES {
            break;
        }
    }
    all.sort();
    Ok(all)
}
