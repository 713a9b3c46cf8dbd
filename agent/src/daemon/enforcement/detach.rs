//! Ending enforcement.

use bulkhead_dataplane::{Dataplane, Hook, HookLinks as _};

use crate::daemon::log::log_and_default;
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
    let detached = all(enforcer);
    if detached.is_err() {
        // What is left goes on, and so must the looks at new cgroups, which would stay off the overlay for good.
        let now = enforcer.live().built.workloads.clone();
        let to_all = enforcer.setup.config.refuse_bypass_to_all;
        enforcer.setup.workloads.settle(enforcer.pins(), &now, to_all).unwrap_or_else(log_and_default);
    }
    detached
}

fn all<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Vec<(String, Hook)>> {
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
