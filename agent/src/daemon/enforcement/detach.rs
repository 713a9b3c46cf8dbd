//! Ending enforcement.

use bulkhead_dataplane::{Dataplane, Hook, HookLinks as _};

use crate::daemon::state::{Enforcer, in_place};

/// Ends enforcement: detaches every hook and removes every pin. Who is quarantined is kept.
///
/// # Errors
/// If a pin cannot be removed.
pub fn detach<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Vec<(String, Hook)>> {
    // No change may attach again meanwhile, nor upkeep afterwards.
    let _one = enforcer.one_change();
    end(enforcer)
}

pub(in crate::daemon) fn end<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Vec<(String, Hook)>> {
    // What is pinned stays until its pins go, with the others. Before `live`: a look takes them in that order.
    enforcer.setup.workloads.clear();
    let mut live = enforcer.live();
    // The guard first: without programs it would drop everything.
    if enforcer.setup.config.guard {
        enforcer.setup.fallback.remove(&enforcer.setup.instance)?;
    }
    let links = enforcer.plane.detach(enforcer.pins())?;
    live.links.clear();
    live.detached = true;
    in_place::forget(&enforcer.setup.paths.socket);
    Ok(links)
}
