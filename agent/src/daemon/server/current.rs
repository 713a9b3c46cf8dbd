//! The status of an agent that runs.

use std::time::Duration;

use bulkhead_api::status::{State, Status};

use crate::daemon::fallback;
use crate::daemon::reconcile;
use crate::daemon::server::status;
use crate::daemon::state::Enforcer;
use crate::daemon::state::venues::unmanaged;

/// How often a status is read again because something has changed meanwhile, and after which time.
const TRIES: usize = 10;
const AFTER_CHANGE: Duration = Duration::from_millis(20);

/// What is enforced, but for the flows, which take time to count.
///
/// # Errors
/// If the kernel or the state directory cannot be read.
pub fn current(enforcer: &Enforcer) -> anyhow::Result<Status> {
    let events = enforcer.shared.hub.stats();
    let (instance, paths) = (&enforcer.setup.instance, &enforcer.setup.paths);
    if enforcer.live().detached {
        return status::read(instance, paths, None, None, true);
    }
    let status = of_one_moment(enforcer, || {
        let agent = status::agent(enforcer, events);
        let in_place = status::in_place(enforcer, &agent);
        status::read(instance, paths, Some(agent), in_place, true)
    })?;
    let (venues, indices) = {
        let live = enforcer.live();
        let indices: Vec<u32> = live.attached.iter().map(|attached| attached.index).collect();
        (live.built.venues.clone(), indices)
    };
    let status = status.with_problems(unmanaged(&venues, &indices)?);
    let status = status.with_problems(fallback::guard_problem(enforcer).into_iter().collect());
    let status = status.with_problems(reconcile::contested(enforcer));
    let status = status.with_problems(enforcer.live().built.problems.clone());
    let status = status.with_problems(enforcer.live().built.refused.clone());
    let looked = enforcer.looks.last().and_then(|look| look.problem());
    let status = status.with_problems(looked.into_iter().collect());
    let status = status.with_problems(enforcer.store.unsaved_problem().into_iter().collect());
    let mut status = status;
    status.problems.extend(fallback::guard_notes(enforcer));
    // What is in force, even if the disk refused it.
    status.quarantined = status::quarantined(&enforcer.live().quarantined);
    Ok(status)
}

/// A status during which the agent itself has changed nothing: what it is just changing is no fault. One who changes
/// all the time gets the last.
fn of_one_moment(enforcer: &Enforcer, read: impl Fn() -> anyhow::Result<Status>) -> anyhow::Result<Status> {
    let mut status = read()?;
    for _ in 0..TRIES {
        let agent = status.agent.as_ref();
        let is_same = agent.is_some_and(|agent| status::is_unchanged(enforcer, agent));
        if is_same || status.state == State::Enforced {
            break;
        }
        std::thread::sleep(AFTER_CHANGE);
        status = read()?;
    }
    Ok(status)
}
