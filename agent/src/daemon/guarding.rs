//! When the nftables guard is put in place: before the first program is attached, again before
//! anything says that it is enforced, and whenever interfaces or the inventory change.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bulkhead::kernel::{Attached, Device};
use bulkhead_compiler::inventory::{Inventory, Node};

use super::enforcer::Enforcer;
use super::live::Built;
use super::setup::Setup;
use crate::guard::{self, Guard};

/// How often to look whether the guard still is there: reloading a firewall may flush every table.
const LOOK: Duration = Duration::from_secs(3);

/// What the guard in place was made for.
#[derive(Default)]
pub struct Guarded {
    /// A generation, and the interfaces' indices.
    made_for: Option<(u32, Vec<u32>)>,
    /// When it was last looked after.
    looked: Option<Instant>,
    /// Why it is not what it should be.
    problem: Option<String>,
}

impl Guarded {
    /// Whether somebody else has removed it, as far as it is time to look.
    fn is_gone(&mut self, instance: &str) -> bool {
        if self.made_for.is_none() || self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return false;
        }
        self.looked = Some(Instant::now());
        !guard::is_there(instance)
    }
}

/// The guard for an inventory, and for the interfaces whose packets may pass.
fn guard_of(setup: &Setup, inventory: &Inventory, open: &[u32]) -> Guard {
    let (own, others): (Vec<_>, Vec<_>) =
        inventory.nodes.iter().partition(|other| other.name == setup.target.node);
    let addresses = |nodes: Vec<&Node>| nodes.into_iter().flat_map(|node| node.addresses.clone()).collect();
    Guard {
        managed: setup.config.interfaces.iter().map(|managed| managed.name.clone()).collect(),
        attached: open.iter().copied().filter(|index| *index != 0).collect(),
        own: addresses(own),
        others: addresses(others),
    }
}

/// Keeps the managed names closed while none of the interfaces is there.
///
/// # Errors
/// If nftables refuses.
pub fn close(setup: &Setup, inventory: &Inventory) -> anyhow::Result<()> {
    if setup.config.guard { guard_of(setup, inventory, &[]).install(&setup.instance) } else { Ok(()) }
}

/// Puts the guard in place before the first program is attached; whether there was none.
///
/// The interfaces that are there stay open for the moment that is left: nothing was enforced on
/// them, and nobody is to be locked out. A guard that is there stays as it is, since what it keeps
/// closed must not be opened before it has a program.
///
/// # Errors
/// If nftables refuses; nothing has changed then.
pub fn install_first(setup: &Setup, built: &Built) -> anyhow::Result<bool> {
    if !setup.config.guard || guard::is_there(&setup.instance) {
        return Ok(false);
    }
    guard_of(setup, &built.inventory, &built.indices()).install(&setup.instance)?;
    Ok(true)
}

/// Puts the guard in place for a generation that has just been attached. A refusal is told, and
/// tried again by upkeep: the programs are on their hooks already.
pub fn install(setup: &Setup, built: &Built, attached: &[Attached]) -> Guarded {
    if !setup.config.guard {
        remove_earlier(setup);
        return Guarded::default();
    }
    let indices: Vec<u32> = attached.iter().map(|attached| attached.index).collect();
    match guard_of(setup, &built.inventory, &indices).install(&setup.instance) {
        Ok(()) => Guarded { made_for: Some((built.number, indices)), ..Guarded::default() },
        Err(error) => {
            tracing::error!("{error:#}; trying again");
            Guarded { problem: Some(format!("{error:#}")), ..Guarded::default() }
        }
    }
}

/// One that was turned off would close whatever interface comes next.
fn remove_earlier(setup: &Setup) {
    if guard::is_there(&setup.instance) {
        match guard::remove(&setup.instance) {
            Ok(()) => tracing::warn!("the guard is turned off: the one that was there is removed"),
            Err(error) => tracing::error!("{error:#}; it closes interfaces that come"),
        }
    }
}

impl Enforcer {
    /// Puts the guard in place, and again when interfaces or the inventory have changed or somebody
    /// else has removed it.
    ///
    /// What somebody else had done to it is the answer.
    ///
    /// # Errors
    /// If nftables refuses.
    pub fn keep_guard(&self) -> anyhow::Result<Option<String>> {
        if !self.setup.config.guard {
            return Ok(None);
        }
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = guarded.is_gone(&self.setup.instance);
        let live = self.live();
        let now = (live.built.number, live.attached.iter().map(|attached| attached.index).collect());
        if live.detached || guarded.made_for.as_ref() == Some(&now) && !is_gone {
            return Ok(None);
        }
        // `live` is held until the guard is in place: `detach` must not remove it before.
        let installed = guard_of(&self.setup, &live.built.inventory, &now.1).install(&self.setup.instance);
        drop(live);
        guarded.problem = installed.as_ref().err().map(|error| format!("{error:#}"));
        guarded.made_for = installed.is_ok().then_some(now);
        installed.map(|()| is_gone.then(|| "the guard was removed".to_owned()))
    }

    /// Whether the guard drops what a device carries.
    pub fn is_closed(&self, device: &Device) -> bool {
        let guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        guarded.made_for.as_ref().is_some_and(|(_, open)| !open.contains(&device.index))
    }

    /// Why the guard is not what it should be.
    pub fn guard_problem(&self) -> Option<String> {
        let guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = guarded.problem.as_ref()?;
        Some(format!("the guard does not fit what is enforced, and is tried again: {problem}"))
    }
}
