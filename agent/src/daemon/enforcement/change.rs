//! Changes of what is enforced.

use anyhow::Context as _;
use std::collections::HashMap;
use std::sync::Mutex;

use bulkhead_api::history::Summary;
use bulkhead_api::request::Applied;
use bulkhead_dataplane::{Attached, Dataplane, HookLinks as _, Pins};

use crate::daemon::bindings::seen::Evidence;
use crate::daemon::bindings::verdicts::Verdicts;
use crate::daemon::bindings::{self, Bindings};
use crate::daemon::enforcement::{kept, withdraw};
use crate::daemon::events::Shared;
use crate::daemon::fallback;
use crate::daemon::log::{log_and_default, log_unsaved};
use crate::daemon::quarantine::list::List;
use crate::daemon::read_back;
use crate::daemon::state::generation::LoadedGeneration;
use crate::daemon::state::inputs::{Inputs, Refused};
use crate::daemon::state::retire::retire;
use crate::daemon::state::{Enforcer, Live, held};
use crate::daemon::store::unsaved::Disk;
use crate::daemon::store::{Ledger, Store};

/// The number of the next generation.
pub fn following_number<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<u32> {
    next_number(&enforcer.plane, enforcer.pins(), &enforcer.store, &enforcer.live().ledger)
}

/// The answer that nothing has changed.
pub(in crate::daemon) fn unchanged<D: Dataplane>(enforcer: &Enforcer<D>) -> Applied {
    let live = enforcer.live();
    Applied {
        applied: false,
        dry_run: false,
        generation: live.built.number,
        mode: live.built.mode,
        rules: live.built.names.count(),
        confirm_within: None,
        difference: Summary::default(),
        notes: Vec::new(),
        findings: Vec::new(),
        text: String::new(),
    }
}

/// The answer that the files are invalid.
pub(in crate::daemon) fn refusal<D: Dataplane>(enforcer: &Enforcer<D>, refused: &Refused) -> Applied {
    let findings = refused.findings.0.iter().map(|finding| serde_json::json!(finding)).collect();
    Applied { findings, text: refused.text(), ..unchanged(enforcer) }
}

/// Builds the next generation, with a staged policy beside it or none, and swaps it in. The
/// caller holds `changing`. `after` makes the ledger of it from the one before, its number, and whether a generation is
/// of the same files and mode.
pub(in crate::daemon) fn change<D: Dataplane>(
    enforcer: &Enforcer<D>,
    disk: Disk,
    inputs: Inputs,
    staged: Option<u32>,
    after: impl FnOnce(&Ledger, u32, &dyn Fn(u32) -> bool) -> anyhow::Result<Ledger>,
) -> anyhow::Result<Applied> {
    withdraw::ahead(enforcer, &inputs);
    made(enforcer, disk, inputs, staged, after).inspect_err(|_| withdraw::back(enforcer))
}

