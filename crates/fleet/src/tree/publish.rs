//! What is signed, put where hosts find it, and what says that it is fresh.

use serde::Serialize;
use tough::schema::{Role, RoleType, Root, Signature, Signed, Snapshot, Targets, Timestamp};

use super::Tree;
use super::read::{Published, meta};
use crate::draft::{Body, Draft, signed};
use crate::error::{Error, Result};
use crate::keys::{Holder, canonical};
use crate::repository::Repository;
use crate::roles::{MONTH, SPEC, after, at_least_one, holders};
use crate::rollout::{MEMBER, Rollout};
use crate::trusted::replace;

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

impl Tree {
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

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Asked(error.to_string()))
}
