//! TUF's client workflow (specification 1.0, section 5) over an [`Origin`], with what was verified kept over restarts.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use tough::RepositoryLoader;
use tough::schema::{Signed, Targets};
use url::Url;

use crate::error::{Cause, Error, Result};
use crate::origin::Origin;
use crate::repository::Repository;
use crate::stamp::Expected;
use crate::transport::{FromOrigin, Known, METADATA};
use crate::trusted::Trusted;

const TARGETS: &str = "targets.json";

/// What is verified of one repository, up to its targets.
#[derive(Debug)]
pub(crate) struct Updater {
    repository: Repository,
    first: Vec<u8>,
    expected: Expected,
    trusted: Trusted,
    known: Known,
}

impl Updater {
    /// With the first root, what all metadata must be of, and what was verified before.
    pub(crate) fn new(repository: Repository, first: &[u8], expected: Expected, trusted: Trusted) -> Self {
        Self { repository, first: first.to_owned(), expected, trusted, known: Known::default() }
    }

    /// What was verified so far.
    pub(crate) fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// Verifies what an origin has now. What was verified is kept whatever comes of the rest.
    ///
    /// # Errors
    /// Why it is refused, or cannot be had.
    pub(crate) async fn refresh(&mut self, origin: &Arc<dyn Origin>) -> Result<tough::Repository> {
        let copy = self.trusted.copy()?;
        let timestamp = self.trusted.role("timestamp.json").map(str::to_owned);
        let root = self.trusted.root().and_then(|root| serde_json::from_str(root).ok());
        let transport =
            FromOrigin::new(origin.clone(), self.expected.clone(), self.known.clone(), root.zip(timestamp));
        let (failed, refused, now) =
            (transport.failed.clone(), transport.refused.clone(), transport.now.clone());
        let urls = [self.url("metadata")?, self.url("targets")?];
        let loaded = self.load(transport, urls, copy.path()).await;
        let older = loaded.as_ref().map_or(Ok(None), |loaded| self.older(loaded, copy.path()))?;
        self.trusted.keep(copy.path())?;
        if let Some(words) = older {
            self.known = Arc::default();
            return Err(Error::Refused { repository: self.repository, cause: Cause::Rollback, words });
        }
        let loaded = loaded.map_err(|error| {
            let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
            match failed.filter(|_| matches!(error, tough::error::Error::Transport { .. })) {
                Some(failed) => Error::origin(self.repository, &failed),
                None => Error::tough(self.repository, &error),
            }
        });
        // What was refused is asked for again.
        self.known = if loaded.is_ok() { now } else { Arc::default() };
        if let Some((cause, words)) = refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.known = Arc::default();
            return Err(Error::Refused { repository: self.repository, cause, words });
        }
        loaded
    }

    /// Whether targets are older than those that were verified before; if so, in words, and those before stay. A client
    /// forgets the snapshot, and with it which targets it knows, when the key that freshens changes (section 5.3.11). Here
    /// that key must not bring older targets back, as long as who signs them has not changed: they are never counted anew.
    fn older(&self, loaded: &tough::Repository, copy: &Path) -> Result<Option<String>> {
        let Some(text) = self.trusted.role(TARGETS) else { return Ok(None) };
        let Ok(known) = serde_json::from_str::<Signed<Targets>>(text) else { return Ok(None) };
        let (came, before) = (loaded.targets().signed.version, known.signed.version);
        if came >= before || loaded.root().signed.verify_role(&known).is_err() {
            return Ok(None);
        }
        fs::write(copy.join(TARGETS), text).map_err(Error::file(copy))?;
        Ok(Some(format!(
            "Found version {came} of targets metadata when we had previously fetched version {before}"
        )))
    }

    /// Of no server: what is asked for is its path.
    fn url(&self, below: &str) -> Result<Url> {
        let url = format!("fleet:///{}/{below}/", self.repository);
        Url::parse(&url).map_err(|error| Error::Asked(format!("{url}: {error}")))
    }

    async fn load(
        &self,
        transport: FromOrigin,
        [metadata, targets]: [Url; 2],
        copy: &Path,
    ) -> std::result::Result<tough::Repository, tough::error::Error> {
        let root = self.trusted.root().map_or(&*self.first, str::as_bytes);
        let limits = tough::Limits {
            max_root_size: METADATA,
            max_targets_size: METADATA,
            max_timestamp_size: METADATA,
            max_snapshot_size: METADATA,
            max_root_updates: 1024,
        };
        RepositoryLoader::new(&root, metadata, targets)
            .transport(transport)
            .limits(limits)
            .datastore(copy)
            .load()
            .await
    }
}
