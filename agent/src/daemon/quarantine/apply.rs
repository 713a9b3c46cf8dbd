//! Quarantine and release: on disk first, then in the generation that runs. One that is being
//! built gets the whole list when it is swapped in.

use std::net::IpAddr;

use bulkhead_api::event::Action;
use bulkhead_api::quarantine::{Answer, Entry, FleetOrder, Request};
use bulkhead_dataplane::{Dataplane, QuarantineError};
use ipnet::IpNet;

use crate::daemon::clock::wall_time;
use crate::daemon::enforcement::rebuild;
use crate::daemon::events::control::{self, Change};
use crate::daemon::quarantine::list::{self, find};
use crate::daemon::state::generation::is_stuck;
use crate::daemon::state::{Enforcer, Live, held};

/// Cuts an identity off from the next packet on.
///
/// # Errors
/// If the kernel refuses.
pub fn quarantine<D: Dataplane>(enforcer: &Enforcer<D>, request: &Request) -> anyhow::Result<Answer> {
    cut_off(enforcer, request, |entry| entry)
}

/// The same by the agent itself.
///
/// # Errors
/// As there.
pub fn quarantine_automatically<D: Dataplane>(
    enforcer: &Enforcer<D>,
    request: &Request,
) -> anyhow::Result<Answer> {
    cut_off(enforcer, request, |entry| Entry { automatic: true, ..entry })
}

/// The same by an order of the fleet, until then (ns since the Unix epoch).
///
/// # Errors
/// As there.
pub fn quarantine_by_order<D: Dataplane>(
    enforcer: &Enforcer<D>,
    request: &Request,
    (order, until): (&FleetOrder, Option<u64>),
) -> anyhow::Result<Answer> {
    cut_off(enforcer, request, |entry| Entry { fleet: Some(order.clone()), until, ..entry })
}

fn cut_off<D: Dataplane>(
    enforcer: &Enforcer<D>,
    request: &Request,
    of: impl FnOnce(Entry) -> Entry,
) -> anyhow::Result<Answer> {
    let mut live = enforcer.live();
    let own = (enforcer.setup.options.node.as_str(), &live.built.addresses);
    let entry = match find(&request.subject, &live.built.inventory, own) {
        Ok(entry) => entry,
        Err(note) => return Ok(Answer::no(note)),
    };
    let since = wall_time();
    let until = request.seconds.map(|seconds| since.saturating_add(seconds.saturating_mul(1_000_000_000)));
    let entry = of(Entry { since, until, reason: request.reason.clone(), ..entry });
    let mut notes = notes_on(enforcer, &live, &entry);
    live.quarantined.add(entry.clone());
    // An intruder is cut off even if the disk refuses or hangs; only a restart would not know.
    live.must_save = true;
    // Hooks that run another generation get it by a common new one.
    let full = set(&mut live, entry.addresses.iter().copied(), true);
    let is_mixed = live.mixed;
    drop(live);
    if let Err(error) = save_quarantined(enforcer) {
        notes.push(format!(
            "in force, but not on disk, so it ends with a restart unless the disk takes it by then: {error:#}"
        ));
    }
    let full = full? || is_mixed;
    if full {
        let built = rebuild::rebuild(enforcer)?;
        notes.push(format!(
            "the running tables had no room for it: generation {} was built for it",
            built.generation
        ));
    }
    tracing::warn!(subject = %request.subject, reason = request.reason, "quarantined {}", entry.title());
    Ok(Answer { done: true, entries: vec![entry], notes })
}

/// Writes who is cut off, if that is not on disk. Where the disk hangs, nothing waits but this.
fn save_quarantined<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    let _saving = held(&enforcer.saving);
    let list = {
        let live = enforcer.live();
        if !live.must_save {
            return Ok(());
        }
        live.quarantined.clone()
    };
    enforcer.store.save(list::FILE, &list)?;
    let mut live = enforcer.live();
    live.must_save = live.quarantined != list;
    Ok(())
}

/// What the disk has refused, once more.
///
/// # Errors
/// If it still does.
pub fn save_refused<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    save_quarantined(enforcer)?;
    enforcer.store.save_held()
}

fn notes_on<D: Dataplane>(enforcer: &Enforcer<D>, live: &Live<D>, entry: &Entry) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(node) = entry.node.as_deref().and_then(|name| live.built.inventory.node(name)) else {
        return notes;
    };
    if node.name == enforcer.setup.options.node {
        notes.push("this is the agent's own node: nothing passes on its managed interfaces".to_owned());
    }
    // Those of its workloads are cut off with it.
    let own: Vec<IpNet> = live.built.inventory.overlay_addresses(node).map(IpNet::from).collect();
    let routes: Vec<_> =
        node.routes.iter().filter(|route| !own.contains(route)).map(ToString::to_string).collect();
    if !routes.is_empty() {
        notes.push(format!("hosts behind its routes ({}) are not cut off", routes.join(", ")));
    }
    notes
}

