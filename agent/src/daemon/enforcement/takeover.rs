//! From whatever enforces when the agent starts to its own first generation, without a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use bulkhead_dataplane::{
    Attached, Dataplane, FORWARDED_GRACE, Hook, HookLinks as _, StateMigration, flow_clock,
};

use crate::daemon::bindings::{self, Bindings};
use crate::daemon::enforcement::attach::absent;
use crate::daemon::enforcement::change;
use crate::daemon::enforcement::change::{add_names, next_number, note_indices};
use crate::daemon::enforcement::left_open::left_open;
use crate::daemon::enforcement::start::{self, Named};
use crate::daemon::events::{self, Shared};
use crate::daemon::fallback;
use crate::daemon::log::{log_and_default, log_unsaved};
use crate::daemon::quarantine::list;
use crate::daemon::read_back::{self, Looks};
use crate::daemon::reconcile::reconciler::Reconciler;
use crate::daemon::setup::Setup;
use crate::daemon::state::counter_epoch::CounterEpoch;
use crate::daemon::state::counters::{self, Folded};
use crate::daemon::state::generation::{self, LoadedGeneration};
use crate::daemon::state::in_place::{self, Notes};
use crate::daemon::state::retire::retire;
use crate::daemon::state::{Enforcer, Live};
use crate::daemon::store::Store;
use crate::daemon::store::unsaved::Disk;
use crate::daemon::tls;

