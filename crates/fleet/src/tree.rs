//! A fleet directory, for those who publish: what is there, what waits for signatures, and what comes next.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tough::schema::{
    Hashes, Metafile, Role, RoleType, Root, Signature, Signed, Snapshot, Targets, Timestamp,
};

use crate::client::{LONGEST, digest};
use crate::draft::{Body, Draft, no_extra, signed};
use crate::error::{Error, Result};
use crate::files::whole;
use crate::keys::{self, Holder, canonical};
use crate::repository::Repository;
use crate::roles::{
    Keyholders, MONTH, SPEC, YEAR, after, at_least_one, bundle, holders, ids, is_plain, is_plain_bundle,
    signers,
};
use crate::rollout::{MEMBER, Rollout};
use crate::stamp::Stamp;
use crate::transport::METADATA;
use crate::trusted::replace;

/// How long a fleet directory is waited for that somebody else changes, and how often it is looked at.
const ALONE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(50);

/// A fleet directory.
#[derive(Clone, Debug)]
pub struct Tree(PathBuf);

/// What a repository has published.
#[derive(Clone, Debug)]
pub struct Published {
    timestamp: Signed<Timestamp>,
    snapshot: Signed<Snapshot>,
    snapshot_bytes: Vec<u8>,
    targets: Signed<Targets>,
    targets_bytes: Vec<u8>,
}

/// What a repository is at, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// Which.
    pub repository: &'static str,
    /// The version of its root; none: there is none.
    pub root: Option<u64>,
    /// When the root expires.
    pub root_expires: Option<String>,
    /// The version of what is published; none: nothing is.
    pub version: Option<u64>,
    /// Its bundle's SHA-256, hexadecimal.
    pub digest: Option<String>,
    /// Its bundle's length, bytes.
    pub length: Option<u64>,
    /// Who has signed it.
    pub signers: Vec<String>,
    /// When it expires.
    pub expires: Option<String>,
    /// When the timestamp expires, without which nobody takes anything new.
    pub fresh_until: Option<String>,
    /// Hosts of a hundred that may take it; none: all.
    pub share: Option<u8>,
    /// What waits for signatures, and for whose.
    pub waiting: Vec<String>,
}

/// A version that nobody reaches who counts: one an hour takes as many years as there have been.
const JUMP: u64 = 1 << 32;

/// The version after one that is published, of a snapshot or a timestamp. Hosts forget the one that a former key has signed,
/// so with another key it may begin anew.
fn after_version<T: Role + Serialize>(root: &Root, old: Option<(&Signed<T>, u64)>) -> Result<u64> {
    let Some((old, version)) = old else { return Ok(1) };
    if version < JUMP {
        return Ok(version + 1);
    }
    if root.verify_role(old).is_err() {
        return Ok(1);
    }
    Err(Error::Asked(format!(
        "{:?} has version {version}, which nobody reaches by counting: somebody else has the key that freshens. Change it \
         by `bulkhead fleet rotate --online`: with another key counting begins anew",
        T::TYPE
    )))
}

/// What signs as who freshens.
pub type Sign<'s> = &'s mut dyn FnMut(&[u8]) -> std::result::Result<Vec<u8>, String>;

