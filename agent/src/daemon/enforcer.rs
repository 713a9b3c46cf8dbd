//! Changes of what is enforced: apply, confirm, rollback, detach. The first generation of an agent is
//! attached in `takeover`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use bulkhead_api::request::Applied;
use bulkhead_dataplane::{Attached, Dataplane, Hook, HookLinks as _, Kernel, Pins};

use super::clock::wall_time;
use super::counters::Folded;
use super::events::Shared;
use super::guarding::{self, Guarded};
use super::in_place::{self, Notes};
use super::inputs::{Asked, Files, Inputs, Refused};
use super::live::{LoadedGeneration, retire};
use super::quarantine::List;
use super::reconcile::Reconciler;
use super::setup::Setup;
use super::start;
use super::store::{Pending, Record, Store};
use super::takeover;
use super::unsaved::Disk;
use crate::exit::Usage;

/// What runs now. Held only for moments: no compiling, no loading.
pub struct Live<D: Dataplane = Kernel> {
    /// The generation.
    pub built: LoadedGeneration<D>,
    /// Interfaces and hooks; an interface that is gone has index 0 and no hooks.
    pub attached: Vec<Attached>,
    /// Their links.
    pub links: D::Links,
    /// The journal.
    pub record: Record,
    /// Who is cut off.
    pub quarantined: List,
    /// The disk has refused that list.
    pub must_save: bool,
    /// Counters of earlier generations.
    pub folded: Folded,
    /// A change of several hooks stopped half-way.
    pub mixed: bool,
    /// An interface needs a program that the generation does not have.
    pub must_rebuild: bool,
    /// Enforcement was ended by command.
    pub detached: bool,
}

/// Makes every change of what is enforced.
pub struct Enforcer<D: Dataplane = Kernel> {
    /// What it enforces by.
    pub(super) plane: D,
    /// What `run` was told.
    pub setup: Setup,
    /// The state directory.
    pub store: Store,
    /// What tells of events.
    pub shared: Arc<Shared>,
    /// One change at a time; held while the next generation is compiled and built.
    pub(super) changing: Mutex<()>,
    /// One look at what the kernel says at a time. Taken before `live`.
    pub(super) reconciler: Mutex<Reconciler<D>>,
    /// The guard in place. Taken before `live`.
    pub(super) guarded: Mutex<Guarded>,
    /// Devices, by index and group, that the guard lets pass; none while that is not known. Taken last.
    pub(super) guard_open: Mutex<Option<BTreeSet<(u32, u32)>>>,
    /// What is in place, as it is noted. No other lock is taken while it is held.
    pub(super) noted: Mutex<Notes>,
    /// One writer of who is cut off at a time. Taken before `live`.
    pub(super) saving: Mutex<()>,
    pub(super) live: Mutex<Live<D>>,
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Dataplane> Enforcer<D> {
    /// What runs now.
    pub fn live(&self) -> MutexGuard<'_, Live<D>> {
        held(&self.live)
    }

