//! What `bulkhead status` tells.

use std::collections::BTreeMap;

use bulkhead_abi::{FEATURE_AUDIT, Settings};
use bulkhead_api::event::EventStats;
use bulkhead_api::grant;
use bulkhead_api::quarantine::Entry;
use bulkhead_api::status::{
    Agent, Anchor, ExchangeInterface, InventorySource, Losses, Quarantined, ReasonCount, Sink, State, Status,
};
use bulkhead_dataplane::{
    Dataplane, Kernel, KernelError, Pins, RunningLink, STATE_MAPS, State as Tables, held_settings, running,
};
use bulkhead_policy::inventory::Node;
use bulkhead_policy::resolve::OverlayServices;
use bulkhead_policy::service;

use crate::config::{Config, Managed, Mode, Role};
use crate::daemon::bindings;
use crate::daemon::clock::{BootClock, wall_time};
use crate::daemon::enforcement::stage;
use crate::daemon::expiry;
use crate::daemon::fallback::drops;
use crate::daemon::fleet;
use crate::daemon::grants::Grants;
use crate::daemon::links;
use crate::daemon::quarantine::list::{self, List};
use crate::daemon::reconcile;
use crate::daemon::server::underlay::{self, Underlay};
use crate::daemon::state::Enforcer;
use crate::daemon::state::counter_epoch::CounterEpoch;
use crate::daemon::state::in_place::{self, GuardNote, InPlace};
use crate::daemon::state::judge::{Known, devices, judge};
use crate::daemon::store::{Ledger, Store};
use crate::daemon::workloads;
use crate::guard::Nft;
use crate::paths::Paths;
use crate::version::VERSION;

/// The interfaces that are meant, with the link protocols that pass there.
fn with_link(config: &Config, is_meant: impl Fn(&&Managed) -> bool) -> Vec<ExchangeInterface> {
    let meant = config.interfaces.iter().filter(is_meant);
    meant
        .map(|managed| ExchangeInterface { interface: managed.name.clone(), link: managed.link.clone() })
        .collect()
}

/// The exemptions of agent.toml, for people.
fn exemptions(config: &Config, node: Option<&Node>) -> Vec<String> {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let management = config.management.iter().map(|exempt| {
        format!(
            "management: TCP {} from {}",
            list(&mut exempt.ports.iter().map(ToString::to_string)),
            list(&mut exempt.sources.iter().map(ToString::to_string))
        )
    });
    let wireguard = config.wireguard.iter().map(|exempt| {
        format!(
            "WireGuard on exchange interfaces: UDP {} with {}",
            exempt.port,
            list(&mut exempt.peers.iter().map(ToString::to_string))
        )
    });
    let own = node.map_or(&[][..], |node| &node.addresses);
    let underlay = config.has_underlay().then(|| underlay::passes(&config.underlay)).into_iter().flatten();
    let overlays = config.overlays().flat_map(|OverlayServices { overlay, .. }| {
        overlay.served(own).into_iter().map(|served| {
            let protocol = if served.protocol == service::TCP { "TCP" } else { "UDP" };
            format!(
                "{} on this host: {protocol} {} to {}",
                overlay.name(),
                list(&mut served.ports.iter().map(ToString::to_string)),
                served.address
            )
        })
    });
    management.chain(wireguard).chain(overlays).chain(underlay).collect()
}

/// Who is cut off, with times for people.
pub fn quarantined(list: &List) -> Vec<Quarantined> {
    let clock = BootClock::now();
    let text = |time| clock.rfc3339(clock.deadline(time));
    let entry = |entry: &Entry| Quarantined {
        since_time: text(entry.since),
        until_time: entry.until.map(text),
        entry: entry.clone(),
    };
    list.0.iter().map(entry).collect()
}

