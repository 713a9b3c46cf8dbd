//! What ends, as its sources tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_api::event::Expiring;

use super::watch::Item;

/// Something that ends at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What it is.
    pub kind: Expiring,
    /// Its name, the only one of its kind: it is what alarms, status and metrics call it.
    pub name: String,
    /// Since when it holds, ns since the Unix epoch; none: not known. What holds shortly is told of late.
    pub begins: Option<u64>,
    /// Until when it holds, ns since the Unix epoch.
    pub ends: u64,
}

impl Ending {
    pub(super) fn item(&self) -> Item<'_> {
        Item { kind: self.kind, name: &self.name, begins: self.begins, ends: self.ends }
    }
}

/// What sources besides the running generation have told of.
#[derive(Debug, Default)]
pub struct Endings(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    by_source: BTreeMap<&'static str, Arc<[Ending]>>,
    /// Sources that have not told of anything yet.
    expected: BTreeSet<&'static str>,
    /// How often something has changed.
    changes: u64,
}

impl Endings {
    fn held(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a source will [`put`](Self::put) what it knows, nothing included. To be called before alarms start:
    /// until it has, no alarm of its kinds that an earlier agent has raised ends.
    #[cfg_attr(not(test), allow(dead_code, reason = "sources of certificates call it"))]
    pub fn expect(&self, source: &'static str) {
        self.held().expected.insert(source);
    }

    /// Takes all that a source knows, in place of what it said before. An ending that is gone or has another time is so
    /// within a second, and so is its alarm.
    #[cfg_attr(not(test), allow(dead_code, reason = "sources of certificates call it"))]
    pub fn put(&self, source: &'static str, all: Vec<Ending>) {
        let mut held = self.held();
        let was_expected = held.expected.remove(source);
        let is_same = held.by_source.get(source).is_some_and(|before| **before == *all);
        if is_same {
            return;
        }
        held.changes += u64::from(was_expected || !all.is_empty() || held.by_source.contains_key(source));
        if all.is_empty() {
            held.by_source.remove(source);
        } else {
            held.by_source.insert(source, all.into());
        }
    }

    /// All of them, by source.
    pub(super) fn all(&self) -> Vec<Arc<[Ending]>> {
        self.held().by_source.values().cloned().collect()
    }

    /// A number that is another one after each change.
    pub(super) fn changes(&self) -> u64 {
        self.held().changes
    }

    /// Whether all sources have told what they know.
    pub(super) fn is_complete(&self) -> bool {
        self.held().expected.is_empty()
    }
}