    /// The pins.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.setup.paths.pins
    }

    /// Enforces the files of a change, or reads anew those that `run` names. What is wrong with them is an
    /// answer, and changes nothing.
    ///
    /// # Errors
    /// A file that cannot be read ([`Usage`]), or a refusal of the system; nothing has changed then.
    pub fn apply(&self, request: &Asked) -> anyhow::Result<Applied> {
        let _one = held(&self.changing);
        let named = request.policy.is_none() && request.inventory.is_none();
        let files = self.requested(request)?;
        let mode = request.mode.unwrap_or_else(|| self.live().built.mode);
        let inputs = match Inputs::check(files.clone(), mode, &self.setup.target, wall_time()) {
            Ok(inputs) => inputs,
            Err(refused) => return Ok(self.refusal(&refused)),
        };
        let seen = if named { files } else { self.named_files().unwrap_or(files) };
        let shadow = self.live().record.shadow;
        self.change(Disk::First, inputs, shadow, |record, number| {
            // A restart goes on with this until what `run` names changes again.
            self.store.write_seen(&seen, self.setup.config.mode)?;
            Ok(record.succeeded_by(number, Pending::within(request.confirm)))
        })
    }

    /// The files that a request means: those that it has, else those that `run` names.
    pub(super) fn requested(&self, request: &Asked) -> Result<Files, Usage> {
        let (policy, inventory) = self.setup.files();
        Files::of(request, &policy, &inventory)
    }

    fn named_files(&self) -> Option<Files> {
        let (policy, inventory) = self.setup.files();
        Files::read(&policy, &inventory).ok()
    }

    /// Keeps the generation that waits for it; false if none does.
    ///
    /// # Errors
    /// If the disk refuses; it still waits then.
    pub fn confirm(&self) -> anyhow::Result<bool> {
        let mut live = self.live();
        if live.record.pending.is_none() {
            return Ok(false);
        }
        let record = Record { pending: None, ..live.record.clone() };
        let written = self.store.write_record(&record).inspect_err(|_| self.store.put_back(&live.record));
        written.context("nothing is confirmed: make room there and confirm again")?;
        live.record = record;
        Ok(true)
    }

    /// Builds the same generation again: with room for quarantine, or for an interface of
    /// another kind.
    ///
    /// # Errors
    /// If the system refuses; nothing has changed then.
    pub fn rebuild(&self) -> anyhow::Result<Applied> {
        let _one = held(&self.changing);
        let shadow = self.live().record.shadow;
        self.enforce_with(shadow)
    }

    /// Ends enforcement: detaches every hook and removes every pin. Who is quarantined is kept.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    pub fn detach(&self) -> anyhow::Result<Vec<(String, Hook)>> {
        // No change may attach again meanwhile, nor upkeep afterwards.
        let _one = held(&self.changing);
        self.end()
    }

    pub(super) fn end(&self) -> anyhow::Result<Vec<(String, Hook)>> {
        let mut live = self.live();
        // The guard first: without programs it would drop everything.
        if self.setup.config.guard {
            self.setup.fallback.remove(&self.setup.instance)?;
        }
        let links = self.plane.detach(self.pins())?;
        live.links.clear();
        live.detached = true;
        in_place::forget(&self.setup.paths.socket);
        Ok(links)
    }

    /// Waits until no other change is made, and keeps others from being made.
    pub(super) fn one_change(&self) -> MutexGuard<'_, ()> {
        held(&self.changing)
    }

    /// The number of the next generation.
    pub(super) fn next_number(&self) -> anyhow::Result<u32> {
        next_number(&self.plane, self.pins(), &self.store, &self.live().record)
    }

    pub(super) fn refusal(&self, refused: &Refused) -> Applied {
        let live = self.live();
        Applied {
            applied: false,
            generation: live.built.number,
            mode: live.built.mode,
            rules: live.built.names.count(),
            confirm_within: None,
            notes: Vec::new(),
            findings: refused.findings.0.iter().map(|finding| serde_json::json!(finding)).collect(),
            text: refused.text(),
        }
    }

    /// Builds the next generation, with a candidate as its shadow or none, and swaps it in. The
    /// caller holds `changing`.
    pub(super) fn change(
        &self,
        disk: Disk,
        inputs: Inputs,
        shadow: Option<u32>,
        after: impl FnOnce(&Record, u32) -> anyhow::Result<Record>,
    ) -> anyhow::Result<Applied> {
        let pins = self.pins();
        let (number, quarantined, attached) = {
            let live = self.live();
            anyhow::ensure!(!live.detached, "the agent has detached and is ending");
            let mut quarantined = live.quarantined.clone();
            quarantined.follow(&inputs.inventory);
            (next_number(&self.plane, pins, &self.store, &live.record)?, quarantined, live.attached.clone())
        };
        self.store.keep_or_hold(disk, number, &inputs)?;
        let indices = self.shared.indices.clone();
        let kept = |number| anyhow::Ok((number, self.kept(number, Inputs::compile_at)?));
        let shadow = shadow.map(kept).transpose();
        let shadow = match disk {
            Disk::First => shadow?,
            // Who goes back is not kept from it by a candidate.
            Disk::Follows => shadow.unwrap_or_else(start::told),
        };
        let built = LoadedGeneration::new(
            &self.plane,
            &self.setup,
            (number, inputs),
            shadow,
            &quarantined,
            &indices,
            &attached,
        )?;
        let applied = self.swap(disk, built, quarantined, after)?;
        // Before anybody is told that it is enforced. A refusal is in the status, and tried again.
        self.keep_guard().map(drop).unwrap_or_else(start::told);
        Ok(applied)
    }

    /// One link update a hook. The target is on disk before the first and off it after the last.
    fn swap(
        &self,
        disk: Disk,
        mut built: LoadedGeneration<D>,
        baked: List,
        after: impl FnOnce(&Record, u32) -> anyhow::Result<Record>,
    ) -> anyhow::Result<Applied> {
        let pins = self.pins();
        let mut live = self.live();
        let number = built.number;
        let give_up = |error: anyhow::Error| {
            let _ = self.plane.remove_generation(pins, number);
            Err(error)
        };
        // Whoever was cut off or released while it was built.
        let mut quarantined = live.quarantined.clone();
        quarantined.follow(&built.inventory);
        let (wanted, has) = (quarantined.addresses(), baked.addresses());
        for (addresses, on) in [(wanted.difference(&has), true), (has.difference(&wanted), false)] {
            for address in addresses {
                if let Err(error) = built.set_quarantine(*address, on) {
                    return give_up(anyhow::Error::new(error).context(format!("quarantine of {address}")));
                }
            }
        }
        let before = match self.plane.pinned_links(pins) {
            Ok(before) => before,
            Err(error) => return give_up(error.into()),
        };
        let record = match after(&live.record, number) {
            Ok(record) => Record { shadow: built.shadow.as_ref().map(|shadow| shadow.number), ..record },
            Err(error) => return give_up(error),
        };
        let journal = Record { target: Some(number), enforced: live.record.enforced, ..record.clone() };
        match (self.store.write_record(&journal), disk) {
            (Err(error), Disk::First) => {
                self.store.put_back(&live.record);
                return give_up(error);
            }
            (Err(error), Disk::Follows) => tracing::error!("{error:#}; going on without the disk"),
            (Ok(()), _) => {}
        }
        add_names(&self.shared, &built);
        let Live { links, .. } = &mut *live;
        let mut attached = match built.attach(pins, links) {
            Ok(attached) => attached,
            Err(error) => {
                // Back to the program that the other hooks still run.
                let Live { built, links, mixed, .. } = &mut *live;
                *mixed = built.attach(pins, links).is_err();
                if !live.mixed {
                    live.links.undo(pins, &before);
                    self.store.write_or_hold(&live.record);
                    return give_up(error);
                }
                return Err(error.context("some hooks run the new generation, others the old one"));
            }
        };
        self.store.write_or_hold(&record);
        start::tell(guarding::mark(&self.plane, &self.setup, &mut attached));
        let gone =
            live.attached.iter().filter(|old| attached.iter().all(|new| new.interface != old.interface));
        let gone: Vec<_> = gone.map(|old| Attached::absent(&old.interface)).collect();
        note_indices(&self.shared.indices, &attached);
        if built.zones() != live.built.zones() {
            start::tell(self.store.save(takeover::ZONES, &built.zones()));
        }
        let old = std::mem::replace(&mut live.built, built);
        live.attached = attached.into_iter().chain(gone).collect();
        live.record = record;
        live.quarantined = quarantined;
        live.mixed = false;
        live.must_rebuild = false;
        let Live { folded, built, .. } = &mut *live;
        retire(pins, &self.store, folded, built);
        drop(old);
        self.store.forget_others(&kept(&live.record));
        Ok(Applied {
            applied: true,
            generation: number,
            mode: live.built.mode,
            rules: live.built.names.count(),
            confirm_within: live.record.pending.as_ref().map(|pending| start::seconds_left(pending.until)),
            notes: self.store.unsaved_problem().into_iter().chain(self.setup.config.lockout()).collect(),
            findings: Vec::new(),
            text: String::new(),
        })
    }
}

