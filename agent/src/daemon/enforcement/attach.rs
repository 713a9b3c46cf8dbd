//! Interfaces come, go and come back. The guard holds what no program sees meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead_api::request::AttachAnswer;
use bulkhead_dataplane::{Attached, Dataplane, DeviceTable as _, KernelError};
use bulkhead_policy::inventory::Inventory;

use crate::config::{Config, Role};
use crate::daemon::service;
use crate::daemon::setup::Setup;
use crate::daemon::state::Enforcer;
use crate::daemon::{fallback, reconcile};
use crate::exit::Usage;

/// How often an agent without any interface looks whether one has come.
const INTERVAL: Duration = Duration::from_millis(100);

/// Whether each section of agent.toml is another device: one by its name and by an alternative one would be given the
/// programs of both in turn.
///
/// # Errors
/// Which two are one.
pub fn one_section_each(plane: &impl Dataplane, config: &Config) -> anyhow::Result<()> {
    let devices = plane.devices().context("asking for interfaces")?;
    let mut known: BTreeMap<u32, &str> = BTreeMap::new();
    for managed in &config.interfaces {
        let asked = devices.by_name(&managed.name);
        let asked = asked.with_context(|| format!("interface {}: asking for it", managed.name))?;
        let Some(device) = asked else { continue };
        if let Some(first) = known.insert(device.index, &managed.name) {
            return Err(Usage(format!(
                "interfaces {first} and {} of agent.toml are one device; remove one of the two sections",
                managed.name
            ))
            .into());
        }
    }
    Ok(())
}

/// Waits until one of the managed interfaces is there. The guard keeps the others' names closed.
///
/// # Errors
/// If an interface that must be there is not, or the guard is refused.
pub fn wait_for_one(plane: &impl Dataplane, setup: &Setup, inventory: &Inventory) -> anyhow::Result<()> {
    let managed = &setup.config.interfaces;
    for must in managed.iter().filter(|managed| !managed.is_optional) {
        plane.interface(&must.name)?;
    }
    // lo is always there, which says nothing of the others.
    let managed: Vec<_> = managed.iter().filter(|managed| managed.role != Role::Local).collect();
    if managed.is_empty() {
        return Ok(());
    }
    let mut is_told = false;
    loop {
        for managed in &managed {
            match plane.interface(&managed.name) {
                Ok(_) => return Ok(()),
                Err(KernelError::NoInterface(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !is_told {
            fallback::close(setup, inventory)?;
            let names: Vec<&str> = managed.iter().map(|managed| &*managed.name).collect();
            tracing::warn!("waiting for an interface: {}", names.join(", "));
            service::wait_for(&names);
            is_told = true;
        }
        service::alive();
        std::thread::sleep(INTERVAL);
    }
}

/// Managed interfaces that are not there, as `attached` has them.
pub fn absent(setup: &Setup, attached: &[Attached]) -> Vec<Attached> {
    let is_absent = |name: &str| attached.iter().all(|there| there.interface != name);
    let absent = setup.config.interfaces.iter().filter(|managed| is_absent(&managed.name));
    absent.map(|managed| Attached::absent(&managed.name)).collect()
}

/// Enforces on an interface now, if it is there; what is said of it the kernel has just said.
///
/// # Errors
/// [`Usage`] if it is none that the agent manages; else what the system refused.
pub fn attach<D: Dataplane>(enforcer: &Enforcer<D>, interface: &str) -> anyhow::Result<AttachAnswer> {
    let managed = &enforcer.setup.config.interfaces;
    if managed.iter().all(|managed| managed.name != interface) {
        let names: Vec<&str> = managed.iter().map(|managed| &*managed.name).collect();
        return Err(Usage(format!(
            "interface {interface} is none of the agent's ({}); add it to agent.toml as [[interface]] \
             and start the agent again",
            names.join(", ")
        ))
        .into());
    }
    anyhow::ensure!(!enforcer.live().detached, "the agent has detached and is ending");
    reconcile::reconcile(enforcer, true)?;
    let live = enforcer.live();
    let attached = live.attached.iter().find(|there| there.interface == interface && there.index != 0);
    anyhow::ensure!(
        attached.is_some() || enforcer.plane.interface(interface).is_err(),
        "interface {interface} is there and not enforced yet; `bulkhead status` and the agent's log say why"
    );
    Ok(AttachAnswer { attached: attached.cloned(), generation: live.built.number })
}