fn made<D: Dataplane>(
    enforcer: &Enforcer<D>,
    disk: Disk,
    inputs: Inputs,
    staged: Option<u32>,
    after: impl FnOnce(&Ledger, u32, &dyn Fn(u32) -> bool) -> anyhow::Result<Ledger>,
) -> anyhow::Result<Applied> {
    let pins = enforcer.pins();
    let (number, quarantined, evidence, attached) = {
        let live = enforcer.live();
        anyhow::ensure!(!live.detached, "the agent has detached and is ending");
        let mut quarantined = live.quarantined.clone();
        quarantined.follow(&inputs.inventory, (&enforcer.setup.options.node, &inputs.addresses));
        (
            next_number(&enforcer.plane, pins, &enforcer.store, &live.ledger)?,
            quarantined,
            live.bindings.evidence(),
            live.attached.clone(),
        )
    };
    let (binding, node) = (enforcer.setup.config.binding, &enforcer.setup.options.node);
    let verdicts = Bindings::judge(binding, &evidence, &inputs.inventory, node);
    let unbound = Bindings::refused(binding, &verdicts);
    let made = inputs.made();
    let saved = enforcer.store.save_or_hold_inputs(disk, number, &inputs.files, &made);
    saved.inspect_err(|_| enforcer.store.disown(number))?;
    let indices = enforcer.shared.indices.clone();
    let again = |number| anyhow::Ok((number, kept::inputs(enforcer, number, Inputs::compile_at)?));
    let staged = staged.map(again).transpose();
    let staged = match disk {
        Disk::First => staged?,
        // Who goes back is not kept from it by a staged policy.
        Disk::Follows => staged.unwrap_or_else(log_and_default),
    };
    let built = LoadedGeneration::new(
        &enforcer.plane,
        &enforcer.setup,
        (number, inputs),
        staged,
        (&quarantined, &unbound),
        &indices,
        &attached,
    );
    if let Ok(built) = &built {
        read_back::keep_record(&enforcer.store, &enforcer.setup, built);
    }
    let after = |ledger: &Ledger| after(ledger, number, &|other| enforcer.store.is_same(other, &made));
    let (to_all, before) =
        (enforcer.setup.config.refuse_bypass_to_all, enforcer.live().built.workloads.clone());
    let workloads = &enforcer.setup.workloads;
    // Whose addresses they will be is held before any packet may be theirs.
    let built = built.and_then(|built| workloads.prepare(pins, &built.workloads, to_all).map(|()| built));
    let built =
        built.inspect_err(|_| workloads.settle(pins, &before, to_all).unwrap_or_else(log_and_default));
    let applied =
        match built.and_then(|built| swap(enforcer, disk, built, (quarantined, evidence, verdicts), after)) {
            Ok(applied) => applied,
            Err(error) => {
                let now = enforcer.live().built.workloads.clone();
                workloads.settle(pins, &now, to_all).unwrap_or_else(log_and_default);
                // What was never in force is nothing to return to. What is on some hooks may be completed.
                if !enforcer.live().mixed {
                    enforcer.store.disown(number);
                }
                return Err(error);
            }
        };
    let now = enforcer.live().built.workloads.clone();
    workloads.settle(pins, &now, to_all).unwrap_or_else(log_and_default);
    // Before anybody is told that it is enforced. A refusal is in the status, and tried again.
    fallback::keep_guard(enforcer).map(drop).unwrap_or_else(log_and_default);
    Ok(applied)
}