/// What the agent tells of itself. Counters that cannot be read are a warning: somebody may just have
/// removed their pins.
pub fn agent(enforcer: &Enforcer, events: EventStats) -> Agent {
    // Before `live`, as every lock of looks.
    let unenforced = reconcile::unenforced(enforcer);
    let workloads = workloads::status::report(&enforcer.setup);
    let expiry = expiry::status(enforcer);
    let (live, clock) = (enforcer.live(), BootClock::now());
    let mut warnings: Vec<String> = enforcer.setup.config.lockout().into_iter().collect();
    let mut unread = |error: anyhow::Error| warnings.push(format!("counters are missing: {error:#}"));
    let rule_counters = live.built.counts(enforcer.pins(), &live.folded);
    let rule_counters = rule_counters.map_err(&mut unread).unwrap_or_default();
    let staged = stage::observed(enforcer, &live.built).map_err(&mut unread).unwrap_or_default();
    let managed = &enforcer.setup.config.interfaces;
    let missed = links::warnings(managed, &live, &enforcer.shared.missed).map_err(unread);
    warnings.extend(missed.unwrap_or_default());
    let underlay = Underlay::look(enforcer, &live);
    warnings.extend(underlay.warnings);
    warnings.extend(workloads.warnings);
    warnings.extend(enforcer.tls.warnings());
    warnings.extend(enforcer.setup.options.grants.problem());
    warnings.extend(fleet::left(enforcer, &live));
    let sinks = enforcer.shared.sinks.progress();
    warnings.extend(sinks.iter().filter_map(behind));
    let anchors = enforcer.shared.anchors.progress();
    warnings.extend(anchors.iter().filter_map(without_last));
    let unfit = enforcer.setup.sources.problem();
    let fleet = fleet::status(enforcer, &live);
    let kept = enforcer.store.made_of(live.ledger.enforced).map(|made| (made.policy, made.inventory));
    let (policy, inventory) = kept.unwrap_or_else(|| enforcer.setup.files());
    Agent {
        pid: std::process::id(),
        version: VERSION.to_owned(),
        applied: (live.ledger.applied != 0).then(|| clock.rfc3339(clock.deadline(live.ledger.applied))),
        node: enforcer.setup.options.node.clone(),
        policy: policy.display().to_string(),
        inventory: inventory.display().to_string(),
        mode: live.built.mode,
        generation: live.built.number,
        previous: live.ledger.previous,
        confirm_within: live.ledger.pending.as_ref().map(|pending| pending.seconds_left()),
        rules: live.built.names.count(),
        rule_counters,
        interfaces: live.attached.clone(),
        exchange: with_link(&enforcer.setup.config, |managed| managed.role == Role::Exchange),
        linked: with_link(&enforcer.setup.config, |managed| {
            managed.role == Role::Overlay && !managed.link.is_empty()
        }),
        underlay: underlay.interfaces,
        exemptions: exemptions(
            &enforcer.setup.config,
            live.built.inventory.node(&enforcer.setup.options.node),
        ),
        warnings,
        events,
        unenforced,
        sinks,
        anchors,
        alarms: enforcer.shared.alarms.as_ref().map(|alarms| alarms.status()),
        expiry,
        read_back: enforcer.looks.last().map(|look| look.status()),
        sources: enforcer.setup.sources.status(),
        sources_problem: unfit,
        fleet,
        identities: bindings::status::identities(&live.bindings, &live.built.inventory),
        workloads: workloads.workloads,
        workloads_problem: workloads.problem,
        tls: enforcer.tls.report(),
        staged,
    }
}

/// The warning that a sink's receiver does not get what it is to get.
fn behind(sink: &Sink) -> Option<String> {
    let Sink { name, behind, skipped, set_aside, problem, .. } = sink;
    if let Some(problem) = problem {
        return Some(format!("sink {name} does not send, and is {behind} records behind: {problem}"));
    }
    let pruned = (*skipped != 0).then(|| format!("{skipped} records were pruned before they were sent"));
    let lost = (*set_aside != 0).then(|| {
        format!(
            "{set_aside} records are lost to it: the event log that they are in was set aside, where \
             `bulkhead audit show --log` reads them"
        )
    });
    let words: Vec<String> = pruned.into_iter().chain(lost).collect();
    (!words.is_empty()).then(|| format!("sink {name}: {}", words.join("; ")))
}

