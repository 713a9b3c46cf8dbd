//! What records say of where they are from: the host, its clock, and the files of their generation.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_api::record::{Clock, Digests};
use bulkhead_events::Facts;
use bulkhead_host::clock::ClockState;

use super::control::digests;
use crate::daemon::store::Store;

/// How long an answer of the kernel about its clock, or that nothing is kept of a generation, is taken for granted.
const FRESH: Duration = Duration::from_secs(1);

/// Generations whose files' digests are kept.
const KEPT: usize = 64;

/// Facts of this host.
pub struct HostFacts {
    store: Store,
    clock: Mutex<Option<(Instant, Clock)>>,
    files: Mutex<BTreeMap<u32, (Instant, Option<Digests>)>>,
}

impl HostFacts {
    /// Of the host whose state directory this is.
    pub fn new(store: Store) -> Self {
        Self { store, clock: Mutex::default(), files: Mutex::default() }
    }
}

impl Facts for HostFacts {
    fn host(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    fn clock(&self) -> Clock {
        let mut known = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((asked, clock)) if asked.elapsed() < FRESH => clock.clone(),
            _ => known.insert((Instant::now(), clock())).1.clone(),
        }
    }

    fn files(&self, generation: u32) -> Option<Digests> {
        let mut known = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, files)) = known.get(&generation)
            && (files.is_some() || asked.elapsed() < FRESH)
        {
            return files.clone();
        }
        let kept = self.store.inputs_of(generation);
        let files = kept.map(|(files, _)| {
            let [policy, inventory] = digests(&files);
            Digests { policy, inventory }
        });
        known.insert(generation, (Instant::now(), files.clone()));
        while known.len() > KEPT {
            known.pop_first();
        }
        files
    }
}

fn clock() -> Clock {
    let ClockState { source, discipline } = ClockState::now();
    let discipline = discipline.unwrap_or_default();
    Clock {
        source,
        synchronized: discipline.synchronized,
        offset: discipline.offset,
        error: discipline.error,
    }
}
