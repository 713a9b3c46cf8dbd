//! What must outlive the agent: which generation is meant to run, what it was made from, and
//! who is quarantined. One file at a time is replaced whole.

mod ledger;
mod origins;
mod seals;
mod seen;
pub mod unsaved;

use ledger::Unsaved;
pub use ledger::{GenerationMeta, Ledger, Pending};
use seals::Seals;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use bulkhead_policy::source::Source;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::daemon::files::Files;
use crate::daemon::lock;
use crate::daemon::read_back::record::{self, Built};

/// How names of files and directories in the state directory start that an instance could have as well:
/// those of other instances lie within that of `default`.
pub const RESERVED: [&str; 3] = ["generation-", "seen-", "fleet-"];

/// The ledger. Its name is that of the first agents', which may take over from this one.
const LEDGER: &str = "generations.json";

/// The file that is there while a change waits for its confirmation.
const UNCONFIRMED: &str = "unconfirmed";

/// The state directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    unsaved: Arc<Mutex<Unsaved>>,
    seals: Seals,
    #[cfg(test)]
    faults: bulkhead_dataplane::fake::Faults,
}

impl Store {
    /// A state directory.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            unsaved: Arc::default(),
            seals: Seals::default(),
            #[cfg(test)]
            faults: bulkhead_dataplane::fake::Faults::default(),
        }
    }

    /// A state directory on a disk that tests break.
    #[cfg(test)]
    pub fn with_faults(root: &Path, faults: &bulkhead_dataplane::fake::Faults) -> Self {
        Self { faults: faults.clone(), ..Self::new(root) }
    }

    /// A step that the disk is to take.
    #[cfg_attr(not(test), expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests break it"))]
    fn step(&self, what: &'static str) -> io::Result<()> {
        #[cfg(test)]
        self.faults.step(what)?;
        let _ = what;
        Ok(())
    }

    /// Writes beside a file, then renames.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step("disk: write a file")?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.step("disk: rename a file")?;
        fs::rename(new, path)
    }

    /// Waits until a directory's names are on the disk.
    fn sync(&self, directory: &Path) -> io::Result<()> {
        self.step("disk: sync a directory")?;
        File::open(directory)?.sync_all()
    }

    /// What the disk has refused and must have once it can.
    pub(in crate::daemon) fn unsaved(&self) -> MutexGuard<'_, Unsaved> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self, number: u32) -> PathBuf {
        self.root.join(format!("generation-{number}"))
    }

    /// The ledger; that of a new agent if there is none.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn ledger(&self) -> anyhow::Result<Ledger> {
        let mut ledger: Ledger = self.load(LEDGER)?.unwrap_or_default();
        if let Some(pending) = &mut ledger.pending
            && !self.root.join(UNCONFIRMED).exists()
        {
            // The agent has gone back, and the disk took no more of it than this.
            pending.until = 0;
        }
        Ok(ledger)
    }

    /// Whether there is a ledger, be it damaged.
    #[must_use]
    pub fn has_ledger(&self) -> bool {
        self.has(LEDGER)
    }

    /// Whether there is a file of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.root.join(name).symlink_metadata().is_ok()
    }

    /// Writes the ledger, after whatever it may name.
    ///
    /// # Errors
    /// If the disk refuses; then it is as before.
    pub fn write_ledger(&self, ledger: &Ledger) -> anyhow::Result<()> {
        self.save_generations()?;
        if ledger.pending.is_some() {
            let mark = || {
                self.step("disk: mark what waits")?;
                File::create(self.root.join(UNCONFIRMED))?.sync_all()
            };
            mark().with_context(|| format!("{}: marking what waits", self.root.display()))?;
        }
        self.save(LEDGER, ledger)?;
        if ledger.pending.is_none() {
            self.end_wait();
        }
        self.unsaved().ledger = None;
        Ok(())
    }

    /// What waits for a confirmation is given up, also where the disk has no room to write that: taking a
    /// file away needs none.
    pub fn end_wait(&self) {
        // What was never there is fine, and what stays means nothing without a pending record.
        let end = || {
            self.step("disk: end the wait")?;
            fs::remove_file(self.root.join(UNCONFIRMED))
        };
        let _ = end();
    }

    /// A JSON file; `None` if it is not there.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.root.join(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
                format!(
                    "{}: not what an agent wrote; put it back, or move it away and start again",
                    path.display()
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| {
                format!("{}: reading; let the agent read it, or move it away and start again", path.display())
            }),
        }
    }

    /// Replaces a JSON file, and waits until it is on the disk.
    ///
    /// # Errors
    /// If the disk refuses; then the file is as before.
    pub fn save<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let path = self.root.join(name);
        let write = || -> io::Result<()> {
            self.replace(&path, &serde_json::to_vec_pretty(value)?)?;
            self.sync(&self.root)
        };
        write().with_context(|| format!("{}: writing", path.display()))
    }

    /// Removes files of the state directory by their names.
    ///
    /// # Errors
    /// If the disk refuses; some may be gone then.
    pub fn remove(&self, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let remove = || -> io::Result<()> {
            for entry in fs::read_dir(&self.root)? {
                let entry = entry?;
                if entry.file_name().to_str().is_some_and(&is_meant) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        remove().with_context(|| format!("{}: removing files", self.root.display()))
    }

    /// Keeps what a generation is made from.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(in crate::daemon) fn save_inputs(
        &self,
        number: u32,
        files: &Files,
        made: &GenerationMeta,
    ) -> anyhow::Result<()> {
        let directory = self.generation(number);
        let write = || -> io::Result<()> {
            self.step("disk: make a directory")?;
            fs::create_dir_all(&directory)?;
            self.replace(&directory.join("policy"), files.policy.text().as_bytes())?;
            self.replace(&directory.join("inventory"), files.inventory.text().as_bytes())?;
            if let Some(origin) = &made.origin {
                self.replace(&directory.join(origins::FILE), &serde_json::to_vec_pretty(origin)?)?;
            }
            // Last: a generation without it is not whole.
            self.replace(&directory.join("made.json"), &serde_json::to_vec_pretty(made)?)?;
            self.sync(&directory)
        };
        write()
            .with_context(|| format!("{}: keeping what the generation is made from", directory.display()))?;
        let digests = made.digests.clone().unwrap_or_else(|| files.digests());
        self.seals.set(number, digests, made.mode);
        Ok(())
    }

    /// Keeps what a generation was built with besides its files.
    ///
    /// # Errors
    /// If the disk refuses.
    pub(in crate::daemon) fn save_built(&self, number: u32, built: &Built) -> anyhow::Result<()> {
        let path = self.generation(number).join(record::FILE);
        let write = || self.replace(&path, &serde_json::to_vec_pretty(built)?);
        write().with_context(|| format!("{}: writing", path.display()))
    }

    /// What a generation was built with besides its files; `None` if that was not kept.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn built_of(&self, number: u32) -> anyhow::Result<Option<Built>> {
        self.load(&format!("generation-{number}/{}", record::FILE))
    }

    /// What was kept of a generation besides its files, which nobody reads for it; `None` if that was not kept.
    #[must_use]
    pub fn made_of(&self, number: u32) -> Option<GenerationMeta> {
        if let Some((_, made)) = self.unsaved().generations.get(&number) {
            return Some(made.clone());
        }
        let made = fs::read(self.generation(number).join("made.json")).ok()?;
        Some(GenerationMeta { origin: self.origin_of(number), ..serde_json::from_slice(&made).ok()? })
    }

    /// Whether a generation is of the same files in the same mode, as far as that was kept.
    #[must_use]
    pub fn is_same(&self, number: u32, made: &GenerationMeta) -> bool {
        let is_same = |kept: GenerationMeta| (kept.digests, kept.mode) == (made.digests.clone(), made.mode);
        made.digests.is_some() && self.made_of(number).is_some_and(is_same)
    }

    /// What a generation was made from; `None` if that was not kept whole, or is not what was kept.
    #[must_use]
    pub fn inputs_of(&self, number: u32) -> Option<(Files, GenerationMeta)> {
        if let Some(held) = self.unsaved().generations.get(&number) {
            return Some(held.clone());
        }
        let directory = self.generation(number);
        let mut made = self.made_of(number)?;
        let source = |file: &str, path: &Path| {
            let text = fs::read_to_string(directory.join(file)).ok()?;
            Some(Source::new(&path.display().to_string(), &text))
        };
        let policy = source("policy", &made.policy)?;
        let inventory = source("inventory", &made.inventory)?;
        let files = Files::new(policy, inventory);
        let digests = files.digests();
        let holds = self.seals.holds(number, &digests, &made);
        made.digests = Some(digests);
        holds.then_some((files, made))
    }

    /// The fingerprints of a generation's rules, as they were kept.
    #[must_use]
    pub fn fingerprints(&self, number: u32) -> Vec<String> {
        self.made_of(number).map(|made| made.fingerprints).unwrap_or_default()
    }

    /// Forgets what other generations than these were made from.
    ///
    /// Not while the ledger on disk is an older one, which may name any of them.
    pub fn prune_except(&self, keep: &[u32]) {
        let mut unsaved = self.unsaved();
        unsaved.generations.retain(|number, _| keep.contains(number));
        self.seals.keep(keep);
        if unsaved.ledger.is_some() {
            return;
        }
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("generation-")?.parse().ok());
            let is_forgotten = number.is_some_and(|number| !keep.contains(&number));
            if is_forgotten && !lock::is_of_an_instance(&entry.path()) {
                // What stays is forgotten next time.
                let forget = || {
                    self.step("disk: forget a generation")?;
                    fs::remove_dir_all(entry.path())
                };
                let _ = forget();
            }
        }
    }

    /// The highest number that any generation kept here has.
    #[must_use]
    pub fn last_number(&self) -> u32 {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let kept = entries.filter(|entry| !lock::is_of_an_instance(&entry.path()));
        let numbers =
            kept.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("generation-")?.parse().ok());
        numbers.chain(self.unsaved().generations.keys().copied()).max().unwrap_or(0)
    }

    /// The first number after `number` whose place is not the state of an instance of that name.
    #[must_use]
    pub fn next_free(&self, number: u32) -> Option<u32> {
        (number.checked_add(1)?..=u32::MAX).find(|next| !lock::is_of_an_instance(&self.generation(*next)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Store};

    #[test]
    fn a_broken_ledger_is_said_and_a_missing_one_is_new() {
        let root = std::env::temp_dir().join(format!("bulkhead-store-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let store = Store::new(&root);
        assert_eq!(store.ledger().unwrap(), Ledger::default());
        let ledger = Ledger {
            enforced: 7,
            previous: Some(6),
            target: Some(8),
            pending: None,
            staged: Some(3),
            applied: 9,
            lapsed: vec![5],
        };
        store.write_ledger(&ledger).unwrap();
        assert_eq!(store.ledger().unwrap(), ledger);
        std::fs::write(root.join(super::LEDGER), "{").unwrap();
        let error = format!("{:#}", store.ledger().unwrap_err());
        assert!(error.contains(super::LEDGER) && error.contains("move it away"), "{error}");
        // An instance of such a name, from before they were refused.
        for other in ["generation-7", "generation-42"] {
            std::fs::create_dir_all(root.join(other)).unwrap();
            std::fs::write(root.join(other).join("agent.lock"), "").unwrap();
        }
        std::fs::create_dir_all(root.join("generation-41")).unwrap();
        std::fs::create_dir_all(root.join("generation-9")).unwrap();
        assert_eq!(store.last_number(), 41);
        store.prune_except(&[9]);
        assert_eq!((store.last_number(), store.inputs_of(9).is_none()), (9, true));
        assert_eq!(
            (store.next_free(6), store.next_free(41), store.next_free(9)),
            (Some(8), Some(43), Some(10))
        );
        assert!(
            root.join("generation-7/agent.lock").exists() && root.join("generation-42/agent.lock").exists()
        );
        std::fs::remove_dir_all(root).unwrap();
    }
}