/// What is wrong where a source's last answer stands though it is not what it says now.
fn silent(source: &InventorySource) -> Option<String> {
    let InventorySource { name, problem, nodes, .. } = source;
    let stands = match nodes {
        Some(_) => "its last answer stands",
        None => "none of its nodes may connect",
    };
    problem.as_ref().map(|problem| format!("source {name} changes nothing, and {stands}: {problem}"))
}

fn without_last(anchor: &Anchor) -> Option<String> {
    let Anchor { name, problem, .. } = anchor;
    problem
        .as_ref()
        .map(|problem| format!("anchor {name} has not the event log's last checkpoint: {problem}"))
}

/// Reads what the kernel and the state directory tell, and compares it with what an agent has put in place.
/// `is_held`: there is a process that holds the links.
///
/// # Errors
/// If they cannot be read.
pub fn read(
    instance: &str,
    paths: &Paths,
    agent: Option<Agent>,
    in_place: Option<InPlace>,
    is_held: bool,
) -> anyhow::Result<Status> {
    let pins = &paths.pins;
    let store = Store::new(&paths.state);
    let links = running(pins)?;
    let mut wrong = Vec::new();
    let ledger = store.ledger().unwrap_or_else(|error| {
        let ledger = agent.as_ref().map(|agent| Ledger { enforced: agent.generation, ..Ledger::default() });
        wrong.push(unread("what is enforced", &error, agent.is_some()));
        ledger.unwrap_or_default()
    });
    let half_way = ledger.target.is_some();
    let made = store.made_of(ledger.enforced).filter(|_| !links.is_empty());
    let guard = in_place.as_ref().and_then(|in_place| in_place.guard.problem(&Nft, instance));
    let unknown = (in_place.is_none() && !links.is_empty()).then(|| {
        format!(
            "what is to be enforced is not known, since {} is gone; the next start of the agent writes it",
            in_place::beside(&paths.socket).display()
        )
    });
    let recorded = ledger.generations();
    let known = Known { devices: devices(&Kernel, in_place.as_ref())?, in_place, recorded, is_held };
    let (state, mut problems) = judge(&links, &known, half_way);
    // The kernel tells programs' tables only to CAP_SYS_ADMIN.
    let links: Vec<_> =
        links.into_iter().map(|link| RunningLink { generation: known.generation(&link), ..link }).collect();
    wrong.extend(guard.into_iter().chain(unknown));
    let identities = agent.iter().flat_map(|agent| &agent.identities);
    wrong.extend(identities.flat_map(|identities| identities.problems.iter().cloned()));
    let workloads = agent.iter().flat_map(|agent| &agent.workloads);
    wrong.extend(workloads.filter_map(|workload| workload.problem.clone()));
    wrong.extend(agent.iter().filter_map(|agent| agent.workloads_problem.clone()));
    wrong.extend(agent.iter().flat_map(|agent| &agent.sources).filter_map(silent));
    wrong.extend(agent.iter().filter_map(|agent| agent.sources_problem.clone()));
    wrong.extend(agent.iter().filter_map(|agent| agent.fleet.as_ref()).flat_map(fleet::wrong));
    let mode = match &agent {
        Some(agent) => Some(agent.mode),
        None => running_mode(&held_settings(pins)?).or(made.map(|made| made.mode)),
    };
    let quarantined: Option<List> = store.load(list::FILE).unwrap_or_else(|error| {
        wrong.push(unread("who is quarantined", &error, agent.is_some()));
        None
    });
    let quarantined = quarantined.unwrap_or_default();
    let grants = granted(&store).unwrap_or_else(|error| {
        wrong.push(error.to_string());
        Vec::new()
    });
    let counting = CounterEpoch::read(&store);
    let guard = drops::totals(instance, &store).unwrap_or_else(|error| {
        problems.push(format!("what the guard has dropped is not known: {error:#}"));
        Vec::new()
    });
    let mut status = Status {
        instance: instance.to_owned(),
        state: if state == State::Enforced && mode == Some(Mode::Audit) { State::Audit } else { state },
        mode,
        problems,
        agent,
        links,
        generations: pins.generations()?,
        quarantined: self::quarantined(&quarantined),
        grants,
        counted: counting.counted(),
        reasons: Vec::new(),
        guard,
        lost: Losses::default(),
        unreplied_flows: 0,
        established_flows: 0,
        evicted_flows: 0,
    };
    // Maps that are just being made are not counted yet.
    if STATE_MAPS.iter().all(|map| pins.state(map).exists()) {
        count(&mut status, &Tables::open(pins)?)?;
    }
    Ok(status.with_problems(wrong))
}

