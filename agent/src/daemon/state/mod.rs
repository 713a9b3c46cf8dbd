//! What runs, and what is known of it. Nothing here changes what is enforced: `enforcement`, `quarantine`,
//! `reconcile` and `fallback` do, and each of them needs this alone.

pub mod addresses;
pub mod counter_epoch;
pub mod counters;
pub mod enricher;
pub mod fallback;
pub mod generation;
pub mod in_place;
pub mod inputs;
pub mod judge;
pub mod member;
pub mod retire;
pub mod role_tables;
pub mod venues;
pub mod watched;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_dataplane::{Attached, DEVICE_GROUP, Dataplane, Device, Kernel, Pins};

use crate::config::LOOPBACK;
use crate::daemon::bindings::Bindings;
use crate::daemon::bindings::seen::Seen;
use crate::daemon::events::Shared;
use crate::daemon::quarantine::list::List;
use crate::daemon::read_back::Looks;
use crate::daemon::reconcile::reconciler::Reconciler;
use crate::daemon::setup::Setup;
use crate::daemon::state::counters::Folded;
use crate::daemon::state::fallback::NftFallback;
use crate::daemon::state::generation::LoadedGeneration;
use crate::daemon::state::in_place::Notes;
use crate::daemon::store::{Ledger, Store};
use crate::daemon::tls;

/// What runs now. Held only for moments: no compiling, no loading.
pub struct Live<D: Dataplane = Kernel> {
    /// The generation.
    pub built: LoadedGeneration<D>,
    /// Interfaces and hooks; an interface that is gone has index 0 and no hooks.
    pub attached: Vec<Attached>,
    /// Their links.
    pub links: D::Links,
    /// Which generation is meant to run.
    pub ledger: Ledger,
    /// Who is cut off.
    pub quarantined: List,
    /// Whose keys route the identities' addresses.
    pub bindings: Bindings,
    /// The disk has refused that list.
    pub must_save: bool,
    /// Counters of earlier generations.
    pub folded: Folded,
    /// A change of several hooks stopped half-way.
    pub mixed: bool,
    /// Why what is enforced is to be built again.
    pub must_rebuild: Option<Rebuild>,
    /// Enforcement was ended by command.
    pub detached: bool,
}

/// Why what is enforced is built again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// An interface needs a program that the generation does not have.
    Interface,
    /// Underlay interfaces have other addresses.
    Addresses,
}

/// Makes every change of what is enforced.
pub struct Enforcer<D: Dataplane = Kernel> {
    /// What it enforces by.
    pub(in crate::daemon) plane: D,
    /// What `run` was told.
    pub setup: Setup,
    /// The state directory.
    pub store: Store,
    /// What tells of events.
    pub shared: Arc<Shared>,
    /// One change at a time; held while the next generation is compiled and built.
    pub(in crate::daemon) changing: Mutex<()>,
    /// One look at what the kernel says at a time. Taken before `live`.
    pub(in crate::daemon) reconciler: Mutex<Reconciler<D>>,
    /// The guard in place. Taken before `live`.
    pub(in crate::daemon) guarded: Mutex<NftFallback>,
    /// Devices, by index and group, that the guard lets pass; none while that is not known. Taken last.
    pub(in crate::daemon) guard_open: Mutex<Option<BTreeSet<(u32, u32)>>>,
    /// What is in place, as it is noted. No other lock is taken while it is held.
    pub(in crate::daemon) noted: Mutex<Notes>,
    /// One writer of who is cut off at a time. Taken before `live`.
    pub(in crate::daemon) saving: Mutex<()>,
    /// Who is asked whose keys route what. Held while they are asked, and no other lock is taken then.
    pub(in crate::daemon) peers: Mutex<Seen>,
    /// What came of reading the kernel's tables back.
    pub looks: Looks,
    /// What service ports present, and what files of certificates hold.
    pub tls: tls::Found,
    pub(in crate::daemon) live: Mutex<Live<D>>,
}

pub(in crate::daemon) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Dataplane> Enforcer<D> {
    /// What runs now.
    pub fn live(&self) -> MutexGuard<'_, Live<D>> {
        held(&self.live)
    }

    /// The pins.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.setup.paths.pins
    }

    /// Waits until no other change is made, and keeps others from being made.
    pub(in crate::daemon) fn one_change(&self) -> MutexGuard<'_, ()> {
        held(&self.changing)
    }

    /// Notes which devices the fallback lets pass.
    pub fn guard_passes(&self, open: Option<BTreeSet<(u32, u32)>>) {
        *held(&self.guard_open) = open;
    }

    /// Whether the guard has dropped what a device carries since it has its name; not if that is not known: while
    /// the guard is changed, and where somebody else has put the device into a group.
    pub fn is_closed(&self, device: &Device) -> bool {
        let is_ours = matches!(device.group, 0 | DEVICE_GROUP) && device.name != LOOPBACK;
        let open = held(&self.guard_open);
        is_ours && open.as_ref().is_some_and(|open| !open.contains(&(device.index, device.group)))
    }

    /// What is in place, as it is noted.
    pub fn noted(&self) -> MutexGuard<'_, Notes> {
        held(&self.noted)
    }
}
