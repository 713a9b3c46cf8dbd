//! Whether identities' addresses are routed by their own keys. An address that is not is treated as one that nobody
//! has, from the next packet on, until it is bound again.

pub mod seen;
pub mod status;
pub mod verdicts;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_api::event::{BindingState, Kind};
use bulkhead_dataplane::{Dataplane, QuarantineError};
use bulkhead_policy::inventory::Inventory;

use self::seen::{Evidence, Seen};
use self::status::Report;
use self::verdicts::{Verdicts, changes, refused, verdicts};
use crate::config::{Binding, Config, Role};
use crate::daemon::clock::boot_time;
use crate::daemon::enforcement::rebuild;
use crate::daemon::events::{Shared, timestamp};
use crate::daemon::log::log_unsaved;
use crate::daemon::state::generation::is_stuck;
use crate::daemon::state::{Enforcer, Live, held};

/// The file in the state directory of the addresses that are not bound: for whoever compares what the kernel holds.
pub const FILE: &str = "unbound.json";

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// After a generation that could not be built.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Addresses of one look that have an event each; the last one has the number of the others.
const TOLD: usize = 64;

/// What is known of the bindings.
#[derive(Debug, Default)]
pub struct Bindings {
    /// What is done with it.
    pub choice: Binding,
    /// What is found of the identities that are enforced.
    pub verdicts: Verdicts,
    /// How the last look went.
    pub report: Report,
    evidence: Evidence,
    /// The running tables are not what was found: only the next generation can be.
    pub is_behind: bool,
}

impl Bindings {
    /// Looks for the first time, before anything is enforced.
    pub fn begin(config: &Config) -> (Self, Seen) {
        let managed = config.interfaces.iter().filter(|managed| managed.role == Role::Overlay);
        let mut seen = match config.binding {
            Binding::Off => Seen::default(),
            _ => Seen::new(managed.map(|managed| &*managed.name)),
        };
        seen.look();
        let (choice, evidence, report) = (config.binding, seen.evidence(), Report::of(&seen));
        report.problems.iter().for_each(|problem| tracing::warn!("{problem}"));
        (Self { choice, evidence, report, ..Self::default() }, seen)
    }

    /// What addresses are judged by now.
    pub fn evidence(&self) -> Evidence {
        self.evidence.clone()
    }

    /// Whether that is what they were judged by.
    pub fn is_by(&self, evidence: &Evidence) -> bool {
        self.evidence.is_same(evidence)
    }

    /// What is found of the addresses of an inventory. Takes a while where they are many.
    pub fn judge(choice: Binding, evidence: &Evidence, inventory: &Inventory, own: &str) -> Verdicts {
        match choice {
            Binding::Off => Verdicts::new(),
            _ => verdicts(inventory, own, evidence),
        }
    }

    /// The addresses that are to be nobody's.
    pub fn refused(choice: Binding, verdicts: &Verdicts) -> BTreeSet<IpAddr> {
        if choice == Binding::Enforce { refused(verdicts) } else { BTreeSet::new() }
    }

    /// Keeps what was found of the identities that are enforced now, and tells of what has changed.
    pub fn keep(&mut self, verdicts: Verdicts, shared: &Shared, inventory: &Inventory, generation: u32) {
        let is_enforced = self.choice == Binding::Enforce;
        let events = changes(&self.verdicts, &verdicts, inventory, (is_enforced, generation), TOLD);
        self.verdicts = verdicts;
        for event in events {
            match event.state {
                BindingState::Bound | BindingState::Unproven => {
                    tracing::info!(address = %event.address, "binding of {}: {}", event.identity, event.state.name());
                }
                _ => tracing::warn!(
                    address = %event.address,
                    found = event.found.as_deref().unwrap_or("none"),
                    expected = event.expected.join(", "),
                    "binding of {}: {}",
                    event.identity,
                    event.state.name()
                ),
            }
            shared.tell(timestamp(boot_time()), Kind::Binding(Box::new(event)));
        }
    }
}

/// Looks at intervals, on a thread of its own.
///
/// # Errors
/// If the system has no more threads.
pub fn start(enforcer: Arc<Enforcer>) -> std::io::Result<()> {
    if enforcer.setup.config.binding == Binding::Off {
        return Ok(());
    }
    let looks = move || {
        loop {
            std::thread::sleep(INTERVAL);
            if enforcer.live().detached {
                return;
            }
            look(&enforcer);
        }
    };
    std::thread::Builder::new().name("bindings".to_owned()).spawn(looks).map(drop)
}

/// One look, and what follows from it. What runs is not held while anybody is asked.
fn look<D: Dataplane>(enforcer: &Enforcer<D>) {
    let (evidence, report) = {
        let mut seen = held(&enforcer.peers);
        seen.look();
        (seen.evidence(), Report::of(&seen))
    };
    let (is_done, inventory, number) = {
        let mut live = enforcer.live();
        let known = &live.bindings.report.problems;
        report
            .problems
            .iter()
            .filter(|problem| !known.contains(problem))
            .for_each(|problem| tracing::warn!("{problem}"));
        live.bindings.report = report;
        let is_same = evidence.is_same(&live.bindings.evidence) && !live.bindings.is_behind;
        (is_same, live.built.inventory.clone(), live.built.number)
    };
    if is_done {
        return;
    }
    let found = verdicts(&inventory, &enforcer.setup.options.node, &evidence);
    let mut live = enforcer.live();
    if live.built.number != number {
        // Others are enforced now; the next look judges them.
        return;
    }
    live.bindings.evidence = evidence;
    let stuck = follow(&mut live, &found);
    let must_rebuild = live.mixed || !matches!(stuck, Ok(false));
    live.bindings.is_behind = must_rebuild;
    let Live { bindings, built, .. } = &mut *live;
    bindings.keep(found, &enforcer.shared, &built.inventory, built.number);
    let unbound = built.unbound();
    drop(live);
    log_unsaved(enforcer.store.save(FILE, &unbound));
    if let Err(error) = stuck {
        tracing::error!("writing who is bound: {error:#}");
    }
    if must_rebuild && let Err(error) = rebuild::rebuild(enforcer) {
        tracing::error!("who is bound needs a new generation: {error:#}");
        std::thread::sleep(AFTER_FAILURE);
    }
}

/// Writes to the generation that runs what was found, all that can be; true if some address needs another one.
///
/// # Errors
/// If the kernel refuses; the other addresses are written.
fn follow<D: Dataplane>(live: &mut Live<D>, found: &Verdicts) -> Result<bool, QuarantineError> {
    let wanted = Bindings::refused(live.bindings.choice, found);
    is_stuck(live.built.set_unbound(&wanted))
}
