//! When the nftables guard is put in place: before the first program is attached, again before
//! anything says that it is enforced, and whenever interfaces or the inventory change.

pub mod closed;
pub mod drops;

use std::collections::BTreeSet;

use anyhow::Context as _;
use bulkhead_dataplane::{Attached, DEVICE_GROUP, Dataplane, Device, DeviceTable, Interface};
use bulkhead_host::spare;
use bulkhead_policy::inventory::Inventory;

use crate::config::{LOOPBACK, Role};
use crate::daemon::setup::Setup;
use crate::daemon::state::fallback::{MadeFor, NftFallback};
use crate::daemon::state::generation::LoadedGeneration;
use crate::daemon::state::in_place::GuardNote;
use crate::daemon::state::{Enforcer, held};
use crate::guard::Guard;

/// The longest name that an interface can have. Alternative ones may be longer.
const LONGEST: usize = libc::IFNAMSIZ - 1;

/// A device as the guard knows it: the index and the group. Another one that gets the same index is not in
/// the group, and closed before anybody looks. So is one whose enforcement others keep taking away.
fn open(attached: &[Attached]) -> BTreeSet<(u32, u32)> {
    let there = attached.iter().filter(|attached| is_guarded(&attached.interface));
    let there = there.filter(|attached| attached.index != 0 && !attached.contested);
    there.map(|attached| (attached.index, attached.group)).collect()
}

/// Whether an interface is one that the guard closes without its programs. What is said on `lo` by whoever is no
/// workload goes on in any case.
fn is_guarded(interface: &str) -> bool {
    interface != LOOPBACK
}

/// The names by which nftables knows the managed interfaces: those that agent.toml has, and where that is
/// an alternative one, the device's own.
fn names<'a>(setup: &Setup, devices: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let configured = setup.config.interfaces.iter().map(|managed| managed.name.clone());
    let configured = configured.filter(|name| is_guarded(name));
    let devices = devices.filter(|name| !name.is_empty() && is_guarded(name)).map(ToOwned::to_owned);
    configured.filter(|name| name.len() <= LONGEST).chain(devices).collect()
}

/// The names of those that lead to networks beneath the overlay; `devices` are each an interface and its device.
fn underlay<'a>(setup: &Setup, devices: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeSet<String> {
    let managed = || setup.config.interfaces.iter().filter(|managed| managed.role == Role::Underlay);
    let is_meant = |interface: &str| managed().any(|managed| managed.name == interface);
    let devices = devices.filter(|(interface, device)| is_meant(interface) && !device.is_empty());
    let configured = managed().map(|managed| managed.name.clone()).filter(|name| name.len() <= LONGEST);
    configured.chain(devices.map(|(_, device)| device.to_owned())).collect()
}

/// The same of what is attached.
fn attached_underlay(setup: &Setup, attached: &[Attached]) -> BTreeSet<String> {
    underlay(setup, attached.iter().map(|attached| (&*attached.interface, &*attached.device)))
}

/// Puts a device into the agent's group, unless somebody has put it into another one; the group it is in then.
fn mark_device(devices: &impl DeviceTable, interface: &str, index: u32, group: u32) -> anyhow::Result<u32> {
    if group != 0 || index == 0 {
        return Ok(group);
    }
    devices
        .set_group(index, DEVICE_GROUP)
        .with_context(|| format!("interface {interface}: setting its device's group"))?;
    Ok(DEVICE_GROUP)
}

/// Puts the devices of interfaces that are enforced into the agent's group, by which the guard knows them.
///
/// # Errors
/// If the kernel refuses; the guard keeps such a device closed.
pub fn mark(plane: &impl Dataplane, setup: &Setup, attached: &mut [Attached]) -> anyhow::Result<()> {
    if !setup.config.guard {
        return Ok(());
    }
    let devices = spare::open(|| plane.devices()).context("asking for interfaces")?;
    for Attached { interface, index, group, .. } in attached {
        if !is_guarded(interface) {
            continue;
        }
        *group = mark_device(&devices, interface, *index, *group)?;
    }
    Ok(())
}

