//! The way back to what was enforced before: by command, or because no confirmation came.

use bulkhead_api::event::Action;
use bulkhead_api::request::Applied;
use bulkhead_dataplane::Dataplane;

use crate::daemon::enforcement::{change, detach, kept, origin, session};
use crate::daemon::files::Asker;
use crate::daemon::fleet;
use crate::daemon::log::log_unsaved;
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::store::unsaved::Disk;
use crate::daemon::store::{Ledger, Pending};
use crate::daemon::trust;
use crate::exit::Usage;

/// A way back.
#[derive(Clone, Debug, Default)]
pub struct Return {
    /// To which generation; none: the previous one.
    pub to: Option<u32>,
    /// Seconds to confirm within; none: it stays.
    pub within: Option<u64>,
    /// Who asks.
    pub asker: Asker,
}

/// Returns to the previous generation or to an earlier one, which becomes a new one of the same files; `None` if
/// there is none. Neither a full disk nor a test that fails by now keeps it from that.
///
/// # Errors
/// A generation that is not kept ([`Usage`]), or if the system refuses; nothing has changed then.
pub fn rollback<D: Dataplane>(enforcer: &Enforcer<D>, way: &Return) -> anyhow::Result<Option<Applied>> {
    let _one = enforcer.one_change();
    roll_back(enforcer, way, true)
}

/// Rolls back if a confirmation was due. A change that is being made is not waited for.
///
/// # Errors
/// As [`rollback`].
pub fn roll_back_unconfirmed<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Option<Applied>> {
    let Ok(_one) = enforcer.changing.try_lock() else { return Ok(None) };
    let due = enforcer.live().ledger.is_unconfirmed();
    if due { roll_back(enforcer, &Return::default(), false) } else { Ok(None) }
}

/// Gives up what waits for its confirmation, if it is what is meant: what was enforced before returns now. None: it does
/// not wait any more, or is another.
///
/// # Errors
/// As [`rollback`].
pub fn give_up<D: Dataplane>(
    enforcer: &Enforcer<D>,
    asker: &Asker,
    is_meant: impl FnOnce() -> bool,
) -> anyhow::Result<Option<Applied>> {
    let _one = enforcer.one_change();
    if enforcer.live().ledger.pending.is_none() || !is_meant() {
        return Ok(None);
    }
    roll_back(enforcer, &Return { asker: asker.clone(), ..Return::default() }, false)
}

/// Whoever asks for it goes back to what was signed, if agent.toml asks for that. The agent goes back to whatever was in
/// force before what was not confirmed.
fn roll_back<D: Dataplane>(
    enforcer: &Enforcer<D>,
    way: &Return,
    is_asked: bool,
) -> anyhow::Result<Option<Applied>> {
    let Ledger { enforced, previous, staged, .. } = enforcer.live().ledger.clone();
    let Some(to) = way.to.or(previous) else { return Ok(None) };
    if way.to == Some(enforced) {
        return Err(
            Usage(format!("generation {to} is enforced; `bulkhead history` lists those before")).into()
        );
    }
    kept::promise_return(enforcer, way.within)?;
    let unknown = || Usage(format!("generation {to} is not kept; `bulkhead history` lists those that are"));
    let files = match way.to {
        Some(_) => {
            let (files, made) = enforcer.store.inputs_of(to).ok_or_else(unknown)?;
            // How it came to be in force is noted with those that were.
            if made.origin.is_none() && previous != Some(to) {
                return Err(Usage(format!(
                    "generation {to} was never in force (or how is not known); `bulkhead history` lists those that were, and \
                     `bulkhead apply` enforces any files"
                ))
                .into());
            }
            (files, made)
        }
        None => kept::files(enforcer, to)?,
    };
    let (files, made) = files;
    if is_asked {
        let before = enforcer.live().built.mode;
        trust::check_return(&enforcer.setup.config, (to, &made.signed), before, made.mode)?;
    }
    let files = (enforcer.setup.sources.add_to(files), made);
    let mut inputs = kept::compile(enforcer, to, files, Inputs::check_kept)?;
    // What the agent goes back to is as aside of the fleet as it was.
    if is_asked {
        inputs.signed.aside = fleet::aside(&way.asker.by);
    }
    let difference = origin::note(enforcer, &mut inputs, Action::Rollback, &way.asker);
    if let Some(text) = session::cut(enforcer, &inputs, way.asker.session)? {
        return Ok(Some(Applied { difference, text, ..change::unchanged(enforcer) }));
    }
    let pending = Pending::within(way.within);
    let mut done = change::change(enforcer, Disk::Follows, inputs, staged, |ledger, _, is_same| {
        Ok(ledger.succeeded(pending, is_same))
    })?;
    if way.within.is_none() {
        enforcer.store.end_wait();
    }
    done.notes.extend(enforcer.live().built.problems.iter().cloned());
    Ok(Some(Applied { difference, ..done }))
}

/// Ends enforcement if the first policy was not confirmed in time: nothing was enforced before it.
/// Whether it has.
///
/// # Errors
/// As [`detach`](super::detach()).
pub fn end_unconfirmed<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<bool> {
    let Ok(_one) = enforcer.changing.try_lock() else { return Ok(false) };
    let due = enforcer.live().ledger.goes_back_to_nothing();
    if due {
        detach::end(enforcer)?;
        let ended = enforcer.live().ledger.ended();
        log_unsaved(enforcer.store.write_ledger(&ended));
    }
    Ok(due)
}
