//! What an earlier agent left enforced and is not any more when the next one starts.

use anyhow::Context as _;
use bulkhead_api::event::Effect;
use bulkhead_dataplane::{Dataplane, DeviceTable as _};

use crate::daemon::reconcile::gaps::Gaps;
use crate::daemon::setup::Setup;
use crate::daemon::state::in_place::InPlace;
use crate::daemon::state::judge::{Known, devices};
use crate::daemon::store::Ledger;

/// The times without enforcement that nobody was there to see; they end by the first look.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn left_open(plane: &impl Dataplane, setup: &Setup, ledger: &Ledger) -> anyhow::Result<Gaps> {
    let mut gaps = Gaps::new(&setup.paths.socket);
    let links = plane.running(&setup.paths.pins)?;
    let in_place = InPlace::noted(&setup.paths.socket);
    let change = match &in_place {
        Some(in_place) if setup.config.guard => {
            in_place.guard.difference(&*setup.fallback, &setup.instance)?
        }
        _ => None,
    };
    if let Some(cause) = &change {
        gaps.found("guard", cause, Effect::Open);
    }
    let devices = devices(plane, in_place.as_ref())?;
    let known = Known { in_place, devices, recorded: ledger.generations(), is_held: false };
    for managed in &setup.config.interfaces {
        let faults = known.faults(&managed.name, &links);
        let Some((_, fault)) = faults.into_iter().find(|(_, fault)| fault.is_open()) else { continue };
        let is_closed = setup.config.guard && change.is_none() && closes(plane, setup, &managed.name)?;
        let effect = if is_closed { Effect::Closed } else { Effect::Open };
        gaps.found(&managed.name, &fault.to_string(), effect);
    }
    Ok(gaps)
}

/// Whether the guard drops what an interface carries.
fn closes(plane: &impl Dataplane, setup: &Setup, interface: &str) -> anyhow::Result<bool> {
    let device = plane.devices().and_then(|devices| devices.by_name(interface));
    let device = device.context("asking for interfaces")?;
    device.map_or(Ok(false), |device| setup.fallback.closes(&setup.instance, (device.index, device.group)))
}
