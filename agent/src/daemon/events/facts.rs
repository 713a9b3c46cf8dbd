//! What records say of where they are from: the host, its clock, and the files of their generation.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bulkhead_api::record::{Clock, Digests};
use bulkhead_events::Facts;
use bulkhead_host::clock::ClockState;

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

    /// Forgets the files of a generation: another one has its number now.
    pub(super) fn forget(&self, generation: u32) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&generation);
    }
}

impl Facts for HostFacts {
    fn host(&self) -> String {
        bulkhead_host::name()
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
        let files = kept.and_then(|(_, made)| made.digests);
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

#[cfg(test)]
mod tests {
    use bulkhead_api::mode::Mode;
    use bulkhead_events::Facts as _;
    use bulkhead_policy::source::Source;

    use super::HostFacts;
    use crate::daemon::files::Files;
    use crate::daemon::store::{GenerationMeta, Store};

    #[test]
    fn a_number_that_is_given_again_has_the_files_of_the_generation_that_has_it() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let facts = HostFacts::new(store.clone());
        let save = |text: &str| {
            let files = Files::new(Source::new("p", text), Source::new("i", ""));
            let made = GenerationMeta {
                policy: "p".into(),
                inventory: "i".into(),
                digests: None,
                mode: Mode::Enforce,
                fingerprints: Vec::new(),
                signed: Default::default(),
                origin: None,
            };
            store.save_inputs(7, &files, &made).unwrap();
            facts.files(7).unwrap().policy
        };
        let first = save("one");
        assert_eq!(save("two"), first, "they are asked for once");
        facts.forget(7);
        assert_ne!(save("two"), first);
    }
}
