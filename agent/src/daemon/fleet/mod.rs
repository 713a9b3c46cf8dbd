//! Follows a fleet: what people have signed for many hosts is verified, and enforced here.
//!
//! ```text
//! origin ─ Client (TUF), one a repository ─ Wanted ─ one change ─ pending ─ health ─ confirmed
//!                  │ refused: an event, an alarm                       └─ gone back, and not tried again
//! ```
//!
//! Nobody who carries the files is believed, and an origin that is dead changes nothing. What is enforced is the
//! fleet's if its generation says so, which [`Signed`](crate::daemon::trust::Signed) does.

mod enforce;
mod following;
mod good;
mod health;
mod later;
mod local;
mod notes;
mod origin;
mod record;
mod report;
mod telling;
mod texts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use bulkhead_api::status::{FleetBundle, FleetBundles, FleetNotes};
use bulkhead_fleet::{Cause, Checked, Repository};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::later::Later;
use self::notes::Lifted;
use self::record::Record;
use crate::daemon::log::log_unsaved;
use crate::daemon::setup::Setup;
use crate::daemon::state::{Enforcer, held};
use crate::daemon::store::{Ledger, Store};
use crate::exit::Usage;

pub use self::following::start;
pub use self::good::good;
pub use self::local::aside;
pub use self::notes::{about, hand_in, signers};
pub use self::report::{left, status, wrong};

/// A bundle of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The version that was signed.
    pub version: u64,
    /// SHA-256 of its text, hexadecimal.
    pub digest: String,
}

/// A policy and an inventory of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundles {
    /// The policy.
    pub policy: Bundle,
    /// The inventory.
    pub inventory: Bundle,
}

impl Bundle {
    fn of(checked: &Checked) -> Self {
        Self { version: checked.version, digest: checked.digest.clone() }
    }

    fn told(&self) -> FleetBundle {
        FleetBundle { version: self.version, digest: self.digest.clone() }
    }
}

impl Bundles {
    fn get(&self, repository: Repository) -> &Bundle {
        match repository {
            Repository::Policy => &self.policy,
            Repository::Inventory => &self.inventory,
        }
    }

    /// Whether the texts are the same; versions may differ.
    fn is_same(&self, other: &Self) -> bool {
        Repository::ALL.into_iter().all(|of| self.get(of).digest == other.get(of).digest)
    }

    /// In words: `policy 3, inventory 7`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("policy {}, inventory {}", self.policy.version, self.inventory.version)
    }

    fn told(&self) -> FleetBundles {
        FleetBundles { policy: self.policy.told(), inventory: self.inventory.told() }
    }
}

/// What is known of the fleet, for whoever asks.
#[derive(Debug, Default)]
pub struct Fleet {
    known: Mutex<Known>,
    /// Quarantines of the fleet that were lifted.
    lifted: Mutex<Lifted>,
    /// Wakes the thread that follows.
    news: OnceLock<Arc<Notify>>,
}

#[derive(Debug, Default)]
struct Known {
    record: Record,
    /// What was verified last, since the agent began.
    verified: BTreeMap<&'static str, Checked>,
    /// When both were, ns since boot.
    checked: Option<u64>,
    /// Why nothing new is taken, by repository or other matter.
    problems: BTreeMap<&'static str, String>,
    waiting: Option<String>,
    notes: Option<FleetNotes>,
    later: Later,
    refusals: BTreeMap<&'static str, u64>,
}

impl Fleet {
    fn count(&self, cause: Cause) {
        *held(&self.known).refusals.entry(cause.name()).or_default() += 1;
    }
}

/// Whether this host follows a fleet and has taken anything of it. A record that is damaged or gone does not say that it has
/// not: what `run` names may open what the fleet has closed.
#[must_use]
pub fn has_taken(setup: &Setup, store: &Store) -> bool {
    if setup.config.fleet.is_none() {
        return false;
    }
    match Record::load(store) {
        Ok(Some(Record { good: Some(_), .. })) | Err(_) => true,
        Ok(Some(_)) => kept_generation(store),
        Ok(None) => kept_generation(store) || texts::any(&setup.paths.state),
    }
}

/// Whether what is enforced, or may return, is the fleet's.
fn kept_generation(store: &Store) -> bool {
    let Ok(ledger) = store.ledger() else { return true };
    let is_fleets = |number| store.made_of(number).is_some_and(|made| made.signed.fleet.is_some());
    generations(&ledger).any(is_fleets)
}

/// The generations that the agent may go on with or go back to by itself.
fn generations(ledger: &Ledger) -> impl Iterator<Item = u32> + '_ {
    let before = ledger.pending.as_ref().and_then(|pending| pending.before);
    [Some(ledger.enforced), ledger.target, ledger.previous, before].into_iter().flatten()
}

/// Enforces what the fleet has signed again, in place of what was applied on this host, and tries once more what was given
/// up. Whether there was such a change.
///
/// # Errors
/// If agent.toml has no fleet, or the disk refuses.
pub fn resume(enforcer: &Enforcer) -> anyhow::Result<bool> {
    if enforcer.setup.config.fleet.is_none() {
        return Err(Usage("agent.toml has no [fleet]: there is nothing to go back to".to_owned()).into());
    }
    let fleet = &enforcer.setup.fleet;
    let was_local = local::is_aside(enforcer);
    let ledger = enforcer.live().ledger.clone();
    let changes = generations(&ledger).filter_map(|number| enforcer.store.made_of(number)?.signed.aside);
    {
        let mut known = held(&fleet.known);
        known.record.resume(changes);
        known.record.refused.clear();
        known.later = Later::default();
        known.record.save(&enforcer.store)?;
    }
    fleet.wake();
    Ok(was_local)
}

impl Fleet {
    fn wake(&self) {
        if let Some(news) = self.news.get() {
            news.notify_one();
        }
    }

    /// Changes the record, and keeps it.
    fn record(&self, store: &Store, change: impl FnOnce(&mut Record)) {
        let mut known = held(&self.known);
        change(&mut known.record);
        log_unsaved(known.record.save(store));
    }
}
