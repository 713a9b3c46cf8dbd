//! What time and other policies bring: grants that are over, and those that are not allowed any more.

use bulkhead_api::event::{Action, Actor, Outcome, Timestamp};
use bulkhead_api::grant::{Entry, Standing};
use bulkhead_dataplane::Dataplane;
use bulkhead_host::clock::ClockState;

use super::change::{save, take_out};
use super::verify::seconds;
use crate::daemon::alarms::{Cause, Found};
use crate::daemon::clock::wall_time;
use crate::daemon::events::control::{Change, generation};
use crate::daemon::state::{Enforcer, held};

/// How often the time is noted while grants run, in seconds.
const NOTED: u64 = 600;

/// Ends what is over, tells of it, and takes out of force what does not run. The kernel has ended what expired.
///
/// # Errors
/// If the system refuses; the next call tries again.
pub fn settle<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    // A change that is being made is not waited for.
    let Ok(_one) = enforcer.changing.try_lock() else { return Ok(()) };
    let grants = &enforcer.setup.options.grants;
    let (wall, is_in_time) = (seconds(wall_time()), (grants.is_in_time)());
    let now = seconds(grants.known(wall_time()));
    let in_force = enforcer.live().built.granted.clone();
    let (ended, is_too_much, emergencies, unsaved) = {
        let mut state = held(&grants.state);
        let mut ended = Vec::new();
        for id in state.kept.expired(now) {
            ended.extend(state.kept.end(&id, Standing::Expired, None));
        }
        for id in state.kept.missing(&in_force) {
            let why = state.refused.remove(&id);
            let why = why.unwrap_or_else(|| "what is enforced was built without it".to_owned());
            ended.extend(state.kept.end(&id, Standing::Ended, Some(why)));
        }
        if !ended.is_empty() {
            state.kept.forget(now, is_in_time);
        }
        let is_too_much = state.kept.is_too_much(&in_force, wall);
        if !is_too_much {
            state.open = None;
        }
        // What a start with a clock that is behind is to know.
        let is_noted = !is_in_time || !state.kept.has_running() || state.kept.latest().abs_diff(wall) < NOTED;
        let unsaved = state.unsaved || (!is_noted && state.damaged.is_none());
        (ended, is_too_much, state.kept.emergencies(), unsaved)
    };
    for (entry, until) in emergencies {
        alarm(enforcer, &entry, until);
    }
    for entry in &ended {
        tell(enforcer, entry);
    }
    let left = if is_too_much { take_out(enforcer) } else { Ok(None) };
    // Which is tried again, until somebody has done it.
    let enforced = left.and_then(|left| left.map_or(Ok(()), |words| Err(anyhow::anyhow!(words))));
    // Nobody keeps a grant in force by filling the disk.
    let saved = if unsaved || !ended.is_empty() { save(enforcer) } else { Ok(()) };
    enforced.and(saved)
}

/// Whether anything keeps the wall clock in time: one that jumps ahead must not have what is over forgotten.
pub(super) fn is_in_time() -> bool {
    ClockState::now().discipline.is_some_and(|clock| clock.synchronized)
}

fn tell<D: Dataplane>(enforcer: &Enforcer<D>, entry: &Entry) {
    let action = if entry.standing == Standing::Expired { Action::GrantExpired } else { Action::Revoke };
    let why = entry.why.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
    tracing::info!(id = entry.id, standing = entry.standing.name(), "{}{why}", entry.words());
    silence(enforcer, entry);
    Change {
        action,
        by: Actor::Agent,
        before: generation(enforcer),
        outcome: Outcome::Done,
        subject: Some(entry.id.clone()),
        detail: Some(format!("{}{why}", entry.words())),
        signers: entry.approvers.clone(),
    }
    .tell(enforcer);
}

fn found(entry: &Entry, until: i64) -> Found {
    let expires = Timestamp::from_unix(u64::try_from(until).unwrap_or(0).saturating_mul(1_000_000_000));
    let cause = Cause::BreakGlass { id: entry.id.clone(), expires };
    Found::plain(cause, format!("break-glass: {}", entry.words()))
}

/// Raises the alarm of an emergency, once.
pub(super) fn alarm<D: Dataplane>(enforcer: &Enforcer<D>, entry: &Entry, until: i64) {
    if let (true, Some(alarms)) = (entry.break_glass, &enforcer.shared.alarms) {
        alarms.raise(&found(entry, until));
    }
}

/// Ends it.
pub(super) fn silence<D: Dataplane>(enforcer: &Enforcer<D>, entry: &Entry) {
    if let (true, Some(alarms)) = (entry.break_glass, &enforcer.shared.alarms) {
        alarms.end(&found(entry, 0));
    }
}