/// Takes the enforcement up, or over from an agent that is gone.
///
/// # Errors
/// If the system refuses; what was enforced before still is.
pub fn start<D: Dataplane>(
    plane: D,
    setup: Setup,
    named: Named,
    shared: Arc<Shared>,
) -> anyhow::Result<Enforcer<D>> {
    let store = shared.store.clone();
    let pins = setup.paths.pins.clone();
    plane.create_pins(&pins)?;
    let ledger_before = store.ledger()?;
    store.disown_unfinished(&ledger_before);
    let indices = shared.indices.clone();
    let start::Plan { inputs, mut ledger, mut quarantined, is_named: named } =
        start::plan(&setup, &store, named)?;
    quarantined.follow(&inputs.inventory, (&setup.options.node, &inputs.addresses));
    let number = next_number(&plane, &pins, &store, &ledger)?;
    store.save_or_hold_inputs(Disk::Follows, number, &inputs.files, &inputs.made())?;
    if named {
        // What sources and grants have added comes and goes, and is nothing that was named.
        let files = inputs.files.clone().into_named();
        log_unsaved(store.save_requested(&files, setup.config.mode, number, &ledger_before));
    }
    let migration = plane.migration(&pins, &setup.config.capacity, number)?;
    let before = migration.links()?;
    migration.prepare()?;
    let mut setup = setup;
    setup.forwarded_until = forwarded_until(&plane, &setup, &before, &migration);
    let prepared = setup.with_pins(migration.prepared());
    let staged = start::staged(&setup, &store, &mut ledger);
    let (mut bindings, peers) = Bindings::begin(&setup.config);
    let (binding, node) = (setup.config.binding, &setup.options.node);
    let verdicts = Bindings::judge(binding, &bindings.evidence(), &inputs.inventory, node);
    let unbound = Bindings::refused(binding, &verdicts);
    let shut = (&quarantined, &unbound);
    let mut built = LoadedGeneration::new(&plane, &prepared, (number, inputs), staged, shut, &indices, &[])
        .inspect_err(|_| {
        if before.is_empty() {
            // Nothing was attached, and nothing stays behind.
            let _ = plane.remove_all(&pins);
        }
    })?;
    read_back::keep_record(&store, &setup, &built);
    ledger.target = Some(number);
    if let Err(error) = store.write_ledger(&ledger) {
        if ledger.pending.is_some() && setup.confirm.is_some() {
            drop(built);
            store.put_back(&ledger_before);
            let _ = if before.is_empty() {
                plane.remove_all(&pins)
            } else {
                plane.remove_generation(&pins, number)
            };
            return Err(
                error.context("a policy that is to be confirmed must be on disk first; nothing has changed")
            );
        }
        log_unsaved(Err(error));
    }
    let new_zones = new_zones(&store, &built, &before, &migration);
    let gaps = left_open(&plane, &setup, &ledger_before)?;
    in_place::begin_change(&setup.paths.socket);
    let to_all = setup.config.refuse_bypass_to_all;
    let keeper = setup.workloads.clone();
    // Whose addresses they are is held before any packet may be theirs.
    keeper.prepare(&pins, &built.workloads, to_all).inspect_err(|_| {
        if before.is_empty() {
            keeper.clear();
            let _ = plane.remove_all(&pins);
        }
    })?;
    let mut links = plane.open_links(&pins)?;
    let mut attached = match attach(&plane, &setup, &migration, &mut built, &mut links, &new_zones) {
        Ok(attached) => attached,
        Err(error) => {
            links.undo(&pins, &before);
            if before.is_empty() {
                keeper.clear();
                let _ = plane.remove_all(&pins);
                // Nothing has changed: what waited for a confirmation is not confirmed by this.
                log_unsaved(store.write_ledger(&ledger_before));
            }
            return Err(error);
        }
    };
    if before.is_empty() {
        CounterEpoch::begin(&store);
        shared.hub.begin();
    }
    keeper.settle(&pins, &built.workloads, to_all).unwrap_or_else(log_and_default);
    log_unsaved(fallback::mark(&plane, &setup, &mut attached));
    // What is detached below must be closed by then.
    let guarded = fallback::install(&setup, &built, &attached);
    ledger.enforced = number;
    ledger.target = None;
    if named {
        // The time begins once it is enforced.
        ledger.begin_wait(setup.confirm);
    }
    store.write_or_hold(&ledger);
    log_unsaved(built.save_zones(&store));
    log_unsaved(store.save(list::FILE, &quarantined));
    log_unsaved(store.save(bindings::FILE, &unbound));
    bindings.keep(verdicts, &shared, &built.inventory, number);
    let mut live = Live {
        folded: store.load(counters::FILE).unwrap_or_else(log_and_default).unwrap_or_default(),
        built,
        attached,
        links,
        ledger,
        quarantined,
        bindings,
        must_save: false,
        mixed: false,
        must_rebuild: None,
        detached: false,
    };
    add_names(&shared, &live.built);
    note_indices(&indices, &live.attached);
    let managed: Vec<&str> = setup.config.interfaces.iter().map(|managed| &*managed.name).collect();
    for (interface, hook) in live.links.detach_others(&pins, &managed).unwrap_or_else(log_and_default) {
        tracing::warn!(interface, hook = hook.name(), "is not managed any more: detached");
    }
    if migration.is_needed() {
        // A packet may still be under way in an old program.
        plane.wait_for_programs()?;
        report_orphaned_events(&migration, &store, &shared)?;
        finish(migration, &store, &mut live.folded, &mut live.built)?;
    }
    retire(&pins, &store, &mut live.folded, &live.built);
    store.prune_except(&change::kept_generations(&store, &live.ledger));
    live.attached.extend(absent(&setup, &live.attached));
    let reconciler = Reconciler::new(&plane, gaps, &pins).context("asking for interfaces")?;
    let found = tls::Found::new(&setup.config.tls);
    let enforcer = Enforcer {
        plane,
        noted: Mutex::new(Notes::new(&setup.paths.socket)),
        setup,
        store,
        shared,
        changing: Mutex::default(),
        reconciler: Mutex::new(reconciler),
        guard_open: Mutex::new(guarded.open()),
        guarded: Mutex::new(guarded),
        saving: Mutex::default(),
        peers: Mutex::new(peers),
        looks: Looks::default(),
        tls: found,
        live: Mutex::new(live),
    };
    // A refusal is in the status, and tried again.
    fallback::keep_guard(&enforcer).map(drop).unwrap_or_else(log_and_default);
    Ok(enforcer)
}

/// The zones in which connections have not been tracked until now: of interfaces that no program
/// was attached to, or whose zone was another, and all where another map ABI tracked them in a way
/// that is not known.
fn new_zones<D: Dataplane>(
    store: &Store,
    built: &LoadedGeneration<D>,
    before: &[(String, Hook)],
    migration: &D::Migration,
) -> BTreeSet<u16> {
    let known: BTreeMap<String, u16> =
        store.load(generation::ZONES).unwrap_or_else(log_and_default).unwrap_or_default();
    let is_known = |name: &String, zone: &u16| {
        !migration.loses_flows()
            && before.iter().any(|(interface, _)| interface == name)
            && known.get(name) == Some(zone)
    };
    let zones = built.zones().into_iter();
    zones.filter(|(name, zone)| !is_known(name, zone)).map(|(_, zone)| zone).collect()
}

