//! What a full disk has refused and a change did not wait for: it is held in memory, and written as soon
//! as there is room. Until then a restart finds the ledger as it was.

use crate::daemon::files::Files;
use crate::daemon::store::{GenerationMeta, Ledger, Store};

/// Whether a change waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// It is on disk first, or is not made.
    First,
    /// It makes the host safer, restores access, or changes no rule: it is made all the same.
    Follows,
}

impl Store {
    /// [`Store::save_inputs`]; what the disk refuses is held in memory if it may follow.
    ///
    /// # Errors
    /// If the disk refuses and must be first.
    pub fn save_or_hold_inputs(
        &self,
        disk: Disk,
        number: u32,
        files: &Files,
        made: &GenerationMeta,
    ) -> anyhow::Result<()> {
        let saved = self.save_inputs(number, files, made);
        if let (Err(error), Disk::Follows) = (&saved, disk) {
            tracing::error!("{error:#}; going on without the disk, and trying again");
            self.unsaved().generations.insert(number, (files.clone(), made.clone()));
            return Ok(());
        }
        saved
    }

    /// Writes the ledger of what is in force. What the disk refuses is held in memory.
    pub fn write_or_hold(&self, ledger: &Ledger) {
        if let Err(error) = self.write_ledger(ledger) {
            tracing::error!(
                "{error:#}; a restart does not know of this until the disk takes it: trying again"
            );
            self.unsaved().ledger = Some(ledger.clone());
        }
    }

    /// Puts the ledger of what is in force back: a disk that refuses to confirm a write may have made it.
    pub fn put_back(&self, ledger: &Ledger) {
        if self.ledger().ok().as_ref() != Some(ledger) {
            self.write_or_hold(ledger);
        }
    }

    /// Writes what generations were made from, where it is held.
    pub(in crate::daemon) fn save_generations(&self) -> anyhow::Result<()> {
        let held: Vec<_> =
            self.unsaved().generations.iter().map(|(number, held)| (*number, held.clone())).collect();
        for (number, (files, made)) in held {
            self.save_inputs(number, &files, &made)?;
            self.unsaved().generations.remove(&number);
        }
        Ok(())
    }

    /// Writes what the disk has refused, once more.
    ///
    /// # Errors
    /// If it still does.
    pub fn save_held(&self) -> anyhow::Result<()> {
        let Some(ledger) = self.unsaved().ledger.clone() else { return Ok(()) };
        self.write_ledger(&ledger)?;
        tracing::info!("the disk takes what it had refused");
        Ok(())
    }

    /// What the operator must know of the disk.
    #[must_use]
    pub fn unsaved_problem(&self) -> Option<String> {
        let is_unsaved = self.unsaved().ledger.is_some();
        is_unsaved.then(|| {
            "the state directory takes nothing: what is enforced is not on disk, and a restart may not \
             know of it; make room there"
                .to_owned()
        })
    }
}
