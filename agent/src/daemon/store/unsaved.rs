//! What a full disk has refused and a change did not wait for: it is held in memory, and written as soon
//! as there is room. Until then a restart finds the journal as it was.

use std::collections::BTreeMap;

use crate::daemon::files::Files;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::store::{Made, Record, Store};

/// What is in force and not on disk.
#[derive(Debug, Default)]
pub struct Unsaved {
    /// What generations were made from.
    pub generations: BTreeMap<u32, (Files, Made)>,
    /// The journal.
    pub record: Option<Record>,
}

/// Whether a change waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// It is on disk first, or is not made.
    First,
    /// It makes the host safer, restores access, or changes no rule: it is made all the same.
    Follows,
}

impl Store {
    /// [`Store::keep`]; what the disk refuses is held in memory if it may follow.
    ///
    /// # Errors
    /// If the disk refuses and must be first.
    pub fn keep_or_hold(&self, disk: Disk, number: u32, inputs: &Inputs) -> anyhow::Result<()> {
        let kept = self.keep(number, inputs);
        if let (Err(error), Disk::Follows) = (&kept, disk) {
            tracing::error!("{error:#}; going on without the disk, and trying again");
            self.unsaved().generations.insert(number, (inputs.files.clone(), inputs.made()));
            return Ok(());
        }
        kept
    }

    /// Writes the journal of what is in force. What the disk refuses is held in memory.
    pub fn write_or_hold(&self, record: &Record) {
        if let Err(error) = self.write_record(record) {
            tracing::error!(
                "{error:#}; a restart does not know of this until the disk takes it: trying again"
            );
            self.unsaved().record = Some(record.clone());
        }
    }

    /// Puts the journal of what is in force back: a disk that refuses to confirm a write may have made it.
    pub fn put_back(&self, record: &Record) {
        if self.record().ok().as_ref() != Some(record) {
            self.write_or_hold(record);
        }
    }

    /// Writes what generations were made from, where it is held.
    pub(in crate::daemon) fn save_generations(&self) -> anyhow::Result<()> {
        let held: Vec<_> =
            self.unsaved().generations.iter().map(|(number, held)| (*number, held.clone())).collect();
        for (number, (files, made)) in held {
            self.keep_files(number, &files, &made)?;
            self.unsaved().generations.remove(&number);
        }
        Ok(())
    }

    /// Writes what the disk has refused, once more.
    ///
    /// # Errors
    /// If it still does.
    pub fn save_held(&self) -> anyhow::Result<()> {
        let Some(record) = self.unsaved().record.clone() else { return Ok(()) };
        self.write_record(&record)?;
        tracing::info!("the disk takes what it had refused");
        Ok(())
    }

    /// What the operator must know of the disk.
    #[must_use]
    pub fn unsaved_problem(&self) -> Option<String> {
        let is_unsaved = self.unsaved().record.is_some();
        is_unsaved.then(|| {
            "the state directory takes nothing: what is enforced is not on disk, and a restart may not \
             know of it; make room there"
                .to_owned()
        })
    }
}