/// Until when open connections that the host forwards are taken up: for a while where an interface had no
/// program until now, or flows are not known.
fn forwarded_until<D: Dataplane>(
    plane: &D,
    setup: &Setup,
    before: &[(String, Hook)],
    migration: &D::Migration,
) -> u32 {
    let had_none = |name: &String| before.iter().all(|(interface, _)| interface != name);
    let names = setup.config.interfaces.iter().map(|managed| &managed.name);
    let mut first = names.filter(|name| had_none(name) && plane.interface(name).is_ok());
    if migration.loses_flows() || first.next().is_some() {
        (flow_clock() / 1_000_000_000) as u32 + FORWARDED_GRACE
    } else {
        0
    }
}

/// Puts the generation on every hook, with the flows that are known; in new zones those are the
/// host's open connections. The guard is there before the first hook changes.
///
/// # Errors
/// If nftables or a hook refuses. What enforced before still does, or the new generation.
fn attach<D: Dataplane>(
    plane: &D,
    setup: &Setup,
    migration: &D::Migration,
    built: &mut LoadedGeneration<D>,
    links: &mut D::Links,
    new_zones: &BTreeSet<u16>,
) -> anyhow::Result<Vec<Attached>> {
    let prepared = migration.prepared();
    tell(migration);
    if !new_zones.is_empty() {
        built.seed(new_zones)?;
    }
    if migration.is_resized() {
        let [flows, refused] = migration.copy_flows(built.any_tables()?)?;
        tracing::warn!(flows, refused, "another table of flows: the new one takes them along");
    }
    let is_first_guard = fallback::install_first(plane, setup, built)?;
    let attached = migration.take_links().map_err(Into::into).and_then(|()| built.attach(&prepared, links));
    let attached = attached.inspect_err(|_| {
        // Where nothing is enforced it would be in the way. An error here follows one that is told.
        if is_first_guard {
            let _ = setup.fallback.remove(&setup.instance);
        }
    })?;
    if !new_zones.is_empty() {
        // Again, for connections that were opened since the first time.
        match built.seed(new_zones) {
            Ok(connections) => {
                tracing::info!(count = connections, "imported existing TCP connections");
            }
            Err(error) => tracing::warn!("connections opened in the last moment may be cut: {error:#}"),
        }
    }
    Ok(attached)
}

fn tell(migration: &impl StateMigration) {
    for version in migration.versions() {
        tracing::warn!(version, "taking over from an agent of another map ABI");
    }
    let unreadable = migration.unreadable();
    if !unreadable.is_empty() {
        let tables = unreadable.join(", ");
        tracing::warn!("tables of an unknown map ABI start empty: {tables}");
    }
    if migration.loses_flows() {
        tracing::warn!("tracked flows are not known: the host's open TCP connections are taken instead");
    }
}

/// Tells of the drops that the earlier agent's tables still hold, and counts what of it cannot be read.
fn report_orphaned_events(
    migration: &impl StateMigration,
    store: &Store,
    shared: &Shared,
) -> anyhow::Result<()> {
    let orphaned = migration.orphaned_events()?;
    CounterEpoch::take_over(store, migration.unreadable(), orphaned.unread);
    if migration.unreadable().contains(&"REASON_COUNTERS") {
        shared.hub.begin();
    }
    events::report_orphaned_events(orphaned, shared)
}

/// Removes what the earlier agent had, once every hook runs the new generation.
///
/// # Errors
/// If the kernel refuses; the next start does the rest.
fn finish<D: Dataplane>(
    migration: D::Migration,
    store: &Store,
    folded: &mut Folded,
    running: &mut LoadedGeneration<D>,
) -> anyhow::Result<()> {
    for other in migration.others() {
        retire(other, store, folded, running);
    }
    Ok(migration.finish(running.any_tables()?)?)
}
