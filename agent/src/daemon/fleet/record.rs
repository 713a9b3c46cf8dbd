//! What outlives the agent: what was good, what is being tried, what is not tried again.

use bulkhead_fleet::Repository;
use serde::{Deserialize, Serialize};

use super::Bundles;
use super::later::Later;
use crate::daemon::store::Store;

const FILE: &str = "fleet.json";

/// So many refusals are remembered.
const MOST: usize = 64;

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What was enforced last and found good.
    pub good: Option<Bundles>,
    /// What is being tried, since when (ns since the Unix epoch).
    pub trying: Option<(Bundles, u64)>,
    /// What is not tried again, the last first.
    pub refused: Vec<Refused>,
    /// Changes on this host that are over, by [`Signed::aside`](crate::daemon::trust::Signed), the last first.
    #[serde(default)]
    pub over: Vec<u64>,
    /// By which agent.toml and agent things were refused, as a digest.
    #[serde(default)]
    pub settings: String,
}

/// What is not tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    pub bundles: Bundles,
    /// Why.
    pub why: String,
    /// It was enforced, and gone back from: whose fault it was. None: both together did not hold.
    pub blamed: Option<Blamed>,
}

/// Which of two bundles was new when the host's own check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Blamed {
    Policy,
    Inventory,
}

impl Blamed {
    const fn repository(self) -> Repository {
        match self {
            Self::Policy => Repository::Policy,
            Self::Inventory => Repository::Inventory,
        }
    }
}

impl Refused {
    /// Whether it says that these are not tried.
    fn is_about(&self, bundles: &Bundles) -> bool {
        match self.blamed {
            Some(blamed) => {
                let repository = blamed.repository();
                self.bundles.get(repository).digest == bundles.get(repository).digest
            }
            None => {
                let same = |of: Repository| self.bundles.get(of).digest == bundles.get(of).digest;
                Repository::ALL.into_iter().all(same)
            }
        }
    }

    /// What it is about, in words.
    pub(super) fn what(&self) -> String {
        match self.blamed {
            Some(blamed) => {
                let repository = blamed.repository();
                format!("{repository} {}", self.bundles.get(repository).version)
            }
            None => self.bundles.name(),
        }
    }
}

impl Record {
    /// The record; none: there is none.
    pub(super) fn load(store: &Store) -> anyhow::Result<Option<Self>> {
        store.load(FILE)
    }

    /// Changes that were made on this host are over.
    pub(super) fn resume(&mut self, changes: impl IntoIterator<Item = u64>) {
        for change in changes {
            if !self.over.contains(&change) {
                self.over.insert(0, change);
            }
        }
        self.over.truncate(MOST);
    }

    pub(super) fn save(&self, store: &Store) -> anyhow::Result<()> {
        store.save(FILE, self)
    }

    /// Why these are not tried; none: they may be, as what was good always may.
    pub(super) fn refusal(&self, bundles: &Bundles) -> Option<&Refused> {
        let is_of_good = |refused: &&Refused| self.good.as_ref().is_some_and(|good| refused.is_about(good));
        self.refused.iter().find(|refused| refused.is_about(bundles) && !is_of_good(refused))
    }

    /// These are not tried again.
    pub(super) fn refuse(&mut self, refused: Refused) {
        self.refused.insert(0, refused);
        self.refused.truncate(MOST);
    }

    /// What was refused under another agent.toml, or by another agent, may hold now.
    pub(super) fn under(&mut self, settings: String) {
        if self.settings != settings {
            self.refused.clear();
            self.settings = settings;
        }
    }

    /// Which bundle is to blame where the host's own check fails: the policy, if it is new, else the inventory, if that is.
    /// None: both were good before.
    pub(super) fn blame(&self, tried: &Bundles) -> Option<Blamed> {
        let is_new = |of: Repository| {
            self.good.as_ref().is_none_or(|good| good.get(of).digest != tried.get(of).digest)
        };
        if is_new(Repository::Policy) {
            return Some(Blamed::Policy);
        }
        is_new(Repository::Inventory).then_some(Blamed::Inventory)
    }

