//! What is to be signed next: drafts.

use std::fs;

use sha2::{Digest as _, Sha256};
use tough::schema::{RoleType, Root, Targets};

use super::Tree;
use crate::client::{LONGEST, digest};
use crate::draft::{Body, Draft};
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::roles::{Keyholders, YEAR, after, bundle, ids, is_plain, is_plain_bundle};
use crate::stamp::Stamp;

impl Tree {
    /// Begins a fleet: drafts of the first roots.
    ///
    /// # Errors
    /// If there is one already, keys do not fit, or the disk refuses.
    pub fn begin(&self, keyholders: &Keyholders, now: i64) -> Result<Vec<Draft>> {
        keyholders.check()?;
        for repository in Repository::ALL {
            if self.root(repository)?.is_some() || self.draft_root(repository)?.is_some() {
                return Err(Error::Asked(format!(
                    "{} has a fleet already; `bulkhead fleet rotate` changes its keys",
                    self.0.display()
                )));
            }
        }
        let fleet = Stamp::fleet()?;
        let begin = |repository| {
            self.propose_root(&Stamp { repository, fleet: fleet.clone() }, None, keyholders, now)
        };
        Repository::ALL.into_iter().map(begin).collect()
    }

    /// Drafts of the next roots, with other keys, and of what is published where other keys are to sign it.
    ///
    /// # Errors
    /// If there is no fleet, keys do not fit, or the disk refuses.
    pub fn rotate(&self, keyholders: &Keyholders, now: i64) -> Result<Vec<Draft>> {
        keyholders.check()?;
        let mut drafts = Vec::new();
        for repository in Repository::ALL {
            let before = self.root(repository)?.ok_or_else(|| self.no_fleet())?;
            if let Some(draft) = self.draft_root(repository)? {
                draft.remove()?;
            }
            let stamp = self.stamp(repository, &before.signed)?;
            let draft = self.propose_root(&stamp, Some(&before.signed), keyholders, now)?;
            let Body::Root(root) = &draft.body else { continue };
            let role = |root: &Root| {
                let threshold = root.roles.get(&RoleType::Targets).map(|role| role.threshold);
                (ids(root, RoleType::Targets), threshold)
            };
            let has_others = role(root) != role(&before.signed);
            drafts.push(draft);
            if let (true, Some(published)) = (has_others, self.published(repository)?) {
                let targets = &published.targets.signed.targets;
                let target = targets.iter().find(|(name, _)| name.raw() == repository.target());
                if let Some((_, target)) = target {
                    drafts.push(self.propose_targets(
                        repository,
                        target.length,
                        &target.hashes.sha256,
                        now,
                    )?);
                }
            }
        }
        Ok(drafts)
    }

    fn propose_root(
        &self,
        stamp: &Stamp,
        before: Option<&Root>,
        keyholders: &Keyholders,
        now: i64,
    ) -> Result<Draft> {
        let repository = stamp.repository;
        for directory in [self.metadata(repository), self.drafts(repository), self.targets(repository)] {
            fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
        }
        let version = before.map_or(1, |root| root.version.get() + 1);
        let root = keyholders.root(stamp, version, now)?;
        let body = Body::Root(Box::new(root.clone()));
        let draft = Draft::new(repository, body, &self.drafts(repository), before, &root);
        draft.write()?;
        Ok(draft)
    }

    /// Drafts the next version of a bundle; the draft of the same bundle that is there already, if so.
    ///
    /// # Errors
    /// If another one is drafted, there is no root, or the disk refuses.
    pub fn propose(&self, repository: Repository, bundle: &str, now: i64, replace: bool) -> Result<Draft> {
        let sum = digest(bundle.as_bytes());
        if bundle.len() as u64 > LONGEST {
            return Err(Error::Asked(format!(
                "it has {} bytes, and hosts take {LONGEST} at most",
                bundle.len()
            )));
        }
        if let Some(draft) = self.draft_targets(repository)? {
            if draft.digest().as_deref() == Some(&*sum) {
                return Ok(draft);
            }
            if !replace {
                let by = draft.signed()?;
                let by = if by.is_empty() { "nobody".to_owned() } else { by.join(", ") };
                return Err(Error::Asked(format!(
                    "{} is drafted already, over another file, and signed by {by}: sign that one, or begin anew with \
                     --replace",
                    draft.name()
                )));
            }
            draft.remove()?;
        }
        let directory = self.targets(repository);
        fs::create_dir_all(&directory).map_err(Error::file(&directory))?;
        // Where nobody looks for it before it is signed.
        let path = self.0.join(repository.bundle(&sum));
        crate::trusted::replace(&path, bundle.as_bytes()).map_err(Error::file(&path))?;
        self.propose_targets(repository, bundle.len() as u64, &Sha256::digest(bundle), now)
    }

