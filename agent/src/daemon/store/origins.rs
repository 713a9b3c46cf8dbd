//! How generations came to be in force, and for how long their files are kept.

use std::fs;

use bulkhead_api::history::Origin;

use super::{Ledger, Store};
use crate::daemon::lock;

/// The file beside a generation's files.
pub const FILE: &str = "origin.json";

/// So many changes can be returned to.
pub(super) const CHANGES: usize = 20;

/// Their files take no more than this, but for those that are needed in any case.
const BYTES: u64 = 256 << 20;

impl Store {
    /// Takes a generation out of the history that did not come to be in force. Its files stay for a while.
    pub fn disown(&self, number: u32) {
        if let Some((_, made)) = self.unsaved().generations.get_mut(&number) {
            made.origin = None;
        }
        let remove = || {
            self.step("disk: take a generation out of the history")?;
            fs::remove_file(self.generation(number).join(FILE))
        };
        // The next start does it otherwise.
        let _ = remove();
    }

    /// The same for what an agent that was killed had made and not put in force.
    pub fn disown_unfinished(&self, ledger: &Ledger) {
        if ledger.enforced == 0 {
            // It was moved away, and says nothing of those that are kept.
            return;
        }
        let last = ledger.generations().into_iter().max().unwrap_or(0);
        let unfinished = self.kept().into_iter().filter(|number| *number > last);
        unfinished.filter(|number| self.origin(*number).is_some()).for_each(|number| self.disown(number));
    }

    /// How a generation came to be in force, held or on disk.
    #[must_use]
    pub fn origin(&self, number: u32) -> Option<Origin> {
        let held = self.unsaved().generations.get(&number).map(|(_, made)| made.origin.clone());
        held.unwrap_or_else(|| self.origin_of(number))
    }

    /// How a generation came to be in force.
    pub(super) fn origin_of(&self, number: u32) -> Option<Origin> {
        serde_json::from_slice(&fs::read(self.generation(number).join(FILE)).ok()?).ok()
    }

    /// The generations that are kept whole, the newest first.
    fn kept(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let number = |name: &str| name.strip_prefix("generation-")?.parse().ok();
        let numbers = entries.filter_map(|entry| number(entry.file_name().to_str()?));
        let is_whole = |number: &u32| {
            let directory = self.generation(*number);
            directory.join("made.json").exists() && !lock::is_of_an_instance(&directory)
        };
        let on_disk = numbers.filter(is_whole);
        let mut kept: Vec<u32> = on_disk.chain(self.unsaved().generations.keys().copied()).collect();
        kept.sort_unstable();
        kept.dedup();
        kept.reverse();
        kept
    }

    /// The last changes, the newest first, each by the last generation of its files.
    #[must_use]
    pub fn changes(&self) -> Vec<(u32, Origin)> {
        let mut changes: Vec<(u32, Origin)> = Vec::new();
        for number in self.kept() {
            let Some(origin) = self.origin(number) else { continue };
            // Built again, from the same files.
            if changes.iter().all(|(_, known)| *known != origin) {
                changes.push((number, origin));
            }
        }
        changes
    }

    /// Those of the last changes, as [`Self::changes`] has them, that are kept to be returned to: the first ones.
    pub fn returnable<'a>(&self, changes: &'a [(u32, Origin)]) -> &'a [(u32, Origin)] {
        let mut bytes = 0;
        let fits = |(number, _): &&(u32, Origin)| {
            bytes += self.bytes_of(*number);
            bytes <= BYTES
        };
        &changes[..changes.iter().take(CHANGES).take_while(fits).count()]
    }

    fn bytes_of(&self, number: u32) -> u64 {
        let directory = self.generation(number);
        let length = |file| fs::metadata(directory.join(file)).map_or(0, |found| found.len());
        length("policy") + length("inventory")
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::{Action, Actor};
    use bulkhead_api::history::{Origin, Summary};
    use bulkhead_api::mode::Mode;
    use bulkhead_policy::source::Source;

    use super::CHANGES;
    use crate::daemon::files::Files;
    use crate::daemon::store::{GenerationMeta, Store};

    fn save(store: &Store, number: u32, time: u64, length: usize) {
        let policy = Source::new("p", &"x".repeat(length));
        let files = Files::new(policy, Source::new("i", ""));
        let origin = Origin { action: Action::Apply, by: Actor::Agent, time, difference: Summary::default() };
        let made = GenerationMeta {
            policy: "p".into(),
            inventory: "i".into(),
            digests: None,
            mode: Mode::Enforce,
            fingerprints: Vec::new(),
            signed: Default::default(),
            origin: Some(origin),
        };
        store.save_inputs(number, &files, &made).unwrap();
    }

    fn returnable(store: &Store) -> Vec<u32> {
        store.returnable(&store.changes()).iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn the_last_changes_are_kept_each_once() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        for number in 1..=30 {
            // Each is built twice.
            save(&store, number * 2, number.into(), 1);
            save(&store, number * 2 + 1, number.into(), 1);
        }
        let numbers: Vec<u32> = store.changes().into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, (1..=30).rev().map(|number| number * 2 + 1).collect::<Vec<_>>());
        assert_eq!(returnable(&store), &numbers[..CHANGES]);
        assert_eq!(store.inputs_of(7).unwrap().1.origin.unwrap().time, 3);
    }

    #[test]
    fn long_files_are_kept_for_fewer_changes() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        (1..=4).for_each(|number| save(&store, number, number.into(), 100 << 20));
        assert_eq!(returnable(&store), [4, 3]);
    }
}