/// How to publish.
#[derive(Clone, Copy, Debug)]
pub struct Publication {
    /// Hosts of a hundred that may take a new policy; none: as before for the same version, else all.
    pub share: Option<u8>,
    /// How long it is fresh, seconds.
    pub fresh: i64,
    /// Now, seconds since 1970.
    pub now: i64,
}

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

    fn metadata(&self, repository: Repository) -> PathBuf {
        self.0.join(repository.name()).join("metadata")
    }

    fn drafts(&self, repository: Repository) -> PathBuf {
        self.0.join(repository.name()).join("drafts")
    }

    fn targets(&self, repository: Repository) -> PathBuf {
        self.0.join(repository.name()).join("targets")
    }

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
        self::replace(&path, bundle.as_bytes()).map_err(Error::file(&path))?;
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

    fn draft_root(&self, repository: Repository) -> Result<Option<Draft>> {
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

    fn draft_targets(&self, repository: Repository) -> Result<Option<Draft>> {
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

    /// The newest root, to which the first one leads by signatures.
    ///
    /// # Errors
    /// If files cannot be read, or a root is not signed by those whom it and the one before name.
    fn root(&self, repository: Repository) -> Result<Option<Signed<Root>>> {
        let directory = self.metadata(repository);
        let mut newest: Option<Signed<Root>> = None;
        for version in 1.. {
            let path = directory.join(format!("{version}.root.json"));
            let Some(root) = read::<Signed<Root>>(&path)? else { break };
            let stamp = self.stamp(repository, newest.as_ref().map_or(&root.signed, |root| &root.signed))?;
            is_plain(&root.signed, &stamp, version).map_err(|words| damaged(&path, &words))?;
            for by in newest.iter().chain([&root]) {
                by.signed.verify_role(&root).map_err(|error| damaged(&path, &error))?;
            }
            newest = Some(root);
        }
        Ok(newest)
    }

    /// What is published, verified as hosts do, whether or not it has expired. While a new root is being published that
    /// one's keys count, too: the root is put there last.
    fn published(&self, repository: Repository) -> Result<Option<Published>> {
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
        Ok(Some(Published { timestamp, snapshot, snapshot_bytes, targets, targets_bytes }))
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

    /// What a repository is at.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn standing(&self, repository: Repository) -> Result<Standing> {
        let root = self.root(repository)?;
        let published = self.published(repository)?;
        let mut waiting = Vec::new();
        for draft in [self.draft_root(repository), self.draft_targets(repository)] {
            let words = match draft {
                Ok(None) => continue,
                Ok(Some(draft)) => match draft.missing()? {
                    Some(missing) => missing,
                    None => format!("{} is signed: publish it", draft.name()),
                },
                Err(error) => error.to_string(),
            };
            if !waiting.contains(&words) {
                waiting.push(words);
            }
        }
        let of = published.as_ref();
        let targets = of.map(|published| &published.targets);
        let bundle = targets.and_then(|targets| target(repository, &targets.signed));
        let version = targets.map(|targets| targets.signed.version.get());
        let member = of.and_then(|published| published.timestamp.signed._extra.get(MEMBER));
        let rollout = member.and_then(|member| Rollout::read(Some(member), version.unwrap_or_default()));
        let signers = match (&root, targets) {
            (Some(root), Some(targets)) => signers(&root.signed, targets),
            _ => Vec::new(),
        };
        Ok(Standing {
            repository: repository.name(),
            root: root.as_ref().map(|root| root.signed.version.get()),
            root_expires: root.as_ref().map(|root| root.signed.expires.to_string()),
            version,
            digest: bundle.as_ref().map(|(digest, _)| digest.clone()),
            length: bundle.map(|(_, length)| length),
            signers,
            expires: targets.map(|targets| targets.signed.expires.to_string()),
            fresh_until: of.map(|published| published.timestamp.signed.expires.to_string()),
            share: rollout.map(|rollout| rollout.share),
            waiting,
        })
    }

    /// Publishes what is signed, and freshens it. Files that a timestamp names are there before it is.
    ///
    /// # Errors
    /// If what is signed is not enough, the key is not that of who freshens, or the disk refuses.
    pub fn publish(
        &self,
        repository: Repository,
        by: &bulkhead_grants::PublicKey,
        sign: Sign<'_>,
        how: Publication,
    ) -> Result<Vec<String>> {
        self.put(repository, by, sign, how, true)
    }

    /// Freshens what is published, for a share of the hosts if one is named, and publishes nothing that is new, whoever has
    /// signed it meanwhile.
    ///
    /// # Errors
    /// If another version than `only` is published, or as [`Self::publish`].
    pub fn freshen(
        &self,
        repository: Repository,
        by: &bulkhead_grants::PublicKey,
        sign: Sign<'_>,
        how: Publication,
        only: Option<u64>,
    ) -> Result<Vec<String>> {
        let published = self.published(repository)?.map(|published| published.targets.signed.version.get());
        if let (Some(only), Some(published)) = (only, published)
            && only != published
        {
            return Err(Error::Asked(format!(
                "{repository} version {published} was published meanwhile, and version {only} is meant: begin anew"
            )));
        }
        if published.is_none() {
            return Err(Error::Asked(format!(
                "{repository} has nothing that is published and could be freshened"
            )));
        }
        self.put(repository, by, sign, how, false)
    }

    fn put(
        &self,
        repository: Repository,
        by: &bulkhead_grants::PublicKey,
        sign: Sign<'_>,
        how: Publication,
        takes_new: bool,
    ) -> Result<Vec<String>> {
        let mut done = Vec::new();
        let (before, published) = (self.root(repository)?, self.published(repository)?);
        // A draft that is none keeps nothing that is published from being freshened.
        let mut ready = |draft: Result<Option<Draft>>| match draft {
            _ if !takes_new => Ok(None),
            Err(error) if published.is_some() => {
                let words = format!("not looked at: {error}");
                if !done.contains(&words) {
                    done.push(words);
                }
                Ok(None)
            }
            draft => draft,
        };
        let new_root = match ready(self.draft_root(repository))? {
            Some(draft) if draft.missing()?.is_none() => Some(draft),
            _ => None,
        };
        let root = match &new_root {
            Some(Draft { body: Body::Root(root), .. }) => (**root).clone(),
            _ => match before {
                Some(root) => root.signed,
                None => return Err(self.not_signed(repository)?),
            },
        };
        let new_targets = self.signed_by(&root, ready(self.draft_targets(repository))?)?;
        let targets = match (&new_targets, &published) {
            (Some((_, targets)), _) => targets.clone(),
            (None, Some(published)) => published.targets.clone(),
            (None, None) => return Err(self.not_signed(repository)?),
        };
        root.verify_role(&targets).map_err(|error| {
            let waits =
                self.draft_targets(repository).ok().flatten().and_then(|draft| draft.missing().ok()?);
            let waits = waits.unwrap_or_else(|| "sign it anew".to_owned());
            Error::Asked(format!(
                "{repository} version {} is not signed as the root asks for ({error}): {waits}",
                targets.signed.version
            ))
        })?;
        let stamp = self.stamp(repository, &root)?;
        let holder = self.online(&root, by)?;
        let (id, _) = holder.tuf()?;
        let mut by_online = |bytes: Vec<u8>| -> Result<Vec<Signature>> {
            let bytes = sign(&bytes).map_err(Error::Asked)?;
            Ok(vec![Signature { keyid: id.clone(), sig: bytes.into() }])
        };
        let directory = self.metadata(repository);
        let put = |name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            replace(&path, bytes).map_err(Error::file(&path))
        };
        let version = targets.signed.version.get();
        let name = format!("{version}.targets.json");
        let targets_bytes = match (&new_targets, &published) {
            (None, Some(published)) => published.targets_bytes.clone(),
            _ => json(&targets)?,
        };
        if new_targets.is_some() {
            put(&name, &targets_bytes)?;
            done.push(format!("{repository} version {version}"));
        }
        let is_kept = |published: &&Published| {
            let half = how.now.saturating_add(MONTH / 2);
            new_targets.is_none()
                && new_root.is_none()
                && published.snapshot.signed.expires.as_second() > half
        };
        let (snapshot_version, snapshot_bytes) = match published.as_ref().filter(is_kept) {
            Some(kept) => (kept.snapshot.signed.version.get(), kept.snapshot_bytes.clone()),
            None => {
                let old = published.as_ref().map(|published| &published.snapshot);
                let mut number = after_version(&root, old.map(|old| (old, old.signed.version.get())))?;
                while directory.join(format!("{number}.snapshot.json")).exists() && number < JUMP {
                    number += 1;
                }
                let mut new = Snapshot::new(SPEC.to_owned(), at_least_one(number), after(how.now, MONTH)?);
                new._extra = stamp.members();
                new.meta.insert("targets.json".to_owned(), meta(&targets_bytes, version));
                let signatures = by_online(canonical(&new)?)?;
                let bytes = json(&signed(new, signatures))?;
                put(&format!("{number}.snapshot.json"), &bytes)?;
                (number, bytes)
            }
        };
        let old = published.as_ref().map(|published| &published.timestamp.signed);
        let number = published.as_ref().map(|published| &published.timestamp);
        let number = after_version(&root, number.map(|old| (old, old.signed.version.get())))?;
        let mut timestamp = Timestamp::new(SPEC.to_owned(), at_least_one(number), after(how.now, how.fresh)?);
        timestamp._extra = stamp.members();
        timestamp.meta.insert("snapshot.json".to_owned(), meta(&snapshot_bytes, snapshot_version));
        let same = old.and_then(|old| old._extra.get(MEMBER)).filter(|_| new_targets.is_none());
        let share = match (repository, how.share) {
            (Repository::Policy, Some(share)) => Some(share),
            (Repository::Policy, None) => {
                same.and_then(|member| Rollout::read(Some(member), version)).map(|of| of.share)
            }
            (Repository::Inventory, _) => None,
        };
        if let Some(share) = share.filter(|share| *share < 100) {
            let member = serde_json::to_value(Rollout { version, share });
            let member = member.map_err(|error| Error::Asked(error.to_string()))?;
            timestamp._extra.insert(MEMBER.to_owned(), member);
            done.push(format!("{repository} version {version} for {share} % of the hosts"));
        }
        let signatures = by_online(canonical(&timestamp)?)?;
        let timestamp = signed(timestamp, signatures);
        let timestamp_bytes = json(&timestamp)?;
        // Its draft vouches for the timestamp until the root is there.
        put("timestamp.json", &timestamp_bytes)?;
        if let Some(draft) = &new_root
            && let Body::Root(body) = &draft.body
        {
            let number = body.version;
            put(&format!("{number}.root.json"), &json(&signed((**body).clone(), draft.signatures()?))?)?;
            done.push(format!("root {number} of {repository}"));
        }
        done.push(format!("{repository} is fresh until {}", timestamp.signed.expires));
        for draft in new_root.iter().chain(new_targets.as_ref().map(|(draft, _)| draft)) {
            draft.remove()?;
        }
        Ok(done)
    }

    /// A draft of targets that a root's keys have signed enough.
    fn signed_by(&self, root: &Root, draft: Option<Draft>) -> Result<Option<(Draft, Signed<Targets>)>> {
        let Some(draft) = draft else { return Ok(None) };
        let Body::Targets(targets) = &draft.body else { return Ok(None) };
        let signed = signed((**targets).clone(), draft.signatures()?);
        let is_enough = root.verify_role(&signed).is_ok();
        Ok(is_enough.then_some((draft, signed)))
    }

    /// What is missing before anything can be published.
    fn not_signed(&self, repository: Repository) -> Result<Error> {
        for draft in [self.draft_root(repository)?, self.draft_targets(repository)?].into_iter().flatten() {
            if let Some(missing) = draft.missing()? {
                return Ok(Error::Asked(format!("{missing}: `bulkhead fleet sign`")));
            }
        }
        if self.draft_root(repository)?.is_none() && self.root(repository)?.is_none() {
            return Ok(self.no_fleet());
        }
        Ok(Error::Asked(format!(
            "{repository} has nothing to publish: `bulkhead fleet sign` with --{repository} drafts and signs it"
        )))
    }

    fn online(&self, root: &Root, by: &bulkhead_grants::PublicKey) -> Result<Holder> {
        let known = holders(root, RoleType::Timestamp);
        let names: Vec<String> =
            known.iter().map(|holder| format!("{} {}", holder.name, holder.key.fingerprint())).collect();
        known.into_iter().find(|holder| holder.key.is_of_same_pair(by)).ok_or_else(|| {
            Error::Asked(format!(
                "{} is not the key that freshens: that is {}",
                by.fingerprint(),
                names.join(", ")
            ))
        })
    }
}

fn target(repository: Repository, targets: &Targets) -> Option<(String, u64)> {
    let (_, target) = targets.targets.iter().find(|(name, _)| name.raw() == repository.target())?;
    Some((keys::hex(&target.hashes.sha256), target.length))
}

fn meta(bytes: &[u8], version: u64) -> Metafile {
    Metafile {
        length: Some(bytes.len() as u64),
        hashes: Some(Hashes { sha256: Sha256::digest(bytes).to_vec().into(), _extra: no_extra() }),
        version: at_least_one(version),
        _extra: no_extra(),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Asked(error.to_string()))
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
