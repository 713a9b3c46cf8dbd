//! What a fleet directory has: nothing of it is read as signed before it is verified.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tough::schema::{Hashes, Metafile, Role, RoleType, Root, Signed, Snapshot, Targets, Timestamp};

use super::Tree;
use crate::client::{LONGEST, digest};
use crate::draft::{Body, Draft, no_extra};
use crate::error::{Error, Result};
use crate::files::whole;
use crate::keys::{self, KeyId};
use crate::repository::Repository;
use crate::roles::{Keyholders, at_least_one, ids, is_plain, is_plain_bundle};
use crate::stamp::Stamp;
use crate::transport::METADATA;

/// What a repository has published.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// Whose keys freshen, by the root that it was verified by.
    pub(super) online: Vec<KeyId>,
    pub(super) timestamp: Signed<Timestamp>,
    pub(super) snapshot: Signed<Snapshot>,
    pub(super) snapshot_bytes: Vec<u8>,
    pub(super) targets: Signed<Targets>,
    pub(super) targets_bytes: Vec<u8>,
}

impl Tree {
    /// Whose keys the fleet has: those of the roots in force.
    ///
    /// # Errors
    /// If there is no fleet.
    pub fn keyholders(&self) -> Result<Keyholders> {
        let [policy, inventory] = Repository::ALL.map(|repository| self.root(repository));
        let (policy, inventory) =
            (policy?.ok_or_else(|| self.no_fleet())?, inventory?.ok_or_else(|| self.no_fleet())?);
        Keyholders::of(&policy.signed, &inventory.signed)
    }

    /// The newest root, to which the first one leads by signatures.
    ///
    /// # Errors
    /// If files cannot be read, or a root is not signed by those whom it and the one before name.
    pub(super) fn root(&self, repository: Repository) -> Result<Option<Signed<Root>>> {
        Ok(self.roots(repository)?.pop())
    }

    /// All roots from the first one on, each verified by the one before.
    ///
    /// # Errors
    /// As [`Self::root`].
    pub(super) fn roots(&self, repository: Repository) -> Result<Vec<Signed<Root>>> {
        let directory = self.metadata(repository);
        let mut roots: Vec<Signed<Root>> = Vec::new();
        for version in 1.. {
            let path = directory.join(format!("{version}.root.json"));
            let Some(root) = read::<Signed<Root>>(&path)? else { break };
            let newest = roots.last();
            let stamp = self.stamp(repository, newest.map_or(&root.signed, |root| &root.signed))?;
            is_plain(&root.signed, &stamp, version).map_err(|words| damaged(&path, &words))?;
            for by in newest.into_iter().chain([&root]) {
                by.signed.verify_role(&root).map_err(|error| damaged(&path, &error))?;
            }
            roots.push(root);
        }
        Ok(roots)
    }

    /// What is published, verified as hosts do, whether or not it has expired. While a new root is being published that
    /// one's keys count, too: the root is put there last.
    pub(super) fn published(&self, repository: Repository) -> Result<Option<Published>> {
        let Some(root) = self.root(repository)? else { return Ok(None) };
        // A draft that is none is told of where drafts are asked for.
        let next = self.draft_root(repository).ok().flatten();
        let next = next.filter(|draft| draft.missing().is_ok_and(|missing| missing.is_none()));
        if let Some(Draft { body: Body::Root(next), .. }) = &next
            && let Ok(published) = self.published_by(repository, next)
        {
            return Ok(published);
        }
        self.published_by(repository, &root.signed)
    }

