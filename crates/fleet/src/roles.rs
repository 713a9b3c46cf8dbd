//! Who may sign what: the roots of both repositories.

use std::collections::HashMap;
use std::num::NonZeroU64;

use jiff::Timestamp;
use serde::Serialize;
use tough::TargetName;
use tough::schema::{Hashes, RoleKeys, RoleType, Root, Signature, Signed, Target, Targets};

use crate::error::{Error, Result};
use crate::keys::{Holder, KeyId, canonical};
use crate::repository::Repository;
use crate::stamp::Stamp;

/// The version of the specification that files say.
pub(crate) const SPEC: &str = "1.0.0";

const DAY: i64 = 24 * 60 * 60;

/// How long a root and signed targets are good for, seconds.
pub(crate) const YEAR: i64 = 365 * DAY;

/// The same of a snapshot.
pub(crate) const MONTH: i64 = 30 * DAY;

/// Whose keys a fleet has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyholders {
    /// Those who sign policies and roots.
    pub people: Vec<Holder>,
    /// How many of them must.
    pub threshold: u64,
    /// Who signs inventories.
    pub enroller: Holder,
    /// Who freshens: its key is on a machine that anybody may break into.
    pub online: Holder,
}

impl Keyholders {
    /// Checks that each is one person with one key, and that none of them is needed.
    ///
    /// # Errors
    /// What would ask for nothing, or for too much.
    pub fn check(&self) -> Result<()> {
        let all: Vec<&Holder> = self.people.iter().chain([&self.enroller, &self.online]).collect();
        check(self.people.len() as u64, self.threshold, &all)
    }

    /// A repository's root.
    pub(crate) fn root(&self, stamp: &Stamp, version: u64, now: i64) -> Result<Root> {
        let signs = (stamp.repository == Repository::Inventory).then_some(&self.enroller);
        root(stamp, version, after(now, YEAR)?, (&self.people, self.threshold), signs, &self.online)
    }

    /// Whose keys two roots have.
    ///
    /// # Errors
    /// If they are none of these.
    pub fn of(policy: &Root, inventory: &Root) -> Result<Self> {
        let one = |root, role, what: &str| {
            let holder = holders(root, role).into_iter().next();
            holder.ok_or_else(|| Error::Asked(format!("the root has no key of {what} that is understood")))
        };
        let people = holders(policy, RoleType::Root);
        Ok(Self {
            threshold: policy.roles.get(&RoleType::Root).map_or(0, |role| role.threshold.get()),
            people,
            enroller: one(inventory, RoleType::Targets, "an enroller")?,
            online: one(policy, RoleType::Timestamp, "who freshens")?,
        })
    }
}

/// Checks that each is one person with one key, and that no more of the people are asked for than there are.
fn check(people: u64, threshold: u64, all: &[&Holder]) -> Result<()> {
    if !(1..=people).contains(&threshold) {
        return Err(Error::Asked(format!(
            "the threshold is {threshold}, and there are {people} people: it is a number from 1 to {people}"
        )));
    }
    for (index, holder) in all.iter().enumerate() {
        for other in &all[..index] {
            if other.key.is_of_same_pair(&holder.key) {
                return Err(Error::Asked(format!(
                    "{} and {} have the same key: each has one of its own",
                    other.name, holder.name
                )));
            }
            if other.name == holder.name {
                return Err(Error::Asked(format!(
                    "{} is there twice: a person has one key, as TUF counts keys",
                    other.name
                )));
            }
        }
    }
    Ok(())
}

/// A root: people by threshold, who signs what it is for if that is not them, and who freshens.
fn root(
    stamp: &Stamp,
    version: u64,
    expires: Timestamp,
    (people, threshold): (&[Holder], u64),
    signs: Option<&Holder>,
    online: &Holder,
) -> Result<Root> {
    let mut keys = HashMap::new();
    let mut add = |holders: &[Holder], threshold: u64| -> Result<RoleKeys> {
        let mut keyids = Vec::new();
        for holder in holders {
            let (id, key) = holder.tuf()?;
            keys.insert(id.clone(), key);
            keyids.push(id);
        }
        Ok(RoleKeys { keyids, threshold: at_least_one(threshold), _extra: HashMap::new() })
    };
    let people = add(people, threshold)?;
    let online = add(std::slice::from_ref(online), 1)?;
    let targets = match signs {
        None => people.clone(),
        Some(signs) => add(std::slice::from_ref(signs), 1)?,
    };
    Ok(Root {
        spec_version: SPEC.to_owned(),
        consistent_snapshot: true,
        version: at_least_one(version),
        expires,
        keys,
        roles: HashMap::from([
            (RoleType::Root, people),
            (RoleType::Targets, targets),
            (RoleType::Snapshot, online.clone()),
            (RoleType::Timestamp, online),
        ]),
        _extra: stamp.members(),
    })
}

