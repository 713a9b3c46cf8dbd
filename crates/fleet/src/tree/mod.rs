//! A fleet directory, for those who publish: what is there, what waits for signatures, and what comes next.

mod identity;
mod propose;
mod publish;
mod read;
mod standing;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tough::schema::Root;

use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::stamp::Stamp;

pub use identity::Identity;
pub(crate) use identity::{Position, Versions};
pub use publish::{Publication, Sign};
pub(crate) use read::read;
pub use standing::Standing;

/// How long a fleet directory is waited for that somebody else changes, and how often it is looked at.
const ALONE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(50);

/// A fleet directory.
#[derive(Clone, Debug)]
pub struct Tree(PathBuf);

impl Tree {
    /// At a path.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Waits until nobody else changes what is published, and keeps others from it for as long as what it returns lives.
    /// What a process that dies had so is free.
    ///
    /// # Errors
    /// If there is no such directory, or somebody else has it for longer than a change takes: whoever can read there can.
    pub fn alone(&self) -> Result<fs::File> {
        self.alone_within(ALONE)
    }

    fn alone_within(&self, limit: Duration) -> Result<fs::File> {
        let directory = fs::File::open(&self.0).map_err(Error::file(&self.0))?;
        let begun = Instant::now();
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(directory),
                Err(fs::TryLockError::Error(error)) => return Err(Error::file(&self.0)(error)),
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() < limit => std::thread::sleep(AGAIN),
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(Error::Asked(format!(
                        "{}: another process has held its lock for {} s; find it by `fuser`, and end it",
                        self.0.display(),
                        limit.as_secs()
                    )));
                }
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn metadata(&self, repository: Repository) -> PathBuf {
        self.0.join(repository.name()).join("metadata")
    }

    fn drafts(&self, repository: Repository) -> PathBuf {
        self.0.join(repository.name()).join("drafts")
    }

    fn targets(&self, repository: Repository) -> PathBuf {
        self.0.join(repository.name()).join("targets")
    }

    fn no_fleet(&self) -> Error {
        Error::Asked(format!(
            "{} has no fleet yet: `bulkhead fleet init`, then `sign` and `publish`",
            self.0.display()
        ))
    }

    /// Of which fleet a root is.
    fn stamp(&self, repository: Repository, root: &Root) -> Result<Stamp> {
        Stamp::of(&root._extra).filter(|stamp| stamp.repository == repository).ok_or_else(|| {
            Error::Asked(format!(
                "{}: the root of {repository} does not say that it is one of this fleet; restore the fleet directory",
                self.0.display()
            ))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::Tree;

    #[test]
    fn whoever_holds_a_directory_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::new(directory.path());
        let held = tree.alone().unwrap();
        let error = tree.alone_within(Duration::from_millis(200)).unwrap_err().to_string();
        assert!(error.contains("another process has held its lock"), "{error}");
        drop(held);
        tree.alone_within(Duration::ZERO).unwrap();
    }
}