/// Numbers only go up, also over restarts of the machine, which remove the pins.
pub(super) fn next_number(
    plane: &impl Dataplane,
    pins: &Pins,
    store: &Store,
    record: &Record,
) -> anyhow::Result<u32> {
    let pinned = plane.generations(pins)?.last().copied().unwrap_or(0);
    let highest = [pinned, store.highest(), record.enforced, record.target.unwrap_or(0)];
    store.next_free(highest.into_iter().max().unwrap_or(0)).context("generation numbers are used up")
}

/// The generations whose files are kept: what runs, what to return to, and the ones just
/// before, whose last events may not have been read yet.
pub(super) fn kept(record: &Record) -> Vec<u32> {
    let recent = record.enforced.saturating_sub(3)..=record.enforced;
    recent.chain(record.previous).chain(record.shadow).collect()
}

/// Makes what a generation and its shadow report readable, before a packet can meet them.
pub(super) fn add_names<D: Dataplane>(shared: &Shared, built: &LoadedGeneration<D>) {
    if let Some(shadow) = &built.shadow {
        shared.add(shadow.number, shadow.names.clone());
    }
    shared.add(built.number, built.names.clone());
}

pub(super) fn note_indices(indices: &Mutex<HashMap<u32, String>>, attached: &[Attached]) {
    held(indices).extend(attached.iter().map(|a| (a.index, a.interface.clone())));
}
