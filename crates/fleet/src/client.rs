//! Verifies what an origin has: the client of one repository.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tough::schema::{Signed, Targets};

use crate::error::{Cause, Error, Result};
use crate::keys::hex;
use crate::origin::Origin;
use crate::repository::Repository;
use crate::roles::signers;
use crate::rollout::{self, Rollout};
use crate::stamp::{Expected, Stamp};
use crate::transport::within;
use crate::trusted::Trusted;
use crate::updater::Updater;

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
        let bytes = target(origin, self.repository, &path, &self.digest, self.length).await?;
        let refused = |words| Error::Refused { repository: self.repository, cause: Cause::Malformed, words };
        String::from_utf8(bytes).map_err(|_| refused(format!("{path}: it is no text")))
    }
}

/// One target's file, which is the one that was signed or an error.
pub(crate) async fn target(
    origin: &dyn Origin,
    repository: Repository,
    path: &str,
    sha256: &str,
    length: u64,
) -> Result<Vec<u8>> {
    let refused = |cause, words| Error::Refused { repository, cause, words };
    let bytes = within(origin, path, length).await;
    let bytes = bytes.map_err(|error| Error::origin(repository, &error))?;
    let bytes = bytes.ok_or_else(|| refused(Cause::Down, format!("{path}: it is not there")))?;
    let found = digest(&bytes);
    if found != sha256 || bytes.len() as u64 != length {
        let words = format!(
            "{path}: it is not what was signed: it has {} bytes of {length} and SHA-256 {}…",
            bytes.len(),
            &found[..12]
        );
        return Err(refused(Cause::Altered, words));
    }
    Ok(bytes)
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
    updater: Updater,
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
        let updater = Updater::new(repository, first, Expected::Of(stamp), trusted);
        Ok(Self { repository, updater })
    }

    /// The version of what was verified last; none: nothing was.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        let targets: Signed<Targets> =
            serde_json::from_str(self.updater.trusted().role("targets.json")?).ok()?;
        Some(targets.signed.version.get())
    }

    /// Verifies what an origin has now, by TUF (specification 1.0, section 5). What was verified is kept whatever comes of
    /// the rest.
    ///
    /// # Errors
    /// Why it is refused, or cannot be had.
    pub async fn check(&mut self, origin: &Arc<dyn Origin>) -> Result<Checked> {
        let loaded = self.updater.refresh(origin).await?;
        self.checked(&loaded)
    }

    fn checked(&self, loaded: &tough::Repository) -> Result<Checked> {
        let targets = loaded.targets();
        let refused =
            |words: String| Error::Refused { repository: self.repository, cause: Cause::Malformed, words };
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