/// Takes a device that has lost its interface's name out of the agent's group: the guard lets nothing pass
/// there from then on, whatever name it gets, until it is enforced again.
///
/// # Errors
/// If the kernel refuses.
pub fn unmark<D: Dataplane>(plane: &D, setup: &Setup, index: u32) -> anyhow::Result<()> {
    if !setup.config.guard {
        return Ok(());
    }
    let unmark = |devices: D::Devices| match devices.by_index(index)? {
        Some(Device { group: DEVICE_GROUP, .. }) => devices.set_group(index, 0),
        _ => Ok(()),
    };
    spare::open(|| plane.devices())
        .and_then(unmark)
        .context("taking an interface that lost its name out of its group")
}

/// The guard for an inventory, and for the devices whose packets may pass.
fn guard_of(
    setup: &Setup,
    inventory: &Inventory,
    open: &BTreeSet<(u32, u32)>,
    names: BTreeSet<String>,
    underlay: BTreeSet<String>,
) -> Guard {
    Guard {
        managed: names,
        underlay,
        attached: open.clone(),
        log: setup.log_group.as_ref().ok().copied(),
        ..Guard::of_node(&inventory.nodes, &setup.options.node)
    }
}

/// Keeps the managed names closed while none of the interfaces is there.
///
/// # Errors
/// If nftables refuses.
pub fn close(setup: &Setup, inventory: &Inventory) -> anyhow::Result<()> {
    if setup.config.guard {
        let names = names(setup, std::iter::empty());
        setup.fallback.install(
            &guard_of(setup, inventory, &BTreeSet::new(), names, attached_underlay(setup, &[])),
            &setup.instance,
        )?;
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
pub fn install_first<D: Dataplane>(
    plane: &D,
    setup: &Setup,
    built: &mut LoadedGeneration<D>,
) -> anyhow::Result<bool> {
    if !setup.config.guard || setup.fallback.is_there(&setup.instance) {
        return Ok(false);
    }
    let devices = plane.devices().context("asking for interfaces")?;
    let (mut open, mut there) = (BTreeSet::new(), Vec::new());
    for Interface { name, device, index, group, .. } in built.interfaces() {
        if !is_guarded(name) {
            continue;
        }
        *group = mark_device(&devices, name, *index, *group)?;
        open.insert((*index, *group));
        there.push((name.clone(), device.clone()));
    }
    let names = names(setup, there.iter().map(|(_, device)| &**device));
    let underlay = underlay(setup, there.iter().map(|(name, device)| (&**name, &**device)));
    setup.fallback.install(&guard_of(setup, &built.inventory, &open, names, underlay), &setup.instance)?;
    Ok(true)
}

/// Puts the guard in place for a generation that has just been attached. A refusal is told, and
/// tried again by upkeep: the programs are on their hooks already.
pub fn install<D: Dataplane>(
    setup: &Setup,
    built: &LoadedGeneration<D>,
    attached: &[Attached],
) -> NftFallback {
    if !setup.config.guard {
        remove_earlier(setup);
        return NftFallback::default();
    }
    let (open, names) =
        (open(attached), names(setup, attached.iter().map(|attached| attached.device.as_str())));
    let underlay = attached_underlay(setup, attached);
    let guard = guard_of(setup, &built.inventory, &open, names.clone(), underlay);
    match setup.fallback.install(&guard, &setup.instance) {
        Ok(installed) => NftFallback {
            made_for: Some(MadeFor { generation: built.number, open, names }),
            installed: Some(installed),
            ..NftFallback::default()
        },
        Err(error) => {
            tracing::error!("{error:#}; trying again");
            NftFallback { problem: Some(format!("{error:#}")), ..NftFallback::default() }
        }
    }
}

/// One that was turned off would close whatever interface comes next.
fn remove_earlier(setup: &Setup) {
    if setup.fallback.is_there(&setup.instance) {
        match setup.fallback.remove(&setup.instance) {
            Ok(()) => tracing::warn!("the guard is turned off: the one that was there is removed"),
            Err(error) => tracing::error!("{error:#}; it closes interfaces that come"),
        }
    }
}

/// Puts the guard in place, and again when interfaces or the inventory have changed or somebody
/// else has changed it: what somebody else had done is the answer.
///
/// # Errors
/// If nftables refuses.
pub fn keep_guard<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<Option<&'static str>> {
    let mut guarded = held(&enforcer.guarded);
    let kept = if enforcer.setup.config.guard { keep_guarded(enforcer, &mut guarded) } else { Ok(None) };
    guarded.problem = kept.as_ref().err().map(|error| format!("{error:#}"));
    note_in_place(enforcer, &mut guarded);
    kept
}

/// Notes what is in place for whoever asks the kernel without this agent.
fn note_in_place<D: Dataplane>(enforcer: &Enforcer<D>, guarded: &mut NftFallback) {
    let guard = guarded.note(&enforcer.setup);
    let live = enforcer.live();
    if !live.detached {
        let exchange = || {
            let managed = enforcer.setup.config.interfaces.iter();
            let exchange = managed.filter(|managed| managed.role == Role::Exchange);
            exchange.map(|managed| managed.name.clone()).collect()
        };
        enforcer.noted().note(live.built.number, &live.attached, exchange, &guard);
    }
}

fn keep_guarded<D: Dataplane>(
    enforcer: &Enforcer<D>,
    guarded: &mut NftFallback,
) -> anyhow::Result<Option<&'static str>> {
    let difference = guarded.installed.as_mut().map_or(Ok(None), |installed| installed.difference())?;
    // Held until the guard is in place: `detach` must not remove it before.
    let live = enforcer.live();
    let is_seen = (guarded.seen.0, &guarded.seen.1) == (live.built.number, &live.attached);
    if live.detached || is_seen && guarded.made_for.is_some() && difference.is_none() {
        return Ok(None);
    }
    let now = MadeFor {
        generation: live.built.number,
        open: open(&live.attached),
        names: names(&enforcer.setup, live.attached.iter().map(|attached| attached.device.as_str())),
    };
    guarded.seen = (live.built.number, live.attached.clone());
    if guarded.made_for.as_ref() == Some(&now) && difference.is_none() {
        return Ok(None);
    }
    let made = guarded.made_for.take();
    enforcer.guard_passes(None);
    guarded.digest = None;
    enforcer.noted().note_guard(match difference {
        Some(cause) => {
            GuardNote::Missing(format!("{cause}; others have changed it, and it is put in place again"))
        }
        None => GuardNote::Changing,
    });
    let is_same = made.is_some_and(|made| made.generation == now.generation && made.names == now.names);
    match (&mut guarded.installed, difference, is_same) {
        // Interfaces came or went, and that is all.
        (Some(installed), None, true) => installed.set_attached(&now.open)?,
        _ => {
            guarded.installed = None;
            let underlay = attached_underlay(&enforcer.setup, &live.attached);
            let guard =
                guard_of(&enforcer.setup, &live.built.inventory, &now.open, now.names.clone(), underlay);
            guarded.installed = Some(enforcer.setup.fallback.install(&guard, &enforcer.setup.instance)?);
        }
    }
    enforcer.guard_passes(Some(now.open.clone()));
    guarded.made_for = Some(now);
    Ok(difference)
}

/// Why the guard's drops are told of by summaries alone.
pub fn guard_notes<D: Dataplane>(enforcer: &Enforcer<D>) -> Option<String> {
    let problem = enforcer.setup.log_group.as_ref().err().filter(|_| enforcer.setup.config.guard)?;
    Some(format!("the guard's drops are only counted, a second at a time: {problem}"))
}

/// Why the guard is not what it should be.
pub fn guard_problem<D: Dataplane>(enforcer: &Enforcer<D>) -> Option<String> {
    let guarded = held(&enforcer.guarded);
    let problem = guarded.problem.as_ref()?;
    Some(format!("the guard does not fit what is enforced, and is tried again: {problem}"))
}
