//! Enforcing other files, for good or until a confirmation is due.

use anyhow::Context as _;
use bulkhead_api::event::Action;
use bulkhead_api::request::Applied;
use bulkhead_dataplane::Dataplane;

use crate::daemon::clock::wall_time;
use crate::daemon::enforcement::{change, kept, origin, session};
use crate::daemon::files::{Asked, Files};
use crate::daemon::fleet;
use crate::daemon::grants;
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::store::Pending;
use crate::daemon::store::unsaved::Disk;
use crate::daemon::trust::{self, Signed};
use crate::exit::Usage;

/// Enforces the files of a change, or reads anew those that `run` names. What is wrong with them is an
/// answer, and changes nothing.
///
/// # Errors
/// A file that cannot be read ([`Usage`]), or a refusal of the system; nothing has changed then.
pub fn apply<D: Dataplane>(enforcer: &Enforcer<D>, request: &Asked) -> anyhow::Result<Applied> {
    let _one = enforcer.one_change();
    kept::promise_return(enforcer, request.confirm)?;
    let named = request.policy.is_none() && request.inventory.is_none();
    let (files, signed, _) = requested(enforcer, request)?;
    let before = enforcer.live().built.mode;
    let mode = request.mode.unwrap_or(before);
    trust::check_mode(&enforcer.setup.config, &signed, before, mode)?;
    let mut inputs = match Inputs::check(files.clone(), mode, &enforcer.setup.options, wall_time()) {
        Ok(inputs) => inputs,
        Err(refused) => {
            return Ok(Applied { dry_run: request.dry_run, ..change::refusal(enforcer, &refused) });
        }
    };
    inputs.signed = Signed { aside: fleet::aside(&request.asker.by), ..signed };
    let difference = origin::note(enforcer, &mut inputs, Action::Apply, &request.asker);
    if let Some(text) = session::cut(enforcer, &inputs, request.asker.session)? {
        return Ok(Applied { dry_run: request.dry_run, difference, text, ..change::unchanged(enforcer) });
    }
    if request.dry_run {
        return Ok(Applied { dry_run: true, difference, ..change::unchanged(enforcer) });
    }
    // Files that `run` names and that are not there are what they were.
    let seen = if named { Some(files.into_named()) } else { named_files(enforcer) };
    let staged = enforcer.live().ledger.staged;
    let applied = change::change(enforcer, Disk::First, inputs, staged, |ledger, number, is_same| {
        // A restart goes on with this until what `run` names changes again.
        if let Some(seen) = &seen {
            enforcer.store.save_requested(seen, enforcer.setup.config.mode, number, ledger)?;
        }
        Ok(ledger.succeeded(Pending::within(request.confirm), is_same))
    });
    let applied = applied.inspect_err(|_| enforcer.store.keep_requested())?;
    Ok(Applied { difference, ..applied })
}

/// The files that a request means: those that it has, else those that `run` names; with what sources list, who has
/// signed them, and the note.
///
/// # Errors
/// A file that cannot be read, or is not signed as agent.toml asks for.
pub(in crate::daemon) fn requested<D: Dataplane>(
    enforcer: &Enforcer<D>,
    request: &Asked,
) -> Result<(Files, Signed, Option<String>), Usage> {
    let (policy, inventory) = enforcer.setup.files();
    if request.policy.is_none() && fleet::has_taken(&enforcer.setup, &enforcer.store) {
        return Err(Usage(
            "this host follows a fleet, and what `run` names is what it began with: name the policy and the inventory to \
             enforce in its place, or `bulkhead fleet resume`"
                .to_owned(),
        ));
    }
    let files = Files::of(request, &policy, &inventory)?;
    grants::refuse_section(&files)?;
    let (signed, note) = trust::signed(&enforcer.setup.config, &files, request.note.as_deref())?;
    Ok((enforcer.setup.sources.add_to(files), signed, note))
}

fn named_files<D: Dataplane>(enforcer: &Enforcer<D>) -> Option<Files> {
    let (policy, inventory) = enforcer.setup.files();
    Files::read(&policy, &inventory).ok()
}

/// Keeps what waits for its confirmation; false if nothing does.
///
/// # Errors
/// If another generation is meant than the one that waits ([`Usage`]), or the disk refuses; it still waits then.
pub fn confirm<D: Dataplane>(enforcer: &Enforcer<D>, meant: Option<u32>) -> anyhow::Result<bool> {
    let mut live = enforcer.live();
    if live.ledger.pending.is_none() {
        return Ok(false);
    }
    let number = live.ledger.enforced;
    if let Some(meant) = meant.filter(|meant| !is_same(enforcer, *meant, number)) {
        return Err(Usage(format!(
            "generation {meant} does not wait for a confirmation, but generation {number} does; `bulkhead history {number}` \
             shows what it changed, and `bulkhead confirm {number}` keeps it"
        ))
        .into());
    }
    let made = enforcer.store.made_of(number);
    let is_same = |other| made.as_ref().is_some_and(|made| enforcer.store.is_same(other, made));
    let ledger = live.ledger.settled(is_same);
    let written = enforcer.store.write_ledger(&ledger).inspect_err(|_| enforcer.store.put_back(&live.ledger));
    written.context("nothing is confirmed: make room there and confirm again")?;
    live.ledger = ledger;
    Ok(true)
}

/// Whether two generations are of one change: what is enforced may have been built again since it was named.
fn is_same<D: Dataplane>(enforcer: &Enforcer<D>, one: u32, other: u32) -> bool {
    let origin = |number| enforcer.store.origin(number);
    one == other || origin(one).is_some_and(|of_one| origin(other) == Some(of_one))
}