    /// What is newer than what was good and was gone back from more than once as files did not come any more. It may be what
    /// keeps them away, as a policy does that cuts a host off; so whoever lets it go to others hears of it, and it is tried
    /// again.
    pub(super) fn given_up_again(&self, later: &Later) -> Vec<Refused> {
        let given_up = later.repeated().filter_map(|(bundles, why)| {
            let blamed = self.blame(bundles)?;
            let version = |of: &Bundles| of.get(blamed.repository()).version;
            let is_newer = self.good.as_ref().is_none_or(|good| version(bundles) > version(good));
            let why = format!("{why}; it is tried again");
            is_newer.then(|| Refused { bundles: bundles.clone(), why, blamed: Some(blamed) })
        });
        given_up.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Bundle;
    use super::{Blamed, Bundles, Later, Record, Refused};

    fn bundles(policy: u64, inventory: u64) -> Bundles {
        let bundle = |version: u64| Bundle { version, digest: format!("{version:064}") };
        Bundles { policy: bundle(policy), inventory: bundle(inventory) }
    }

    #[test]
    fn what_was_gone_back_from_is_not_tried_with_another_inventory() {
        let mut record = Record { good: Some(bundles(1, 1)), ..Record::default() };
        assert_eq!(record.blame(&bundles(2, 1)), Some(Blamed::Policy));
        assert_eq!(record.blame(&bundles(1, 2)), Some(Blamed::Inventory));
        // Neither is to blame for what was good before, whatever version it has by now.
        let mut again = bundles(1, 1);
        (again.policy.version, again.inventory.version) = (7, 7);
        assert_eq!(record.blame(&again), None);
        let refused = |tried: Bundles, blamed| Refused { bundles: tried, why: "x".to_owned(), blamed };
        record.refuse(refused(bundles(2, 2), Some(Blamed::Policy)));
        let is_refused =
            |record: &Record, policy, inventory| record.refusal(&bundles(policy, inventory)).is_some();
        assert!(is_refused(&record, 2, 3) && !is_refused(&record, 1, 2) && !is_refused(&record, 3, 2));
        // What did not hold together may hold with another.
        record.refuse(refused(bundles(3, 4), None));
        assert!(is_refused(&record, 3, 4) && !is_refused(&record, 3, 5) && !is_refused(&record, 4, 4));
        assert_eq!(record.refused[1].what(), "policy 2");
        assert_eq!(record.refused[0].what(), "policy 3, inventory 4");
        (0..200).for_each(|number| record.refuse(refused(bundles(number, 1), None)));
        assert_eq!(record.refused.len(), 64);
    }

    #[test]
    fn what_may_cut_a_host_off_is_told_of_once_it_is_no_accident() {
        let record = Record { good: Some(bundles(2, 2)), ..Record::default() };
        let mut later = Later::default();
        let mut told = |tried: &Bundles| {
            later.put_off(tried, "no files", Duration::from_secs(1), 0);
            record.given_up_again(&later).iter().map(Refused::what).collect::<Vec<_>>()
        };
        assert!(told(&bundles(3, 2)).is_empty(), "once, it may be whoever carries the files");
        assert_eq!(told(&bundles(3, 2)), ["policy 3"]);
        // What was good before is no news, and what is older than that is over.
        for _ in 0..2 {
            assert_eq!(told(&bundles(2, 2)), ["policy 3"]);
            assert_eq!(told(&bundles(1, 2)), ["policy 3"]);
        }
        told(&bundles(2, 4));
        assert_eq!(told(&bundles(2, 4)), ["inventory 4", "policy 3"]);
    }

    #[test]
    fn what_is_good_is_never_refused_and_another_configuration_forgets() {
        let mut record = Record::default();
        for blamed in [Some(Blamed::Policy), Some(Blamed::Inventory), None] {
            record.refuse(Refused { bundles: bundles(1, 1), why: "x".to_owned(), blamed });
        }
        assert!(record.refusal(&bundles(1, 1)).is_some() && record.refusal(&bundles(2, 1)).is_some());
        record.good = Some(bundles(1, 1));
        assert!(record.refusal(&bundles(1, 1)).is_none() && record.refusal(&bundles(2, 1)).is_none());
        record.under("a".to_owned());
        assert!(record.refused.is_empty());
        record.refuse(Refused { bundles: bundles(2, 1), why: "x".to_owned(), blamed: None });
        record.under("a".to_owned());
        assert!(record.refusal(&bundles(2, 1)).is_some());
        record.under("b".to_owned());
        assert!(record.refusal(&bundles(2, 1)).is_none());
    }
}