/// Checks that a root says what people are shown of it, and nothing else: it is what this version of Bulkhead would write
/// for the same people. If not, why.
pub(crate) fn is_plain(found: &Root, stamp: &Stamp, version: u64) -> std::result::Result<(), String> {
    let of = |role| holders(found, role);
    let (people, online, targets) = (of(RoleType::Root), of(RoleType::Timestamp), of(RoleType::Targets));
    let threshold = found.roles.get(&RoleType::Root).map_or(0, |role| role.threshold.get());
    let online = online.first().ok_or("it has no key of who freshens")?;
    let signs = match stamp.repository {
        Repository::Policy => None,
        Repository::Inventory => Some(targets.first().ok_or("it has no key of an enroller")?),
    };
    let all: Vec<&Holder> = people.iter().chain(signs).chain([online]).collect();
    check(people.len() as u64, threshold, &all).map_err(|error| error.to_string())?;
    let plain = root(stamp, version, found.expires, (&people, threshold), signs, online);
    same(found, &plain.map_err(|error| error.to_string())?)
}

/// The same of targets: one, of this repository.
pub(crate) fn is_plain_bundle(
    found: &Targets,
    stamp: &Stamp,
    version: u64,
) -> std::result::Result<(), String> {
    let name = stamp.repository.target();
    let (_, target) = (found.targets.iter().find(|(known, _)| known.raw() == name))
        .ok_or_else(|| format!("it has no {name}"))?;
    if target.hashes.sha256.len() != 32 {
        return Err("its SHA-256 is none".to_owned());
    }
    if target.length > crate::client::LONGEST {
        return Err(format!(
            "it names {} bytes, and hosts take {} at most",
            target.length,
            crate::client::LONGEST
        ));
    }
    let plain = bundle(stamp, version, found.expires, target.length, &target.hashes.sha256);
    same(found, &plain.map_err(|error| error.to_string())?)
}

/// Targets: one bundle.
pub(crate) fn bundle(
    stamp: &Stamp,
    version: u64,
    expires: Timestamp,
    length: u64,
    sha256: &[u8],
) -> Result<Targets> {
    let name = TargetName::new(stamp.repository.target());
    let name = name.map_err(|error| Error::Asked(error.to_string()))?;
    let target = Target {
        length,
        hashes: Hashes { sha256: sha256.to_vec().into(), _extra: HashMap::new() },
        custom: HashMap::new(),
        _extra: HashMap::new(),
    };
    let mut targets = Targets::new(SPEC.to_owned(), at_least_one(version), expires);
    targets.targets = HashMap::from([(name, target)]);
    targets.delegations = None;
    targets._extra = stamp.members();
    Ok(targets)
}

/// What is signed is compared: canonical JSON.
fn same<T: Serialize>(found: &T, plain: &T) -> std::result::Result<(), String> {
    let bytes = |of| canonical(of).map_err(|error| error.to_string());
    match bytes(found)? == bytes(plain)? {
        true => Ok(()),
        false => Err(
            "it says more, or something else, than is shown of it: another version, keys without a name or of no role, or \
             members that nobody knows"
                .to_owned(),
        ),
    }
}

/// Who has signed targets, by the names that the root gives their keys: each whose signature is good. Whoever freshens can
/// put any other beside them.
pub(crate) fn signers(root: &Root, targets: &Signed<Targets>) -> Vec<String> {
    let (known, Ok(message)) = (ids(root, RoleType::Targets), canonical(&targets.signed)) else {
        return Vec::new();
    };
    let by = targets.signatures.iter().filter(|signature| known.contains(&signature.keyid));
    let holder = |signature: &Signature| {
        let holder = Holder::of(root.keys.get(&signature.keyid)?)?;
        holder.key.has_signed(&message, &signature.sig).then_some(holder.name)
    };
    by.filter_map(holder).collect()
}

/// Who may sign for a role.
pub(crate) fn holders(root: &Root, role: RoleType) -> Vec<Holder> {
    ids(root, role).iter().filter_map(|id| root.keys.get(id)).filter_map(Holder::of).collect()
}

pub(crate) fn ids(root: &Root, role: RoleType) -> Vec<KeyId> {
    root.roles.get(&role).map(|role| role.keyids.clone()).unwrap_or_default()
}

pub(crate) fn at_least_one(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN)
}

/// Whole seconds after a time, both since 1970.
pub(crate) fn after(now: i64, seconds: i64) -> Result<Timestamp> {
    let time = Timestamp::from_second(now.saturating_add(seconds));
    time.map_err(|error| Error::Asked(format!("this machine's clock: {error}")))
}
