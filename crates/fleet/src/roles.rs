//! Who may sign what: the roots of both repositories.

use std::collections::HashMap;
use std::num::NonZeroU64;

use jiff::Timestamp;
use tough::schema::{RoleKeys, RoleType, Root};

use crate::error::{Error, Result};
use crate::keys::{Holder, KeyId};
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
        let count = self.people.len() as u64;
        if !(1..=count).contains(&self.threshold) {
            return Err(Error::Asked(format!(
                "the threshold is {}, and there are {count} people: it is a number from 1 to {count}",
                self.threshold
            )));
        }
        let all: Vec<&Holder> = self.people.iter().chain([&self.enroller, &self.online]).collect();
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

    /// A repository's root.
    pub(crate) fn root(&self, stamp: &Stamp, version: u64, now: i64) -> Result<Root> {
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
        let people = add(&self.people, self.threshold)?;
        let online = add(std::slice::from_ref(&self.online), 1)?;
        let targets = match stamp.repository {
            Repository::Policy => people.clone(),
            Repository::Inventory => add(std::slice::from_ref(&self.enroller), 1)?,
        };
        Ok(Root {
            spec_version: SPEC.to_owned(),
            consistent_snapshot: true,
            version: at_least_one(version),
            expires: after(now, YEAR)?,
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