/// Ends a quarantine.
///
/// # Errors
/// If the kernel refuses.
pub fn release<D: Dataplane>(enforcer: &Enforcer<D>, subject: &str) -> anyhow::Result<Answer> {
    let is_followed = enforcer.setup.config.fleet.is_some();
    let mut stays: Vec<String> = Vec::new();
    if is_followed {
        let live = enforcer.live();
        let ids =
            live.quarantined.ordered(subject).filter_map(|entry| Some(entry.fleet.as_ref()?.id.clone()));
        stays.extend(ids);
    }
    let stays = stays.into_iter().map(|id| {
        format!(
            "the fleet's quarantine {id} of '{subject}' holds: people lift it by `bulkhead fleet release {id}`"
        )
    });
    let stays: Vec<String> = stays.collect();
    let mut answer = release_those(enforcer, |list| list.remove(subject, is_followed))?;
    if !answer.done && stays.is_empty() {
        return Ok(Answer::no(format!("'{subject}' is not quarantined; `bulkhead status` lists who is")));
    }
    answer.notes.extend(stays);
    Ok(answer)
}

/// Ends the quarantine of an order of the fleet; if it is not there, nothing is done.
///
/// # Errors
/// As [`release`].
pub fn release_order<D: Dataplane>(enforcer: &Enforcer<D>, id: &str) -> anyhow::Result<Answer> {
    release_those(enforcer, |list| list.remove_order(id))
}

fn release_those<D: Dataplane>(
    enforcer: &Enforcer<D>,
    those: impl FnOnce(&mut list::List) -> Vec<Entry>,
) -> anyhow::Result<Answer> {
    let mut live = enforcer.live();
    let mut list = live.quarantined.clone();
    let entries = those(&mut list);
    if entries.is_empty() {
        return Ok(Answer { done: false, entries, notes: Vec::new() });
    }
    live.quarantined = list;
    live.must_save = true;
    // Who was cut off by mistake is not kept waiting by a disk.
    let lift = lift(enforcer, &mut live, &entries);
    drop(live);
    let saved = save_quarantined(enforcer);
    lift?;
    let notes = saved.err().map(|error| {
        format!("in force, but not on disk, so a restart cuts it off again unless the disk takes it by then: {error:#}")
    });
    Ok(Answer { done: true, entries, notes: notes.into_iter().collect() })
}

/// Ends every quarantine whose time is over.
///
/// # Errors
/// As [`release`].
pub fn release_ended<D: Dataplane>(enforcer: &Enforcer<D>) -> anyhow::Result<()> {
    let mut live = enforcer.live();
    let mut list = live.quarantined.clone();
    let entries = list.remove_ended(wall_time());
    if entries.is_empty() {
        return Ok(());
    }
    live.quarantined = list;
    live.must_save = true;
    lift(enforcer, &mut live, &entries)?;
    drop(live);
    for entry in &entries {
        let change =
            Change::by_agent(Action::Release, control::generation(enforcer), Some("its time is over"));
        Change { subject: Some(entry.subject.clone()), ..change }.tell(enforcer);
    }
    save_quarantined(enforcer)
}

fn lift<D: Dataplane>(_enforcer: &Enforcer<D>, live: &mut Live<D>, entries: &[Entry]) -> anyhow::Result<()> {
    let still = live.quarantined.addresses();
    let free = entries.iter().flat_map(|entry| entry.addresses.iter().copied());
    let free: Vec<IpAddr> = free.filter(|address| !still.contains(address)).collect();
    // What is cut off has its place: only broken tables refuse.
    anyhow::ensure!(
        !set(live, free, false)?,
        "the running tables are broken: `bulkhead apply` makes new ones"
    );
    entries.iter().for_each(|entry| tracing::warn!("released {}", entry.title()));
    Ok(())
}

/// Writes to the generation that runs, all that can be; true if some address needs another one.
///
/// # Errors
/// If the kernel refuses; the other addresses are written.
fn set<D: Dataplane>(
    live: &mut Live<D>,
    addresses: impl IntoIterator<Item = IpAddr>,
    on: bool,
) -> Result<bool, QuarantineError> {
    is_stuck(addresses.into_iter().map(|address| live.built.set_quarantine(address, on)))
}
