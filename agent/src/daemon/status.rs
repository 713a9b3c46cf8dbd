//! What `bulkhead status` tells.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use anyhow::Context as _;
use bulkhead_dataplane::{
    Attached, Dataplane, Device, DeviceTable as _, Kernel, KernelError, Losses, RunningLink, STATE_MAPS,
    State as Tables, running,
};
use serde::{Deserialize, Serialize};

use super::clock::BootClock;
use super::counters::RuleCount;
use super::counting::Counting;
use super::enforcer::Enforcer;
use super::in_place::{self, GuardNote, InPlace, Notes};
pub use super::judge::State;
use super::judge::{Known, judge};
use super::pump::Pumped;
use super::quarantine::{self, Entry, List};
use super::shadow::Observed;
use super::start;
use super::store::Store;
use super::{guard_drops, links};
use crate::config::{Config, Link, Managed, Mode, Role};
use crate::paths::Paths;

/// One reason's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// `ingress` or `egress`.
    pub direction: String,
    /// The reason's name.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What the running agent knows besides the kernel's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its process.
    pub pid: u32,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// When another policy, inventory or mode was put in force last, RFC 3339.
    #[serde(default)]
    pub applied: Option<String>,
    /// The node it enforces for.
    pub node: String,
    /// The policy file.
    pub policy: String,
    /// The inventory file.
    pub inventory: String,
    /// Enforce or audit.
    pub mode: Mode,
    /// The enforced generation.
    pub generation: u32,
    /// The one that `rollback` returns to.
    pub previous: Option<u32>,
    /// Seconds left to confirm the enforced generation.
    pub confirm_within: Option<u64>,
    /// Rules that matter to the node.
    pub rules: usize,
    /// Their counters, over all generations that had them.
    pub rule_counters: Vec<RuleCount>,
    /// Interfaces and hooks. One that is gone has index 0.
    pub interfaces: Vec<Attached>,
    /// Interfaces that carry venues' packets, and the link protocols that pass there.
    pub exchange: Vec<ExchangeInterface>,
    /// Other interfaces where link protocols pass.
    #[serde(default)]
    pub linked: Vec<ExchangeInterface>,
    /// What passes whatever the policy says.
    pub exemptions: Vec<String>,
    /// What is no fault now and may become one.
    pub warnings: Vec<String>,
    /// Events and the journal.
    pub events: Pumped,
    /// The staged candidate, and what it would have decided otherwise.
    pub shadow: Option<Observed>,
}

/// An interface with role = "exchange", or another where link protocols pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeInterface {
    /// Its name.
    pub interface: String,
    /// Link protocols that pass.
    pub link: Vec<Link>,
}

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

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The instance.
    pub instance: String,
    /// What holds of all managed interfaces and the guard.
    pub state: State,
    /// Enforce or audit, if anything is attached.
    pub mode: Option<Mode>,
    /// Why it is mixed or degraded.
    pub problems: Vec<String>,
    /// The agent, if it runs. Enforcement does not need it.
    pub agent: Option<Agent>,
    /// Pinned links and what they run: what is enforced, agent or not.
    pub links: Vec<RunningLink>,
    /// Generations whose tables are in the kernel.
    pub generations: Vec<u32>,
    /// Who is cut off.
    pub quarantined: Vec<Quarantined>,
    /// Since when packets by reason and losses are counted.
    pub counted: Counted,
    /// Packets by reason.
    pub reasons: Vec<ReasonCount>,
    /// Packets that the guard dropped, by reason.
    #[serde(default)]
    pub guard: Vec<ReasonCount>,
    /// What no event and no summary tells of.
    pub lost: Losses,
    /// Flows without a reply.
    pub unreplied_flows: usize,
    /// Flows with one.
    pub established_flows: usize,
    /// Flows that made room for others before they had expired.
    pub evicted_flows: u64,
}

/// Since when totals count, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// What was noted.
    #[serde(flatten)]
    pub counting: Counting,
    /// Since when, RFC 3339.
    pub since_time: Option<String>,
}

/// One entry of the quarantine, its times for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// Since when, RFC 3339.
    pub since_time: String,
    /// Until when, RFC 3339.
    pub until_time: Option<String>,
}

