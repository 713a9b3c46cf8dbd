//! Batches through a directory, a host's end: one for each node, on a share or carried by whatever carries files.
//!
//! A file is a batch, and has its name at once whole. The host has one waiting at most, and replaces it by one that
//! says more while nobody takes it; the collector removes what it has taken and says in `stands` how far it is.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::batch::check_node;

pub(crate) const EXTENSION: &str = "batch";
pub(crate) const STANDS: &str = "stands";

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
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}
