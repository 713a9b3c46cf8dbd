//! Batches through a directory: one for each node, on a share or carried by whatever carries files.
//!
//! A file is a batch, and has its name at once whole. The host has one waiting at most, and replaces it by one that
//! says more while nobody takes it; the collector removes what it has taken and says in `stands` how far it is.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::batch::{MOST_BATCH, check_node};
use crate::store::{Outcome, Store};

const EXTENSION: &str = "batch";
const STANDS: &str = "stands";

/// Files that are looked at in one node's directory: a host leaves one, or two.
const MOST_FILES: usize = 64;

/// What became of the batch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// It was taken, and so many records are there, if that is said.
    Taken(Option<u64>),
    /// It waits.
    Waits,
}

/// A host's end.
#[derive(Debug)]
pub struct Outbox {
    directory: PathBuf,
    /// The batch that waits.
    waiting: Option<PathBuf>,
}

impl Outbox {
    /// That of a node below a directory, which is there. What an earlier process left waiting goes on waiting.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn open(directory: &Path, node: &str) -> io::Result<Self> {
        check_node(node).map_err(io::Error::other)?;
        let directory = directory.join(crate::store::file_name(node));
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let words = format!("{}: {error}", directory.display());
                return Err(io::Error::new(error.kind(), words));
            }
            _ => {}
        }
        let waiting = batches(&directory)?.pop();
        Ok(Self { directory, waiting })
    }

    /// What became of the batch before.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn look(&mut self) -> io::Result<Given> {
        match &self.waiting {
            Some(waiting) if waiting.try_exists()? => Ok(Given::Waits),
            _ => {
                self.waiting = None;
                let stands = fs::read_to_string(self.directory.join(STANDS)).ok();
                Ok(Given::Taken(stands.and_then(|stands| stands.trim().parse().ok())))
            }
        }
    }

    /// Leaves a batch, made at a time, in place of one that still waits.
    ///
    /// # Errors
    /// If the system refuses; the one before then waits on.
    pub fn give(&mut self, made: u64, batch: &[u8]) -> io::Result<()> {
        let path = self.directory.join(format!("{made:020}.{EXTENSION}"));
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(batch)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        for older in batches(&self.directory)?.into_iter().filter(|older| *older != path) {
            remove(&older)?;
        }
        self.waiting = Some(path);
        Ok(())
    }
}

/// A collector's end.
#[derive(Debug)]
pub struct Inbox {
    directory: PathBuf,
}

impl Inbox {
    /// That of the directory below which hosts leave batches.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Takes all that lies there, by so many threads, and returns how many batches that were. `tell` hears of each.
    ///
    /// # Errors
    /// If the directory cannot be read. What the store cannot take stays, and is the error then.
    pub fn turn(
        &self,
        store: &Store,
        threads: usize,
        tell: &(dyn Fn(&Path, &Outcome) + Sync),
    ) -> io::Result<usize> {
        let mut nodes = Vec::new();
        for found in fs::read_dir(&self.directory)? {
            let found = found?;
            // A link leads elsewhere.
            if found.file_type()?.is_dir() {
                nodes.push(found.path());
            }
        }
        let next = std::sync::Mutex::new(nodes.into_iter());
        let work = || {
            let mut count = 0;
            let mut failed = None;
            loop {
                let node = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some(node) = node else { break failed.map_or(Ok(count), Err) };
                match take_all(&node, store, tell) {
                    Ok(taken) => count += taken,
                    Err(error) => failed = Some(error),
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
}

/// Takes the batches of one node, the oldest first.
fn take_all(directory: &Path, store: &Store, tell: &(dyn Fn(&Path, &Outcome) + Sync)) -> io::Result<usize> {
    let mut count = 0;
    let from = directory.file_name().and_then(|name| name.to_str()).and_then(crate::store::node_name);
    for path in batches(directory)? {
        let Some(bytes) = read(&path)? else { continue };
        let outcome = store.take(Some(from.as_deref().unwrap_or("?")), &bytes)?;
        if let Outcome::Taken { records, .. } | Outcome::Refused { records: Some(records), .. } = &outcome {
            let new = directory.join(STANDS).with_extension("new");
            fs::write(&new, format!("{records}\n"))?;
            fs::rename(new, directory.join(STANDS))?;
        }
        remove(&path)?;
        tell(&path, &outcome);
        count += 1;
    }
    Ok(count)
}

/// Reads a batch; none if the host has just replaced it. Of one that is too long no more is read than shows that.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        Ok(opened) => File::from(opened),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        // A link or a socket is no batch, and is refused as an empty one.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(Some(Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.take(MOST_BATCH as u64 + 1).read_to_end(&mut bytes)?;
    }
    Ok(Some(bytes))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir_all(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The batches in a node's directory, the oldest first.
fn batches(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for found in fs::read_dir(directory)? {
        let path = found?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) && all.len() < MOST_FILES {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}
