//! Verifies what an origin has: the client of one repository.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tough::RepositoryLoader;
use tough::schema::{Signed, Targets};
use url::Url;

use crate::error::{Cause, Error, Result};
use crate::keys::hex;
use crate::origin::Origin;
use crate::repository::Repository;
use crate::roles::signers;
use crate::rollout::{self, Rollout};
use crate::stamp::Stamp;
use crate::transport::{FromOrigin, Known, METADATA, within};
use crate::trusted::Trusted;

/// No bundle is longer, in bytes.
pub const LONGEST: u64 = 64 << 20;

/// What was verified of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Which.
    pub repository: Repository,
    /// The version of its root.
    pub root: u64,
    /// The version of its targets: what people call the version of a policy.
    pub version: u64,
    /// The bundle's SHA-256, hexadecimal.
    pub digest: String,
    /// The bundle's length, bytes.
    pub length: u64,
    /// The names of those who have signed it.
    pub signers: Vec<String>,
    /// When the first of the four roles expires, seconds since 1970.
    pub expires: i64,
    /// How many hosts may take it; none: all.
    pub rollout: Option<Rollout>,
}

impl Checked {
    /// Whether a host takes it now, if it has not yet.
    #[must_use]
    pub fn admits(&self, node: &str) -> bool {
        self.rollout.is_none_or(|rollout| rollout.admits(node, self.version))
    }

    /// The bundle, which is the signed one or an error.
    ///
    /// # Errors
    /// If it cannot be had, or is another.
    pub async fn bundle(&self, origin: &dyn Origin) -> Result<String> {
        let path = self.repository.bundle(&self.digest);
        let refused = |cause, words| Error::Refused { repository: self.repository, cause, words };
        let bytes = within(origin, &path, self.length).await;
        let bytes = bytes.map_err(|error| Error::origin(self.repository, &error))?;
        let bytes = bytes.ok_or_else(|| refused(Cause::Down, format!("{path}: it is not there")))?;
        let found = digest(&bytes);
        if found != self.digest || bytes.len() as u64 != self.length {
            let words = format!(
                "{path}: it is not what was signed: it has {} bytes of {} and SHA-256 {}…",
                bytes.len(),
                self.length,
                &found[..12]
            );
            return Err(refused(Cause::Altered, words));
        }
        String::from_utf8(bytes).map_err(|_| refused(Cause::Malformed, format!("{path}: it is no text")))
    }
}

/// SHA-256, hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The client of one repository.
#[derive(Debug)]
pub struct Client {
    repository: Repository,
    first: Vec<u8>,
    stamp: Stamp,
    trusted: Trusted,
    known: Known,
}

impl Client {
    /// With the first root, as whoever installed the host brought it, and the directory of what was verified before.
    ///
    /// # Errors
    /// If the root is none of this repository, that directory cannot be used, or what is in it is damaged or of another
    /// fleet.
    pub fn open(repository: Repository, first: &[u8], state: &Path) -> Result<Self> {
        let stamp = Stamp::read(first)
            .map_err(|words| Error::Asked(format!("the first root of {repository}: {words}")))?;
        if stamp.repository != repository {
            return Err(Error::Asked(format!(
                "the first root of {repository}: it is of {}; give each root its own place",
                stamp.repository
            )));
        }
        let directory = state.join(repository.name());
        let trusted = Trusted::open(&directory)?;
        if let Some(root) = trusted.root() {
            stamp.fits(root.as_bytes()).map_err(|words| {
                Error::Asked(format!(
                    "{}: what was verified before does not go with the first root: {words}; put the fleet's first root \
                     back, or move this directory away if the host has moved to another fleet",
                    directory.display()
                ))
            })?;
        }
        Ok(Self { repository, first: first.to_owned(), stamp, trusted, known: Known::default() })
    }

    /// The version of what was verified last; none: nothing was.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        let targets: Signed<Targets> = serde_json::from_str(self.trusted.role("targets.json")?).ok()?;
        Some(targets.signed.version.get())
    }

    /// Verifies what an origin has now, by TUF (specification 1.0, section 5). What was verified is kept whatever comes of
    /// the rest.
    ///
    /// # Errors
    /// Why it is refused, or cannot be had.
    pub async fn check(&mut self, origin: &Arc<dyn Origin>) -> Result<Checked> {
        let copy = self.trusted.copy()?;
        let transport = FromOrigin::new(origin.clone(), self.stamp.clone(), self.known.clone());
        let (failed, foreign, now) =
            (transport.failed.clone(), transport.foreign.clone(), transport.now.clone());
        let urls = [self.url("metadata")?, self.url("targets")?];
        let loaded = self.load(transport, urls, copy.path()).await;
        self.trusted.keep(copy.path())?;
        let loaded = loaded.map_err(|error| {
            let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
            match failed.filter(|_| matches!(error, tough::error::Error::Transport { .. })) {
                Some(failed) => Error::origin(self.repository, &failed),
                None => Error::tough(self.repository, &error),
            }
        });
        // What was refused is asked for again.
        self.known = if loaded.is_ok() { now } else { Arc::default() };
        if let Some(words) = foreign.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.known = Arc::default();
            return Err(Error::Refused { repository: self.repository, cause: Cause::Altered, words });
        }
        self.checked(&loaded?)
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

    fn checked(&self, loaded: &tough::Repository) -> Result<Checked> {
        let targets = loaded.targets();
        let refused =
            |words: String| Error::Refused { repository: self.repository, cause: Cause::Malformed, words };
        if targets.signed.delegations.as_ref().is_some_and(|delegations| !delegations.roles.is_empty()) {
            return Err(refused("its targets are delegated, and nobody is asked to whom".to_owned()));
        }
        let name = self.repository.target();
        let target = targets.signed.targets.iter().find(|(known, _)| known.raw() == name);
        let (_, target) = target.ok_or_else(|| refused(format!("it has no {name}")))?;
        if target.length > LONGEST {
            let words = format!("its {name} has {} bytes, and at most {LONGEST} are taken", target.length);
            return Err(Error::Refused { repository: self.repository, cause: Cause::TooLong, words });
        }
        let version = targets.signed.version.get();
        let timestamp = &loaded.timestamp().signed;
        let member: Option<&Value> = timestamp._extra.get(rollout::MEMBER);
        let expires = [
            loaded.root().signed.expires,
            timestamp.expires,
            loaded.snapshot().signed.expires,
            targets.signed.expires,
        ];
        Ok(Checked {
            repository: self.repository,
            root: loaded.root().signed.version.get(),
            version,
            digest: hex(&target.hashes.sha256),
            length: target.length,
            signers: signers(&loaded.root().signed, targets),
            expires: expires.iter().map(|time| time.as_second()).min().unwrap_or_default(),
            rollout: Rollout::read(member, version),
        })
    }
}
