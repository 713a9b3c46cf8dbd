//! What time brings: quarantines that end, a confirmation that does not come, a wall clock that
//! is set, interfaces that go and come back.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead::kernel::{Attached, Interface, KernelError};
use bulkhead_compiler::inventory::Node;

use super::clock::BootClock;
use super::enforcer::Enforcer;
use crate::guard::Guard;

/// How often. An interface that comes back is without a program for so long.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long to wait after a failure: what is tried again may be a whole generation.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// What failed last time, so that the same failure is told once.
#[derive(Default)]
pub struct Upkeep {
    told: BTreeSet<String>,
    /// What the guard in place was made for: a generation, and the interfaces' indices.
    guarded: Option<(u32, Vec<u32>)>,
}

impl Upkeep {
    /// How long to wait before the next run.
    #[must_use]
    pub fn interval(&self) -> Duration {
        if self.told.is_empty() { INTERVAL } else { AFTER_FAILURE }
    }

    /// Does what is due. What fails is told, and tried again next time.
    pub fn run(&mut self, enforcer: &Enforcer) {
        if enforcer.live().detached {
            return;
        }
        let mut failed = BTreeSet::new();
        let mut check = |what: &str, result: anyhow::Result<()>| {
            if let Err(error) = result {
                failed.insert(format!("{what}: {error:#}"));
            }
        };
        check("ending a quarantine", enforcer.release_ended());
        check("returning to what was confirmed", unconfirmed(enforcer));
        check("completing a change that stopped half-way", complete(enforcer));
        check("following the wall clock", follow_clock(enforcer));
        check("watching interfaces", watch_interfaces(enforcer));
        check("keeping the guard", keep_guard(enforcer, &mut self.guarded));
        failed.difference(&self.told).for_each(|failure| tracing::error!("{failure}; trying again"));
        self.told = failed;
    }
}

fn unconfirmed(enforcer: &Enforcer) -> anyhow::Result<()> {
    if let Some(back) = enforcer.roll_back_unconfirmed()? {
        tracing::warn!(generation = back.generation, "not confirmed in time: the previous files are back");
    }
    Ok(())
}

fn complete(enforcer: &Enforcer) -> anyhow::Result<()> {
    let mixed = enforcer.live().mixed;
    if mixed {
        let built = enforcer.rebuild()?;
        tracing::warn!(generation = built.generation, "every hook runs one generation again");
    }
    Ok(())
}

fn follow_clock(enforcer: &Enforcer) -> anyhow::Result<()> {
    let by = enforcer.live().built.follow_clock(enforcer.pins(), BootClock::now())?;
    if let Some(seconds) = by {
        tracing::warn!(seconds, "the wall clock was set; expiry times follow it");
    }
    Ok(())
}

/// Every managed interface that is not under the index it was attached under.
fn watch_interfaces(enforcer: &Enforcer) -> anyhow::Result<()> {
    let attached = enforcer.live().attached.clone();
    let mut failure = None;
    for known in attached {
        let now = match Interface::find(&known.interface) {
            Ok(interface) => interface,
            Err(KernelError::NoInterface(_)) => {
                if known.index != 0 {
                    tracing::warn!(interface = known.interface, "is gone; what it carried is gone with it");
                    replace(enforcer, &known, Attached { index: 0, hooks: Vec::new(), ..known.clone() });
                }
                continue;
            }
            Err(error) => {
                failure = Some(error.into());
                continue;
            }
        };
        if now.index != known.index
            && let Err(error) = attach_again(enforcer, &known, &now)
        {
            failure = Some(error.context(format!("interface {} is back and not enforced", now.name)));
        }
    }
    failure.map_or(Ok(()), Err)
}

fn attach_again(enforcer: &Enforcer, known: &Attached, now: &Interface) -> anyhow::Result<()> {
    let attached = {
        let mut live = enforcer.live();
        if live.detached {
            return Ok(());
        }
        live.built.attach_again(now, enforcer.pins())
    };
    match attached {
        Ok(attached) => {
            tracing::warn!(interface = now.name, index = now.index, "is back, and enforced again");
            let mut indices =
                enforcer.shared.indices.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            indices.insert(now.index, now.name.clone());
            drop(indices);
            replace(enforcer, known, attached);
        }
        // It is of another kind now, or was not there when the generation was built.
        Err(_) => {
            let built = enforcer.rebuild().context("building a program for it")?;
            tracing::warn!(
                interface = now.name,
                generation = built.generation,
                "is back, and enforced again by a new generation"
            );
        }
    }
    Ok(())
}

/// Puts the guard in place, and again when interfaces or the inventory have changed.
fn keep_guard(enforcer: &Enforcer, guarded: &mut Option<(u32, Vec<u32>)>) -> anyhow::Result<()> {
    if !enforcer.setup.config.guard {
        return Ok(());
    }
    let live = enforcer.live();
    let now = (live.built.number, live.attached.iter().map(|attached| attached.index).collect());
    if guarded.as_ref() == Some(&now) {
        return Ok(());
    }
    let node = &enforcer.setup.target.node;
    let (own, others): (Vec<_>, Vec<_>) =
        live.built.inventory.nodes.iter().partition(|other| other.name == *node);
    let addresses = |nodes: Vec<&Node>| nodes.into_iter().flat_map(|node| node.addresses.clone()).collect();
    let guard = Guard {
        managed: enforcer.setup.config.interfaces.iter().map(|managed| managed.name.clone()).collect(),
        attached: now.1.iter().copied().filter(|index| *index != 0).collect(),
        own: addresses(own),
        others: addresses(others),
    };
    // Held until the guard is in place: `detach` must not remove it before.
    guard.install(&enforcer.setup.instance)?;
    drop(live);
    *guarded = Some(now);
    Ok(())
}

fn replace(enforcer: &Enforcer, known: &Attached, now: Attached) {
    let mut live = enforcer.live();
    if let Some(place) = live.attached.iter_mut().find(|attached| *attached == known) {
        *place = now;
    }
}
