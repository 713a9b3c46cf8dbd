//! Staged policies: they observe beside what is enforced, until they are promoted or taken away.

use anyhow::Context as _;
use bulkhead_api::event::Action;
use bulkhead_api::request::Applied;
use bulkhead_api::status::Observed;
use bulkhead_dataplane::Dataplane;

use crate::config::Mode;
use crate::daemon::clock::wall_time;
use crate::daemon::enforcement::{apply, change, kept, origin, rebuild, session};
use crate::daemon::files::{Asked, Asker};
use crate::daemon::fleet;
use crate::daemon::state::Enforcer;
use crate::daemon::state::generation::LoadedGeneration;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::store::Pending;
use crate::daemon::store::unsaved::Disk;
use crate::daemon::trust::{self, Signed};
use crate::exit::Usage;

/// Compiles a staged policy and lets it observe beside what is enforced. An invalid policy or inventory
/// changes nothing.
///
/// # Errors
/// As [`apply`](super::apply()).
pub fn stage<D: Dataplane>(enforcer: &Enforcer<D>, request: &Asked) -> anyhow::Result<Applied> {
    stageable(request)?;
    let _one = enforcer.one_change();
    let (files, _, note) = apply::requested(enforcer, request)?;
    let mode = enforcer.live().built.mode;
    let staged = match Inputs::check(files, mode, &enforcer.setup.options, wall_time()) {
        Ok(inputs) => inputs,
        Err(refused) => return Ok(change::refusal(enforcer, &refused)),
    };
    let number = change::following_number(enforcer)?;
    enforcer.store.save_inputs(number, &staged.files, &staged.made())?;
    let applied = rebuild::enforce_with(enforcer, Some(number))?;
    // What was staged before keeps its note if this could not take its place.
    if note.is_some() {
        let what = "it is staged, and cannot be promoted without its note: make room, and stage it again";
        enforcer.store.save(trust::STAGED, &(number, &note)).context(what)?;
    }
    Ok(applied)
}

/// Whether nothing is asked for that only what is enforced can have.
fn stageable(request: &Asked) -> Result<(), Usage> {
    let asked = [
        ("mode", request.mode.is_some()),
        ("confirm", request.confirm.is_some()),
        ("dry_run", request.dry_run),
    ];
    match asked.into_iter().find(|(_, is_asked)| *is_asked) {
        Some((what, _)) => Err(Usage(format!(
            "`{what}` is for what is enforced, and a staged policy only observes: stage it without, then promote it \
             by `bulkhead promote`, which takes --mode and --confirm"
        ))),
        None => Ok(()),
    }
}

/// Takes the staged policy away; `None` if there is none.
///
/// # Errors
/// If the system refuses; it observes on then.
pub fn unstage<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Option<Applied>> {
    let _one = enforcer.one_change();
    if enforcer.live().ledger.staged.is_none() {
        return Ok(None);
    }
    rebuild::enforce_with(enforcer, None).map(Some)
}

/// Enforces the files that were staged, in the mode that is in force unless another is asked for, for good or until a
/// confirmation within some seconds is due; `None` if nothing is staged.
///
/// # Errors
/// If the system refuses; nothing has changed then.
pub fn promote<D: Dataplane>(
    enforcer: &Enforcer<D>,
    (mode, within): (Option<Mode>, Option<u64>),
    asker: &Asker,
) -> anyhow::Result<Option<Applied>> {
    let _one = enforcer.one_change();
    let Some(number) = enforcer.live().ledger.staged else { return Ok(None) };
    kept::promise_return(enforcer, within)?;
    let signed = signed(enforcer, number)?;
    let files = enforcer.setup.sources.add_to(kept::files(enforcer, number)?.0);
    // Not the one it was staged in: that may have been before enforcement began.
    let before = enforcer.live().built.mode;
    let mode = mode.unwrap_or(before);
    trust::check_mode(&enforcer.setup.config, &signed, before, mode)?;
    let mut staged = match Inputs::check(files, mode, &enforcer.setup.options, wall_time()) {
        Ok(inputs) => inputs,
        Err(refused) => return Ok(Some(change::refusal(enforcer, &refused))),
    };
    staged.signed = Signed { aside: fleet::aside(&asker.by), ..signed };
    let difference = origin::note(enforcer, &mut staged, Action::Promote, asker);
    if let Some(text) = session::cut(enforcer, &staged, asker.session)? {
        return Ok(Some(Applied { difference, text, ..change::unchanged(enforcer) }));
    }
    let applied = change::change(enforcer, Disk::First, staged, None, |ledger, _, is_same| {
        Ok(ledger.succeeded(Pending::within(within), is_same))
    })?;
    Ok(Some(Applied { difference, ..applied }))
}

/// Who has signed what is staged, by the keys that agent.toml trusts now, if it asks for signatures.
///
/// # Errors
/// If they are too few by now.
fn signed<D: Dataplane>(enforcer: &Enforcer<D>, number: u32) -> anyhow::Result<Signed> {
    if enforcer.setup.config.trust.is_none() {
        return Ok(Signed::default());
    }
    let known = enforcer.store.load::<(u32, Option<String>)>(trust::STAGED)?;
    let note = known.filter(|(of, _)| *of == number).and_then(|(_, note)| note);
    Ok(trust::signed_before(&enforcer.setup.config, note.as_deref())?)
}

/// What the staged policy has decided otherwise; `None` if there is none.
///
/// # Errors
/// If the kernel's counters cannot be read.
pub fn observed<D: Dataplane>(
    enforcer: &Enforcer<D>,
    built: &LoadedGeneration<D>,
) -> anyhow::Result<Option<Observed>> {
    let Some(staged) = &built.staged else { return Ok(None) };
    let [would_drop, would_pass] = enforcer.plane.staged_counters(enforcer.pins(), built.number)?;
    let (policy, inventory) =
        enforcer.store.made_of(staged.number).map(|made| (made.policy, made.inventory)).unwrap_or_default();
    Ok(Some(Observed {
        generation: staged.number,
        policy: policy.display().to_string(),
        inventory: inventory.display().to_string(),
        would_drop: would_drop.packets,
        would_pass: would_pass.packets,
    }))
}
