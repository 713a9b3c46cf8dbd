//! What time brings: quarantines that end, a confirmation that does not come, a wall clock that
//! is set, a change that is to be completed.

use std::collections::BTreeSet;
use std::time::Duration;

use bulkhead_api::event::Action;
use bulkhead_dataplane::Dataplane;

use crate::daemon::clock::BootClock;
use crate::daemon::enforcement::{rebuild, rollback, withdraw};
use crate::daemon::events::control::{self, Change};
use crate::daemon::grants;
use crate::daemon::quarantine::apply;
use crate::daemon::state::{Enforcer, Rebuild};

/// How often.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long to wait after a failure: what is tried again may be a whole generation.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// What failed last time, so that the same failure is told once.
#[derive(Default)]
pub struct Timers {
    told: BTreeSet<String>,
    /// The first policy was not confirmed: nothing is enforced any more, as before it.
    pub has_ended: bool,
}

impl Timers {
    /// How long to wait before the next run.
    #[must_use]
    pub fn interval(&self) -> Duration {
        if self.told.is_empty() { INTERVAL } else { AFTER_FAILURE }
    }

    /// Does what is due. What fails is told, and tried again next time.
    pub fn run<D: Dataplane>(&mut self, enforcer: &Enforcer<D>) {
        if enforcer.live().detached {
            return;
        }
        let mut failed = BTreeSet::new();
        let mut check = |what: &str, result: anyhow::Result<()>| {
            if let Err(error) = result {
                failed.insert(format!("{what}: {error:#}"));
            }
        };
        check("ending a quarantine", apply::release_ended(enforcer));
        check("writing to the state directory", apply::save_refused(enforcer));
        let before = control::generation(enforcer);
        let ended = rollback::end_unconfirmed(enforcer);
        self.has_ended = ended.as_ref().is_ok_and(|ended| *ended);
        if self.has_ended {
            Change::by_agent(Action::Detach, before, Some("the first policy was not confirmed in time"))
                .tell(enforcer);
        }
        check("ending what was not confirmed", ended.map(|_| ()));
        if self.has_ended {
            return;
        }
        check("returning to what was confirmed", unconfirmed(enforcer));
        check("completing an interrupted update", complete(enforcer));
        check("giving back what a change that was not made has ended", withdraw::settle(enforcer));
        check("ending grants", grants::settle(enforcer));
        check("following the wall clock", follow_clock(enforcer));
        failed.difference(&self.told).for_each(|failure| tracing::error!("{failure}; trying again"));
        self.told = failed;
    }
}

fn unconfirmed<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    let before = control::generation(enforcer);
    if let Some(back) = rollback::roll_back_unconfirmed(enforcer)? {
        Change::by_agent(Action::Rollback, before, Some("not confirmed in time")).tell(enforcer);
        tracing::warn!(generation = back.generation, "not confirmed in time: the previous files are back");
    }
    Ok(())
}

fn complete<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    let (mixed, must_rebuild) = {
        let live = enforcer.live();
        (live.mixed, live.must_rebuild)
    };
    if !mixed && must_rebuild.is_none() {
        return Ok(());
    }
    let before = control::generation(enforcer);
    let undone = enforcer.store.ledger().ok().and_then(|ledger| ledger.target).filter(|_| mixed);
    let generation = rebuild::rebuild(enforcer)?.generation;
    if mixed {
        undone.inspect(|number| enforcer.store.disown(*number));
        tracing::warn!(generation, "every hook runs one generation again");
    } else if must_rebuild == Some(Rebuild::Addresses) {
        let addresses: Vec<_> = enforcer.live().built.addresses.iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() { "none".to_owned() } else { addresses.join(", ") };
        tracing::info!(generation, addresses, "generation built for other addresses of underlay interfaces");
        let change = Change::by_agent(Action::Readdress, before, None);
        Change { subject: Some(addresses), ..change }.tell(enforcer);
    } else {
        tracing::info!(generation, "generation built for an interface of another kind");
    }
    Ok(())
}

fn follow_clock<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    let by = enforcer.live().built.follow_clock(BootClock::now())?;
    if let Some(seconds) = by {
        tracing::warn!(seconds, "the wall clock was set; expiry times follow it");
    }
    Ok(())
}
