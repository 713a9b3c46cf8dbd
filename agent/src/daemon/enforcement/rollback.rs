//! The way back to what was enforced before: by command, or because no confirmation came.

use bulkhead_api::request::Applied;
use bulkhead_dataplane::Dataplane;

use crate::daemon::clock::wall_time;
use crate::daemon::enforcement::{change, detach, kept};
use crate::daemon::log::log_unsaved;
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::store::Ledger;
use crate::daemon::store::unsaved::Disk;

/// Returns to the previous generation, which becomes a new one of the same files; `None` if
/// there is none. Neither a full disk nor a test that fails by now keeps it from that.
///
/// # Errors
/// If the system refuses; nothing has changed then.
pub fn rollback<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Option<Applied>> {
    let _one = enforcer.one_change();
    roll_back(enforcer)
}

/// Rolls back if a confirmation was due. A change that is being made is not waited for.
///
/// # Errors
/// As [`rollback`].
pub fn roll_back_unconfirmed<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Option<Applied>> {
    let Ok(_one) = enforcer.changing.try_lock() else { return Ok(None) };
    let due = enforcer.live().ledger.is_unconfirmed();
    if due { roll_back(enforcer) } else { Ok(None) }
}

fn roll_back<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Option<Applied>> {
    let Ledger { previous, staged, .. } = enforcer.live().ledger.clone();
    let Some(previous) = previous else { return Ok(None) };
    let inputs = kept::inputs(enforcer, previous, Inputs::check_kept)?;
    let mut done = change::change(enforcer, Disk::Follows, inputs, staged, |ledger, number| {
        let previous = Some(ledger.enforced);
        Ok(Ledger { enforced: number, previous, target: None, pending: None, staged, applied: wall_time() })
    })?;
    enforcer.store.end_wait();
    done.notes.extend(enforcer.live().built.problems.iter().cloned());
    Ok(Some(done))
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
        log_unsaved(enforcer.store.write_ledger(&Ledger::default()));
    }
    Ok(due)
}
