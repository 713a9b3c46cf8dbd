//! A fleet directory, for those who publish: what is there, what waits for signatures, and what comes next.

mod identity;
mod propose;
mod publish;
mod read;
mod standing;

use std::fs;
use std::path::{Path, PathBuf};

use tough::schema::Root;

use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::stamp::Stamp;

pub use identity::Identity;
pub(crate) use identity::{Position, Versions};
pub use publish::{Publication, Sign};
pub(crate) use read::read;
pub use standing::Standing;

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
    /// If there is no such directory.
    pub fn alone(&self) -> Result<fs::File> {
        let directory = fs::File::open(&self.0).map_err(Error::file(&self.0))?;
        directory.lock().map_err(Error::file(&self.0))?;
        Ok(directory)
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
