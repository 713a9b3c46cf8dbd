//! What `bulkhead status` tells.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use anyhow::Context as _;
use bulkhead_api::event::EventStats;
use bulkhead_api::quarantine::Entry;
use bulkhead_api::status::{Agent, ExchangeInterface, Losses, Quarantined, ReasonCount, State, Status};
use bulkhead_dataplane::{
    Attached, Device, Devices, KernelError, RunningLink, STATE_MAPS, State as Tables, running,
};

use super::clock::BootClock;
use super::counting::Counting;
use super::enforcer::Enforcer;
use super::in_place::{self, GuardNote, InPlace, Notes};
use super::judge::{Known, judge};
use super::quarantine::{self, List};
use super::start;
use super::store::Store;
use super::{guard_drops, links};
use crate::config::{Config, Managed, Mode, Role};
use crate::paths::Paths;

/// The interfaces that are meant, with the link protocols that pass there.
fn with_link(config: &Config, is_meant: impl Fn(&&Managed) -> bool) -> Vec<ExchangeInterface> {
    let meant = config.interfaces.iter().filter(is_meant);
    meant
        .map(|managed| ExchangeInterface { interface: managed.name.clone(), link: managed.link.clone() })
        .collect()
}

/// The exemptions of agent.toml, for people.
fn exemptions(config: &Config) -> Vec<String> {
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
    management.chain(wireguard).collect()
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
    let (live, clock) = (enforcer.live(), BootClock::now());
    let mut warnings: Vec<String> = enforcer.setup.config.lockout().into_iter().collect();
    let mut unread = |error: anyhow::Error| warnings.push(format!("counters are missing: {error:#}"));
    let rule_counters = live.built.counts(enforcer.pins(), &live.folded);
    let rule_counters = rule_counters.map_err(&mut unread).unwrap_or_default();
    let shadow = enforcer.observed(&live.built).map_err(&mut unread).unwrap_or_default();
    let managed = &enforcer.setup.config.interfaces;
    let missed = links::warnings(managed, &live, &enforcer.shared.missed).map_err(unread);
    warnings.extend(missed.unwrap_or_default());
    let kept = enforcer.store.kept(live.record.enforced).map(|(files, _)| files.paths());
    let (policy, inventory) = kept.unwrap_or_else(|| enforcer.setup.files());
    Agent {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        applied: (live.record.applied != 0).then(|| clock.rfc3339(clock.deadline(live.record.applied))),
        node: enforcer.setup.target.node.clone(),
        policy: policy.display().to_string(),
        inventory: inventory.display().to_string(),
        mode: live.built.mode,
        generation: live.built.number,
        previous: live.record.previous,
        confirm_within: live.record.pending.as_ref().map(|pending| start::seconds_left(pending.until)),
        rules: live.built.names.count(),
        rule_counters,
        interfaces: live.attached.clone(),
        exchange: with_link(&enforcer.setup.config, |managed| managed.role == Role::Exchange),
        linked: with_link(&enforcer.setup.config, |managed| {
            managed.role == Role::Overlay && !managed.link.is_empty()
        }),
        exemptions: exemptions(&enforcer.setup.config),
        warnings,
        events,
        shadow,
    }
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
    let record = store.record()?;
    let half_way = record.target.is_some();
    let made = store.kept(record.enforced).filter(|_| !links.is_empty());
    let guard = in_place.as_ref().and_then(|in_place| in_place.guard.problem(instance));
    let unknown = (in_place.is_none() && !links.is_empty()).then(|| {
        format!(
            "what is to be enforced is not known, since {} is gone; the next start of the agent writes it",
            in_place::beside(&paths.socket).display()
        )
    });
    let journalled = record.generations();
    let known = Known { devices: devices(in_place.as_ref())?, in_place, journalled, is_held };
    let (state, mut problems) = judge(&links, &known, half_way);
    // The kernel tells programs' tables only to CAP_SYS_ADMIN.
    let links: Vec<_> =
        links.into_iter().map(|link| RunningLink { generation: known.generation(&link), ..link }).collect();
    let wrong: Vec<_> = guard.into_iter().chain(unknown).collect();
    let mode = agent.as_ref().map(|agent| agent.mode).or(made.map(|(_, made)| made.mode));
    let quarantined: List = store.load(quarantine::FILE)?.unwrap_or_default();
    let counting = Counting::read(&store);
    let guard = guard_drops::totals(instance, &store).unwrap_or_else(|error| {
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
    [status.unreplied_flows, status.established_flows] = state.flow_counts();
    status.evicted_flows = state.evicted()?;
    Ok(())
}

impl Enforcer {
    /// What is in place, as it is noted.
    pub fn noted(&self) -> MutexGuard<'_, Notes> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be in the kernel now.
    pub fn in_place(&self, agent: &Agent) -> Option<InPlace> {
        let mut noted = self.noted().now().cloned()?;
        noted.generation = agent.generation;
        noted.interfaces.clone_from(&agent.interfaces);
        Some(noted)
    }

    /// Whether all is as it was when the agent told of it, and nothing is just being changed.
    pub fn is_unchanged(&self, agent: &Agent) -> bool {
        let is_changing = self.noted().now().is_some_and(|now| now.guard == GuardNote::Changing);
        let live = self.live();
        !is_changing && (live.built.number, &live.attached) == (agent.generation, &agent.interfaces)
    }
}

/// The devices of interfaces that are to be enforced.
pub fn devices(in_place: Option<&InPlace>) -> anyhow::Result<BTreeMap<String, Device>> {
    let what = "asking for interfaces";
    let asked = Devices::open().context(what)?;
    let mut found = BTreeMap::new();
    for Attached { interface, .. } in in_place.iter().flat_map(|in_place| &in_place.interfaces) {
        found.extend(asked.by_name(interface).context(what)?.map(|device| (interface.clone(), device)));
    }
    Ok(found)
}
