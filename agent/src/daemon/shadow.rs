//! A candidate that only observes: staged beside what is enforced, promoted or taken away.

use std::sync::Arc;

use anyhow::Context as _;
use bulkhead_api::request::{Applied, Confirmation};
use bulkhead_api::status::Observed;
use bulkhead_dataplane::Dataplane;
use bulkhead_events::Enricher;

use super::clock::wall_time;
use super::enforcer::Enforcer;
use super::inputs::{Asked, Files, Inputs, Refused, Target};
use super::live::LoadedGeneration;
use super::store::{Made, Pending};
use super::unsaved::Disk;
use crate::config::Mode;

/// A generation's shadow, as the kernel has it.
pub struct Observing {
    /// Its number.
    pub number: u32,
    /// What its numbers mean.
    pub names: Arc<Enricher>,
}

impl<D: Dataplane> Enforcer<D> {
    /// Compiles a candidate and lets it observe beside what is enforced. Files that do not hold
    /// change nothing.
    ///
    /// # Errors
    /// As [`Enforcer::apply`].
    pub fn stage(&self, request: &Asked) -> anyhow::Result<Applied> {
        let _one = self.one_change();
        let files = self.requested(request)?;
        let mode = self.live().built.mode;
        let candidate = match Inputs::check(files, mode, &self.setup.target, wall_time()) {
            Ok(inputs) => inputs,
            Err(refused) => return Ok(self.refusal(&refused)),
        };
        let number = self.next_number()?;
        self.store.keep(number, &candidate)?;
        self.enforce_with(Some(number))
    }

    /// Takes the candidate away; `None` if there is none.
    ///
    /// # Errors
    /// If the system refuses; it observes on then.
    pub fn unstage(&self) -> anyhow::Result<Option<Applied>> {
        let _one = self.one_change();
        if self.live().record.shadow.is_none() {
            return Ok(None);
        }
        self.enforce_with(None).map(Some)
    }

    /// Enforces the candidate, as it was staged; `None` if there is none.
    ///
    /// # Errors
    /// If the system refuses; nothing has changed then.
    pub fn promote(&self, confirmation: &Confirmation) -> anyhow::Result<Option<Applied>> {
        let _one = self.one_change();
        let Some(number) = self.live().record.shadow else { return Ok(None) };
        let (files, made) = self.kept_files(number)?;
        let candidate = match Inputs::check(files, made.mode, &self.setup.target, wall_time()) {
            Ok(inputs) => inputs,
            Err(refused) => return Ok(Some(self.refusal(&refused))),
        };
        self.change(Disk::First, candidate, None, |record, number| {
            Ok(record.succeeded_by(number, Pending::within(confirmation.within)))
        })
        .map(Some)
    }

    /// Builds what is enforced again, with this shadow or none. The caller holds the one change.
    pub(super) fn enforce_with(&self, shadow: Option<u32>) -> anyhow::Result<Applied> {
        let (number, problems) = {
            let live = self.live();
            (live.record.enforced, live.built.problems.clone())
        };
        let enforced = Inputs { problems, ..self.kept(number, Inputs::compile_at)? };
        // On disk are the same files already.
        self.change(Disk::Follows, enforced, shadow, |record, number| Ok(record.rebuilt_as(number)))
    }

    /// What a generation was made from, compiled again.
    pub(super) fn kept(
        &self,
        number: u32,
        compile: impl FnOnce(Files, Mode, &Target, u64) -> Result<Inputs, Refused>,
    ) -> anyhow::Result<Inputs> {
        let (files, made) = self.kept_files(number)?;
        compile(files, made.mode, &self.setup.target, wall_time()).map_err(|refused| {
            anyhow::anyhow!("generation {number} does not hold any more:\n{}", refused.text())
        })
    }

    fn kept_files(&self, number: u32) -> anyhow::Result<(Files, Made)> {
        let kept = self.store.kept(number);
        kept.with_context(|| format!("what generation {number} was made from is not kept any more"))
    }

    /// What the shadow has decided otherwise; `None` if there is none.
    ///
    /// # Errors
    /// If the kernel's counters cannot be read.
    pub fn observed(&self, built: &LoadedGeneration<D>) -> anyhow::Result<Option<Observed>> {
        let Some(shadow) = &built.shadow else { return Ok(None) };
        let [would_drop, would_pass] = self.plane.shadow_counters(self.pins(), built.number)?;
        let (policy, inventory) =
            self.store.kept(shadow.number).map(|(files, _)| files.paths()).unwrap_or_default();
        Ok(Some(Observed {
            generation: shadow.number,
            policy: policy.display().to_string(),
            inventory: inventory.display().to_string(),
            would_drop: would_drop.packets,
            would_pass: would_pass.packets,
        }))
    }
}
