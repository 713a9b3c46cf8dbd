//! What ends, as its sources tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bulkhead_api::event::Expiring;

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

/// What sources besides the running generation have told of, by source.
#[derive(Debug, Default)]
pub struct Endings(Mutex<BTreeMap<&'static str, Arc<[Ending]>>>);

impl Endings {
    /// Takes all that a source knows, in place of what it said before. An ending that is gone or has another time is so
    /// within a second, and so is its alarm.
    pub fn put(&self, source: &'static str, all: Vec<Ending>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            held.remove(source);
        } else if held.get(source).is_none_or(|before| **before != *all) {
            held.insert(source, all.into());
        }
    }

    /// All of them, by source.
    pub fn all(&self) -> Vec<Arc<[Ending]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