impl From<Entry> for Quarantined {
    fn from(entry: Entry) -> Self {
        let clock = BootClock::now();
        let text = |time| clock.rfc3339(clock.deadline(time));
        Self { since_time: text(entry.since), until_time: entry.until.map(text), entry }
    }
}

impl Agent {
    /// What the agent tells of itself. Counters that cannot be read are a warning: somebody may just have
    /// removed their pins.
    pub fn of(enforcer: &Enforcer, events: Pumped) -> Self {
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
        Self {
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
}

impl Status {
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
    ) -> anyhow::Result<Self> {
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
        let known = Known { devices: devices(&Kernel, in_place.as_ref())?, in_place, journalled, is_held };
        let (state, mut problems) = judge(&links, &known, half_way);
        let wrong: Vec<_> = guard.into_iter().chain(unknown).collect();
        let mode = agent.as_ref().map(|agent| agent.mode).or(made.map(|(_, made)| made.mode));
        let quarantined: List = store.load(quarantine::FILE)?.unwrap_or_default();
        let counting = Counting::read(&store);
        let guard = guard_drops::totals(instance, &store).unwrap_or_else(|error| {
            problems.push(format!("what the guard has dropped is not known: {error:#}"));
            Vec::new()
        });
        let mut status = Self {
            instance: instance.to_owned(),
            state: if state == State::Enforced && mode == Some(Mode::Audit) { State::Audit } else { state },
            mode,
            problems,
            agent,
            links,
            generations: pins.generations()?,
            quarantined: quarantined.0.into_iter().map(Into::into).collect(),
            counted: Counted { since_time: counting.since(), counting },
            reasons: Vec::new(),
            guard,
            lost: Losses::default(),
            unreplied_flows: 0,
            established_flows: 0,
            evicted_flows: 0,
        };
        // Maps that are just being made are not counted yet.
        if STATE_MAPS.iter().all(|map| pins.state(map).exists()) {
            status.count(&Tables::open(pins)?)?;
        }
        Ok(status.with_problems(wrong))
    }

    /// Why a link is at the second-best hook, if the agent knows.
    #[must_use]
    pub fn fallback(&self, link: &RunningLink) -> Option<&str> {
        let mut interfaces = self.agent.iter().flat_map(|agent| &agent.interfaces);
        let known =
            interfaces.find(|known| known.index == link.index && known.hooks.first() == Some(&link.hook));
        known?.fallback.as_deref()
    }

    /// With what makes it degraded though every hook is enforced.
    #[must_use]
    pub fn with_problems(mut self, problems: Vec<String>) -> Self {
        if !problems.is_empty() && matches!(self.state, State::Enforced | State::Audit) {
            self.state = State::Degraded;
        }
        self.problems.extend(problems);
        self
    }

    /// With another list of who is cut off.
    #[must_use]
    pub fn with_quarantined(mut self, list: &List) -> Self {
        self.quarantined = list.0.iter().cloned().map(Into::into).collect();
        self
    }

    fn count(&mut self, state: &Tables) -> Result<(), KernelError> {
        let reasons = state.reasons()?.into_iter();
        self.reasons = reasons
            .map(|(direction, reason, counter)| ReasonCount {
                direction: direction.name().to_owned(),
                reason: reason.name().to_owned(),
                packets: counter.packets,
                bytes: counter.bytes,
            })
            .collect();
        self.lost = state.losses()?;
        [self.unreplied_flows, self.established_flows] = state.flow_counts();
        self.evicted_flows = state.evicted()?;
        Ok(())
    }
}

impl<D: Dataplane> Enforcer<D> {
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
pub fn devices(
    plane: &impl Dataplane,
    in_place: Option<&InPlace>,
) -> anyhow::Result<BTreeMap<String, Device>> {
    let what = "asking for interfaces";
    let asked = plane.devices().context(what)?;
    let mut found = BTreeMap::new();
    for Attached { interface, .. } in in_place.iter().flat_map(|in_place| &in_place.interfaces) {
        found.extend(asked.by_name(interface).context(what)?.map(|device| (interface.clone(), device)));
    }
    Ok(found)
}
