//! Whether what was kept of a generation is what was kept: files that somebody has changed since are as good as gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_api::record::Digests;

use crate::config::Mode;
use crate::daemon::store::GenerationMeta;

/// What this process has written or read first, by generation. Whoever changes the digests on disk along with the
/// files does not get past it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seals(Arc<Mutex<BTreeMap<u32, Seal>>>);

#[derive(Debug)]
struct Seal {
    digests: Digests,
    mode: Mode,
    /// That it was broken is told once.
    is_told: bool,
}

impl Seals {
    /// A generation is made from this.
    pub(super) fn set(&self, number: u32, digests: Digests, mode: Mode) {
        self.all().insert(number, Seal { digests, mode, is_told: false });
    }

    /// Whether what was read, files of these digests and what was kept besides, is what was kept.
    pub(super) fn holds(&self, number: u32, read: &Digests, made: &GenerationMeta) -> bool {
        let is_recorded = made.digests.as_ref().is_none_or(|digests| digests == read);
        let mut all = self.all();
        let new = || Seal { digests: read.clone(), mode: made.mode, is_told: false };
        let seal = all.entry(number).or_insert_with(new);
        let holds = is_recorded && (&seal.digests, seal.mode) == (read, made.mode);
        if !holds && !std::mem::replace(&mut seal.is_told, true) {
            tracing::error!(
                generation = number,
                "its recorded files are not those that it was made from: somebody has changed them"
            );
        }
        holds
    }

    /// Forgets other generations than these.
    pub(super) fn keep(&self, numbers: &[u32]) {
        self.all().retain(|number, _| numbers.contains(number));
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u32, Seal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_policy::source::Source;

    use crate::config::Mode;
    use crate::daemon::files::Files;
    use crate::daemon::store::{GenerationMeta, Store};

    fn save(store: &Store, mode: Mode) {
        let files = Files::new(Source::new("p", "[]"), Source::new("i", "{}"));
        let digests = Some(files.digests());
        let fingerprints = Vec::new();
        let (policy, inventory) = files.paths();
        let made = GenerationMeta {
            policy,
            inventory,
            digests,
            mode,
            fingerprints,
            signed: Default::default(),
            origin: None,
        };
        store.save_inputs(7, &files, &made).unwrap();
    }

    #[test]
    fn changed_files_are_as_good_as_gone() {
        let root = tempfile::tempdir().unwrap();
        let agent = Store::new(root.path());
        for file in ["policy", "inventory"] {
            save(&agent, Mode::Enforce);
            assert!(agent.inputs_of(7).is_some() && Store::new(root.path()).inputs_of(7).is_some());
            std::fs::write(root.path().join("generation-7").join(file), "[ ]").unwrap();
            assert!(agent.inputs_of(7).is_none(), "{file}");
            assert!(Store::new(root.path()).inputs_of(7).is_none(), "{file}");
        }
    }

    #[test]
    fn what_is_kept_besides_the_files_is_known_without_them() {
        let root = tempfile::tempdir().unwrap();
        let agent = Store::new(root.path());
        save(&agent, Mode::Audit);
        let (_, whole) = agent.inputs_of(7).unwrap();
        for file in ["policy", "inventory"] {
            std::fs::remove_file(root.path().join("generation-7").join(file)).unwrap();
        }
        assert_eq!((agent.made_of(7), agent.inputs_of(7).is_none()), (Some(whole.clone()), true));
        // Another mode, or files that are not known, are not the same.
        let other = GenerationMeta { mode: Mode::Enforce, ..whole.clone() };
        let unknown = GenerationMeta { digests: None, ..whole.clone() };
        let is_same = [whole, other, unknown].map(|made| agent.is_same(7, &made));
        assert_eq!((is_same, agent.made_of(8)), ([true, false, false], None));
    }

    #[test]
    fn what_a_process_has_kept_it_knows_whatever_the_disk_says() {
        let root = tempfile::tempdir().unwrap();
        let agent = Store::new(root.path());
        save(&agent, Mode::Enforce);
        // Somebody else, with digests that fit.
        save(&Store::new(root.path()), Mode::Audit);
        assert!(agent.inputs_of(7).is_none());
        assert!(Store::new(root.path()).inputs_of(7).is_some());
        save(&agent, Mode::Enforce);
        assert!(agent.inputs_of(7).is_some());
    }
}