    fn published_by(&self, repository: Repository, root: &Root) -> Result<Option<Published>> {
        let directory = self.metadata(repository);
        let stamp = self.stamp(repository, root)?;
        let path = directory.join("timestamp.json");
        let Some((_, timestamp)) = read_with::<Signed<Timestamp>>(&path)? else { return Ok(None) };
        verify(root, &stamp, &timestamp, &timestamp.signed._extra, &path)?;
        let of = timestamp.signed.meta.get("snapshot.json");
        let (snapshot_bytes, snapshot) = named::<Signed<Snapshot>>(&directory, "snapshot", of)?;
        let path = directory.join(format!("{}.snapshot.json", snapshot.signed.version));
        verify(root, &stamp, &snapshot, &snapshot.signed._extra, &path)?;
        let of = snapshot.signed.meta.get("targets.json");
        let (targets_bytes, targets) = named::<Signed<Targets>>(&directory, "targets", of)?;
        let path = directory.join(format!("{}.targets.json", targets.signed.version));
        verify(root, &stamp, &targets, &targets.signed._extra, &path)?;
        is_plain_bundle(&targets.signed, &stamp, targets.signed.version.get())
            .map_err(|words| damaged(&path, &words))?;
        let online = ids(root, RoleType::Timestamp);
        Ok(Some(Published { online, timestamp, snapshot, snapshot_bytes, targets, targets_bytes }))
    }

    /// The bundle that is published, with its version.
    ///
    /// # Errors
    /// If files cannot be read, or are not what was signed.
    pub fn bundle(&self, repository: Repository) -> Result<Option<(u64, String)>> {
        let Some(published) = self.published(repository)? else { return Ok(None) };
        let Some(sum) = target(repository, &published.targets.signed).map(|(sum, _)| sum) else {
            return Ok(None);
        };
        let path = self.0.join(repository.bundle(&sum));
        let bytes = whole(&path, LONGEST).map_err(Error::file(&path))?;
        if digest(&bytes) != sum {
            return Err(Error::Asked(format!("{}: it is not what was signed", path.display())));
        }
        let text = String::from_utf8(bytes).map_err(io::Error::other).map_err(Error::file(&path))?;
        Ok(Some((published.targets.signed.version.get(), text)))
    }
}

pub(super) fn target(repository: Repository, targets: &Targets) -> Option<(String, u64)> {
    let (_, target) = targets.targets.iter().find(|(name, _)| name.raw() == repository.target())?;
    Some((keys::hex(&target.hashes.sha256), target.length))
}

pub(super) fn meta(bytes: &[u8], version: u64) -> Metafile {
    Metafile {
        length: Some(bytes.len() as u64),
        hashes: Some(Hashes { sha256: Sha256::digest(bytes).to_vec().into(), _extra: no_extra() }),
        version: at_least_one(version),
        _extra: no_extra(),
    }
}

/// A JSON file; none if it is not there.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    Ok(read_with(path)?.map(|(_, value)| value))
}

/// The same, with its bytes.
fn read_with<T: DeserializeOwned>(path: &Path) -> Result<Option<(Vec<u8>, T)>> {
    match whole(path, METADATA) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some((bytes, value))),
            Err(error) => Err(damaged(path, &error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path)(error)),
    }
}

/// A file with a version in its name, which another one names.
fn named<T: DeserializeOwned>(directory: &Path, kind: &str, of: Option<&Metafile>) -> Result<(Vec<u8>, T)> {
    let of = of.ok_or_else(|| damaged(&directory.join("timestamp.json"), &format!("no {kind} is named")))?;
    let path = directory.join(format!("{}.{kind}.json", of.version));
    let (bytes, value) = read_with::<T>(&path)?.ok_or_else(|| damaged(&path, &"it is not there"))?;
    if meta(&bytes, of.version.get()) != *of {
        return Err(damaged(&path, &"it is not the one that is named"));
    }
    Ok((bytes, value))
}

/// Checks that a file is signed by those who may, in this repository of this fleet.
fn verify<T: Role + Serialize>(
    root: &Root,
    stamp: &Stamp,
    file: &Signed<T>,
    extra: &HashMap<String, Value>,
    path: &Path,
) -> Result<()> {
    root.verify_role(file).map_err(|error| damaged(path, &error))?;
    match Stamp::of(extra).as_ref() == Some(stamp) {
        true => Ok(()),
        false => Err(damaged(path, &"it is of another repository or fleet")),
    }
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Asked(format!("{}: it is damaged ({why}); restore the fleet directory", path.display()))
}
