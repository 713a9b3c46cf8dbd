//! When the nftables guard is put in place: before the first program is attached, again before
//! anything says that it is enforced, and whenever interfaces or the inventory change.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bulkhead::kernel::{Attached, link};
use bulkhead_compiler::inventory::{Inventory, Node};

use super::enforcer::Enforcer;
use super::live::Built;
use super::setup::Setup;
use super::start;
use crate::guard::{self, Guard, Installed};

/// How often to look whether the guard is what was put in place: reloading a firewall may flush every table.
const LOOK: Duration = Duration::from_secs(1);

/// The longest name that an interface can have. Alternative ones may be longer.
const LONGEST: usize = libc::IFNAMSIZ - 1;

/// What the guard in place was made for.
#[derive(Default)]
pub struct Guarded {
    made_for: Option<MadeFor>,
    /// What was put in place.
    installed: Option<Installed>,
    /// When it was last looked after.
    looked: Option<Instant>,
    /// Why it is not what it should be.
    problem: Option<String>,
}

/// A generation, the interfaces' indices, and the names that are closed.
#[derive(PartialEq, Eq)]
struct MadeFor(u32, Vec<u32>, BTreeSet<String>);

impl Guarded {
    /// What somebody else has made of it, as far as it is time to look.
    fn difference(&mut self) -> anyhow::Result<Option<&'static str>> {
        let Some(installed) = &mut self.installed else { return Ok(None) };
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(None);
        }
        self.looked = Some(Instant::now());
        installed.difference()
    }
}

/// The names by which nftables knows the managed interfaces: those that agent.toml has, and where that is
/// an alternative one, the interface's own.
fn managed_names(setup: &Setup) -> BTreeSet<String> {
    let configured = setup.config.interfaces.iter().map(|managed| managed.name.clone());
    let present = setup.config.interfaces.iter().filter_map(|managed| match link(&managed.name) {
        Ok(found) => found.map(|link| link.name),
        Err(error) => start::told(anyhow::anyhow!("interface {}: asking for it: {error}", managed.name)),
    });
    configured.filter(|name| name.len() <= LONGEST).chain(present).collect()
}

/// The guard for an inventory, and for the interfaces whose packets may pass.
fn guard_of(setup: &Setup, inventory: &Inventory, open: &[u32]) -> Guard {
    let (own, others): (Vec<_>, Vec<_>) =
        inventory.nodes.iter().partition(|other| other.name == setup.target.node);
    let addresses = |nodes: Vec<&Node>| nodes.into_iter().flat_map(|node| node.addresses.clone()).collect();
    Guard {
        managed: managed_names(setup),
        attached: open.iter().copied().filter(|index| *index != 0).collect(),
        own: addresses(own),
        others: addresses(others),
        log: setup.log_group.as_ref().ok().copied(),
    }
}

/// Keeps the managed names closed while none of the interfaces is there.
///
/// # Errors
/// If nftables refuses.
pub fn close(setup: &Setup, inventory: &Inventory) -> anyhow::Result<()> {
    if setup.config.guard {
        guard_of(setup, inventory, &[]).install(&setup.instance)?;
    }
    Ok(())
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
    let guard = guard_of(setup, &built.inventory, &indices);
    match guard.install(&setup.instance) {
        Ok(installed) => Guarded {
            made_for: Some(MadeFor(built.number, indices, guard.managed)),
            installed: Some(installed),
            ..Guarded::default()
        },
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
    /// # Errors
    /// If nftables refuses.
    pub fn keep_guard(&self) -> anyhow::Result<()> {
        if !self.setup.config.guard {
            return Ok(());
        }
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        let difference = guarded.difference()?;
        let live = self.live();
        let indices: Vec<u32> = live.attached.iter().map(|attached| attached.index).collect();
        let now = MadeFor(live.built.number, indices, managed_names(&self.setup));
        if live.detached || guarded.made_for.as_ref() == Some(&now) && difference.is_none() {
            return Ok(());
        }
        if let Some(difference) = difference {
            tracing::warn!("somebody has changed the guard: {difference}; it is put in place again");
        }
        // `live` is held until the guard is in place: `detach` must not remove it before.
        let is_same = guarded.made_for.as_ref().is_some_and(|made| (made.0, &made.2) == (now.0, &now.2));
        if let (Some(installed), None, true) = (&mut guarded.installed, difference, is_same) {
            // Interfaces came or went, and that is all.
            installed.set_attached(&now.1.iter().copied().filter(|index| *index != 0).collect())?;
            guarded.made_for = Some(now);
            return Ok(());
        }
        let installed = guard_of(&self.setup, &live.built.inventory, &now.1).install(&self.setup.instance);
        drop(live);
        guarded.problem = installed.as_ref().err().map(|error| format!("{error:#}"));
        guarded.made_for = installed.is_ok().then_some(now);
        let failed = installed.as_ref().err().map(|error| anyhow::anyhow!("{error:#}"));
        guarded.installed = installed.ok();
        failed.map_or(Ok(()), Err)
    }

    /// Why the guard's drops are told of by summaries alone.
    pub fn guard_notes(&self) -> Option<String> {
        let problem = self.setup.log_group.as_ref().err().filter(|_| self.setup.config.guard)?;
        Some(format!("the guard's drops are only counted, a second at a time: {problem}"))
    }

    /// Why the guard is not what it should be.
    pub fn guard_problem(&self) -> Option<String> {
        let guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = guarded.problem.as_ref()?;
        Some(format!("the guard does not fit what is enforced, and is tried again: {problem}"))
    }
}
