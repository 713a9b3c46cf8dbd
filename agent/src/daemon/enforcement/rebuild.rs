//! The same files in a new generation.

use bulkhead_api::request::Applied;
use bulkhead_dataplane::Dataplane;

use crate::daemon::enforcement::{change, kept};
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::store::unsaved::Disk;

/// Builds the same generation again: with room for quarantine, or for an interface of
/// another kind.
///
/// # Errors
/// If the system refuses; nothing has changed then.
pub fn rebuild<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Applied> {
    let _one = enforcer.one_change();
    let staged = enforcer.live().ledger.staged;
    enforce_with(enforcer, staged)
}

/// Builds what is enforced again, with this staged policy or none. The caller holds the one change.
pub(in crate::daemon) fn enforce_with<D: Dataplane>(
    enforcer: &Enforcer<D>,
    staged: Option<u32>,
) -> anyhow::Result<Applied> {
    let (number, problems) = {
        let live = enforcer.live();
        (live.ledger.enforced, live.built.problems.clone())
    };
    let enforced = Inputs { problems, ..kept::inputs(enforcer, number, Inputs::compile_at)? };
    // On disk are the same files already.
    change::change(enforcer, Disk::Follows, enforced, staged, |ledger, _, _| Ok(ledger.clone()))
}