/// One link update a hook. The target is on disk before the first and off it after the last.
fn swap<D: Dataplane>(
    enforcer: &Enforcer<D>,
    disk: Disk,
    mut built: LoadedGeneration<D>,
    (baked, evidence, verdicts): (List, Evidence, Verdicts),
    after: impl FnOnce(&Ledger) -> anyhow::Result<Ledger>,
) -> anyhow::Result<Applied> {
    let pins = enforcer.pins();
    let mut live = enforcer.live();
    let number = built.number;
    let give_up = |error: anyhow::Error| {
        let _ = enforcer.plane.remove_generation(pins, number);
        Err(error)
    };
    // Whoever was cut off or released while it was built.
    let mut quarantined = live.quarantined.clone();
    quarantined.follow(&built.inventory, (&enforcer.setup.options.node, &built.addresses));
    let (wanted, has) = (quarantined.addresses(), baked.addresses());
    for (addresses, on) in [(wanted.difference(&has), true), (has.difference(&wanted), false)] {
        for address in addresses {
            if let Err(error) = built.set_quarantine(*address, on) {
                return give_up(anyhow::Error::new(error).context(format!("quarantine of {address}")));
            }
        }
    }
    // Whoever was bound, or not any more, while it was built.
    let binding = enforcer.setup.config.binding;
    let verdicts = if live.bindings.is_by(&evidence) {
        verdicts
    } else {
        let evidence = live.bindings.evidence();
        Bindings::judge(binding, &evidence, &built.inventory, &enforcer.setup.options.node)
    };
    let unbound = Bindings::refused(binding, &verdicts);
    if let Some(error) = built.set_unbound(&unbound).into_iter().find_map(Result::err) {
        return give_up(anyhow::Error::new(error).context("writing who is not bound"));
    }
    let before = match enforcer.plane.pinned_links(pins) {
        Ok(before) => before,
        Err(error) => return give_up(error.into()),
    };
    let ledger = match after(&live.ledger) {
        Ok(ledger) => {
            let staged = built.staged.as_ref().map(|staged| staged.number);
            Ledger { enforced: number, target: None, staged, ..ledger }
        }
        Err(error) => return give_up(error),
    };
    let intent = Ledger { target: Some(number), enforced: live.ledger.enforced, ..ledger.clone() };
    match (enforcer.store.write_ledger(&intent), disk) {
        (Err(error), Disk::First) => {
            enforcer.store.put_back(&live.ledger);
            return give_up(error);
        }
        (Err(error), Disk::Follows) => tracing::error!("{error:#}; going on without the disk"),
        (Ok(()), _) => {}
    }
    add_names(&enforcer.shared, &built);
    let Live { links, .. } = &mut *live;
    let mut attached = match built.attach(pins, links) {
        Ok(attached) => attached,
        Err(error) => {
            // Back to the program that the other hooks still run.
            let Live { built, links, mixed, .. } = &mut *live;
            *mixed = built.attach(pins, links).is_err();
            if !live.mixed {
                live.links.undo(pins, &before);
                enforcer.store.write_or_hold(&live.ledger);
                return give_up(error);
            }
            return Err(error.context("some hooks run the new generation, others the old one"));
        }
    };
    enforcer.store.write_or_hold(&ledger);
    log_unsaved(fallback::mark(&enforcer.plane, &enforcer.setup, &mut attached));
    let gone = live.attached.iter().filter(|old| attached.iter().all(|new| new.interface != old.interface));
    let gone: Vec<_> = gone.map(|old| Attached::absent(&old.interface)).collect();
    note_indices(&enforcer.shared.indices, &attached);
    if built.zones() != live.built.zones() {
        log_unsaved(built.save_zones(&enforcer.store));
    }
    let old = std::mem::replace(&mut live.built, built);
    live.attached = attached.into_iter().chain(gone).collect();
    live.ledger = ledger;
    live.quarantined = quarantined;
    live.mixed = false;
    live.must_rebuild = None;
    let Live { folded, built, bindings, .. } = &mut *live;
    bindings.keep(verdicts, &enforcer.shared, &built.inventory, number);
    bindings.is_behind = false;
    log_unsaved(enforcer.store.save(bindings::FILE, &unbound));
    retire(pins, &enforcer.store, folded, built);
    drop(old);
    enforcer.store.prune_except(&kept_generations(&enforcer.store, &live.ledger));
    let notes = enforcer.store.unsaved_problem().into_iter().chain(enforcer.setup.config.lockout());
    Ok(Applied {
        applied: true,
        dry_run: false,
        generation: number,
        mode: live.built.mode,
        rules: live.built.names.count(),
        confirm_within: live.ledger.pending.as_ref().map(|pending| pending.seconds_left()),
        difference: Summary::default(),
        notes: notes.chain(live.built.refused.iter().cloned()).collect(),
        findings: Vec::new(),
        text: String::new(),
    })
}

/// Numbers only go up, also over restarts of the machine, which remove the pins.
pub(in crate::daemon) fn next_number(
    plane: &impl Dataplane,
    pins: &Pins,
    store: &Store,
    ledger: &Ledger,
) -> anyhow::Result<u32> {
    let pinned = plane.generations(pins)?.last().copied().unwrap_or(0);
    let highest = [pinned, store.last_number(), ledger.enforced, ledger.target.unwrap_or(0)];
    store.next_free(highest.into_iter().max().unwrap_or(0)).context("generation numbers are used up")
}

/// The generations whose files are kept: what runs, what to return to, and the ones just
/// before, whose last events may not have been read yet.
pub(in crate::daemon) fn kept_generations(store: &Store, ledger: &Ledger) -> Vec<u32> {
    let recent = ledger.enforced.saturating_sub(3)..=ledger.enforced;
    let changes = store.changes();
    let returnable = store.returnable(&changes).iter().map(|(number, _)| *number);
    let before = ledger.pending.as_ref().and_then(|pending| pending.before);
    recent.chain(ledger.previous).chain(before).chain(ledger.staged).chain(returnable).collect()
}

/// Makes what a generation and its staged policy report readable, before a packet can meet them.
pub(in crate::daemon) fn add_names<D: Dataplane>(shared: &Shared, built: &LoadedGeneration<D>) {
    if let Some(staged) = &built.staged {
        shared.add(staged.number, staged.names.clone());
    }
    shared.add(built.number, built.names.clone());
}

pub(in crate::daemon) fn note_indices(indices: &Mutex<HashMap<u32, String>>, attached: &[Attached]) {
    held(indices).extend(attached.iter().map(|a| (a.index, a.interface.clone())));
}
