//! The client of a repository that knows nothing of fleets, for the test suite of The Update Framework
//! (docs/internals/tuf-conformance.md). It is the client of fleets but for two things: metadata need not say of which fleet it
//! is, and targets have any names. Nothing that follows a fleet is built with it.

use std::path::Path;
use std::sync::Arc;

use crate::client::target;
use crate::error::{Cause, Error, Result};
use crate::keys::hex;
use crate::origin::Origin;
use crate::repository::Repository;
use crate::stamp::Expected;
use crate::trusted::{ROLES, Trusted};
use crate::updater::Updater;

/// What refusals are told of, and where an origin is asked for files: `policy/metadata` and `policy/targets`.
const REPOSITORY: Repository = Repository::Policy;

/// A client of a repository that knows nothing of fleets.
#[derive(Debug)]
pub struct Foreign {
    updater: Updater,
    loaded: Option<tough::Repository>,
}

impl Foreign {
    /// With the first root, and the directory of what was verified before.
    ///
    /// # Errors
    /// If that directory cannot be used.
    pub fn open(first: &[u8], state: &Path) -> Result<Self> {
        let trusted = Trusted::open(state)?;
        let updater = Updater::new(REPOSITORY, first, Expected::Anything, trusted);
        Ok(Self { updater, loaded: None })
    }

    /// Verifies what an origin has now.
    ///
    /// # Errors
    /// Why it is refused, or cannot be had.
    pub async fn refresh(&mut self, origin: &Arc<dyn Origin>) -> Result<()> {
        self.loaded = Some(self.updater.refresh(origin).await?);
        Ok(())
    }

    /// What was verified so far: files of metadata by their names, such as `root.json`.
    #[must_use]
    pub fn trusted(&self) -> Vec<(&'static str, &str)> {
        let trusted = self.updater.trusted();
        ROLES.into_iter().filter_map(|name| Some((name, trusted.role(name)?))).collect()
    }

    /// The bytes of a target, by its path, after [`Self::refresh`].
    ///
    /// # Errors
    /// If nobody has signed such, it cannot be had, or is another.
    pub async fn target(&self, origin: &dyn Origin, name: &str) -> Result<Vec<u8>> {
        let targets = self.loaded.iter().flat_map(|loaded| &loaded.targets().signed.targets);
        let (_, found) =
            targets.into_iter().find(|(known, _)| known.raw() == name).ok_or_else(|| Error::Refused {
                repository: REPOSITORY,
                cause: Cause::Malformed,
                words: format!("it has no {name}"),
            })?;
        let sha256 = hex(&found.hashes.sha256);
        let (below, name) =
            name.rsplit_once('/').map_or((String::new(), name), |(below, name)| (format!("{below}/"), name));
        let path = format!("{REPOSITORY}/targets/{below}{sha256}.{name}");
        target(origin, REPOSITORY, &path, &sha256, found.length).await
    }
}