/// What is granted for a time.
fn granted(store: &Store) -> anyhow::Result<Vec<grant::Entry>> {
    let now = (wall_time() / 1_000_000_000).cast_signed();
    let mut all = Grants::listed(store, now)?;
    all.retain(|entry| entry.standing == grant::Standing::Running);
    Ok(all)
}

/// The mode of the programs on the hooks; none if the kernel does not tell.
fn running_mode(running: &BTreeMap<String, Settings>) -> Option<Mode> {
    let is_audit = running.values().all(|settings| settings.features & FEATURE_AUDIT != 0);
    (!running.is_empty()).then_some(if is_audit { Mode::Audit } else { Mode::Enforce })
}

/// What a damaged record means, and what to do.
fn unread(of: &str, error: &anyhow::Error, is_watched: bool) -> String {
    if is_watched {
        format!(
            "the record of {of} is damaged, and the next start would close every managed interface: the next change \
             writes it anew, such as `bulkhead apply`, unless it is in the way: {error:#}"
        )
    } else {
        format!(
            "the record of {of} is damaged; no agent starts on it, and the guard closes what has no program: {error:#}"
        )
    }
}

/// The same with the numbers of flows, which take a look at every place of their table.
///
/// # Errors
/// If the kernel refuses.
pub fn with_flows(mut status: Status, pins: &Pins) -> Result<Status, KernelError> {
    [status.unreplied_flows, status.established_flows] = flows(pins)?.unwrap_or_default();
    Ok(status)
}

/// Flows without a reply and flows with one; none while there are no tables.
///
/// # Errors
/// If the kernel refuses.
pub fn flows(pins: &Pins) -> Result<Option<[usize; 2]>, KernelError> {
    // Maps that are just being made are not counted yet.
    if STATE_MAPS.iter().any(|map| !pins.state(map).exists()) {
        return Ok(None);
    }
    Ok(Some(Tables::open(pins)?.flow_counts()))
}

fn count(status: &mut Status, state: &Tables) -> Result<(), KernelError> {
    let reasons = state.reasons()?.into_iter();
    status.reasons = reasons
        .map(|(direction, reason, counter)| ReasonCount {
            direction: direction.name().to_owned(),
            reason: reason.name().to_owned(),
            packets: counter.packets,
            bytes: counter.bytes,
        })
        .collect();
    status.lost = state.losses()?;
    status.evicted_flows = state.evicted()?;
    Ok(())
}

/// What is to be in the kernel now.
pub fn in_place<D: Dataplane>(enforcer: &Enforcer<D>, agent: &Agent) -> Option<InPlace> {
    let mut noted = enforcer.noted().now().cloned()?;
    noted.generation = agent.generation;
    noted.interfaces.clone_from(&agent.interfaces);
    Some(noted)
}

/// Whether all is as it was when the agent told of it, and nothing is just being changed.
pub fn is_unchanged<D: Dataplane>(enforcer: &Enforcer<D>, agent: &Agent) -> bool {
    let is_changing = enforcer.noted().now().is_some_and(|now| now.guard == GuardNote::Changing);
    let live = enforcer.live();
    !is_changing && (live.built.number, &live.attached) == (agent.generation, &agent.interfaces)
}