    fn propose_targets(&self, repository: Repository, length: u64, sha256: &[u8], now: i64) -> Result<Draft> {
        let version = self.next_targets(repository)?;
        if let Some(old) = self.draft_targets(repository)? {
            old.remove()?;
        }
        let root = self.next_root(repository)?;
        let new = bundle(&self.stamp(repository, &root)?, version, after(now, YEAR)?, length, sha256)?;
        let draft =
            Draft::new(repository, Body::Targets(Box::new(new)), &self.drafts(repository), None, &root);
        draft.write()?;
        Ok(draft)
    }

    fn next_targets(&self, repository: Repository) -> Result<u64> {
        let Some(published) = self.published(repository)? else { return Ok(1) };
        let version = published.targets.signed.version.get();
        version.checked_add(1).ok_or_else(|| {
            Error::Asked(format!(
                "{repository} has version {version}, and no version is greater: begin a new fleet"
            ))
        })
    }

    /// The root that will be in force: a draft, or the one that is.
    fn next_root(&self, repository: Repository) -> Result<Root> {
        if let Some(Draft { body: Body::Root(root), .. }) = self.draft_root(repository)? {
            return Ok(*root);
        }
        Ok(self.root(repository)?.ok_or_else(|| self.no_fleet())?.signed)
    }

    /// What waits for signatures.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn waiting(&self) -> Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        for repository in Repository::ALL {
            drafts.extend(self.draft_root(repository)?);
            drafts.extend(self.draft_targets(repository)?);
        }
        Ok(drafts)
    }

    pub(super) fn draft_root(&self, repository: Repository) -> Result<Option<Draft>> {
        let before = self.root(repository)?.map(|root| root.signed);
        let version = before.as_ref().map_or(1, |root| root.version.get() + 1);
        let directory = self.drafts(repository);
        let root: Option<Root> = Draft::read(&directory, version, "root")?;
        let Some(root) = root else { return Ok(None) };
        let stamp = match &before {
            Some(before) => self.stamp(repository, before)?,
            None => self.stamp(repository, &root)?,
        };
        is_plain(&root, &stamp, version)
            .map_err(|words| self.no_draft(repository, version, "root", &words))?;
        let body = Body::Root(Box::new(root.clone()));
        Ok(Some(Draft::new(repository, body, &directory, before.as_ref(), &root)))
    }

    pub(super) fn draft_targets(&self, repository: Repository) -> Result<Option<Draft>> {
        let directory = self.drafts(repository);
        let version = self.next_targets(repository)?;
        let targets: Option<Targets> = Draft::read(&directory, version, "targets")?;
        let Some(targets) = targets else { return Ok(None) };
        let root = self.next_root(repository)?;
        is_plain_bundle(&targets, &self.stamp(repository, &root)?, version)
            .map_err(|words| self.no_draft(repository, version, "targets", &words))?;
        Ok(Some(Draft::new(repository, Body::Targets(Box::new(targets)), &directory, None, &root)))
    }

    /// A draft that nobody is asked to sign.
    fn no_draft(&self, repository: Repository, version: u64, kind: &str, words: &str) -> Error {
        let path = self.drafts(repository).join(format!("{version}.{kind}.json"));
        Error::Asked(format!(
            "{}: this is no draft of Bulkhead's: {words}. Sign nothing of it; find out who wrote it, and remove it",
            path.display()
        ))
    }
}
