//! Addresses of underlay interfaces that come and go: what is enforced is built again for those that are there.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_dataplane::Dataplane;

use crate::daemon::reconcile::reconciler::Reconciler;
use crate::daemon::state::{Enforcer, Live, Rebuild};

/// Between two generations that addresses alone ask for: whoever advertises prefixes on the link has the host do
/// this work.
const BETWEEN: Duration = Duration::from_secs(1);

/// Asks the kernel for the addresses, and for another generation if they are not those of what is enforced. Until it
/// runs, what is to or from a new address is dropped, and what is from one that is gone finds no socket.
pub(super) fn look<D: Dataplane>(
    enforcer: &Enforcer<D>,
    reconciler: &mut Reconciler<D>,
    live: &mut Live<D>,
) -> anyhow::Result<()> {
    let setup = &enforcer.setup;
    if !setup.config.has_underlay() {
        return Ok(());
    }
    let addresses = &setup.options.addresses;
    addresses.look_by(&reconciler.devices, &setup.config).context("asking for addresses")?;
    reconciler.failed.remove("addresses");
    if addresses.now() == live.built.addresses {
        if live.must_rebuild == Some(Rebuild::Addresses) {
            live.must_rebuild = None;
        }
        return Ok(());
    }
    let is_due = reconciler.readdressed.is_none_or(|last| last.elapsed() >= BETWEEN);
    if live.must_rebuild.is_none() && is_due {
        live.must_rebuild = Some(Rebuild::Addresses);
        reconciler.readdressed = Some(Instant::now());
    }
    Ok(())
}
