//! Status: what is enforced, and what it has done.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::event::{
    AlarmKind, BindingState, EventStats, Expiring, ExpiryLevel, Rule, Timestamp, WorkloadState,
};
use crate::hook::{Attached, RunningLink};
use crate::link::Link;
use crate::mode::Mode;
use crate::quarantine::Entry;

/// What holds of all managed interfaces and the guard, asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every packet meets the enforced generation first.
    Enforced,
    /// It would, but the generation lets everything pass and reports what it would drop.
    Audit,
    /// Some managed interface or the guard is not as it should be.
    Degraded,
    /// Hooks run different generations.
    Mixed,
    /// Nothing is attached.
    Detached,
}

impl State {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Audit => "audit",
            Self::Degraded => "degraded",
            Self::Mixed => "mixed",
            Self::Detached => "detached",
        }
    }
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// What is granted for a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<crate::grant::Entry>,
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

impl Status {
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
}

/// What the running agent knows besides the kernel's counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Interfaces to networks beneath the overlay: their addresses, and the link protocols that pass there.
    #[serde(default)]
    pub underlay: Vec<UnderlayInterface>,
    /// Other interfaces where link protocols pass.
    #[serde(default)]
    pub linked: Vec<ExchangeInterface>,
    /// What passes whatever the policy says.
    pub exemptions: Vec<String>,
    /// What is no fault now and may become one.
    pub warnings: Vec<String>,
    /// Events and the event log.
    pub events: EventStats,
    /// Seconds without enforcement since the agent started, by interface, and of the `guard`.
    #[serde(default)]
    pub unenforced: BTreeMap<String, f64>,
    /// What came of the last comparison of what the kernel holds with what was approved; none yet, or none is made.
    #[serde(default)]
    pub read_back: Option<LastLook>,
    /// What takes records from the event log to others.
    #[serde(default)]
    pub sinks: Vec<Sink>,
    /// Where checkpoints of the event log go.
    #[serde(default)]
    pub anchors: Vec<Anchor>,
    /// What somebody should look at; none: agent.toml has alarms off.
    #[serde(default)]
    pub alarms: Option<Alarms>,
    /// What ends at a time that is known before.
    #[serde(default)]
    pub expiry: Expiry,
    /// Whose keys route the identities' addresses; none: agent.toml has it off.
    #[serde(default)]
    pub identities: Option<Identities>,
    /// Who is asked who exists, besides the inventory's file, in the order of precedence.
    #[serde(default)]
    pub sources: Vec<InventorySource>,
    /// Why what they list cannot be enforced, and whether whoever changed there is cut off.
    #[serde(default)]
    pub sources_problem: Option<String>,
    /// The fleet that it follows; none: agent.toml has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
    /// Workloads of this host.
    #[serde(default)]
    pub workloads: Vec<Workload>,
    /// Why their cgroups are not known; new ones stay off the overlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads_problem: Option<String>,
    /// What service ports presented to the agent, and what files of certificates hold.
    #[serde(default)]
    pub tls: crate::tls::Watched,
    /// The staged policy, and what it would have decided otherwise.
    pub staged: Option<Observed>,
}

/// The fleet that a host follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fleet {
    /// Where its files come from.
    pub origin: String,
    /// What is enforced of it: none where what runs is not the fleet's.
    pub enforced: Option<FleetBundles>,
    /// What was verified last, whether or not it is enforced.
    pub verified: Option<FleetBundles>,
    /// Seconds since all of it was verified last; none: this agent has not yet.
    pub checked_seconds: Option<u64>,
    /// Seconds until what says that it is fresh expires: nothing new is taken after that.
    pub fresh_seconds: Option<i64>,
    /// Why nothing new is taken.
    pub problem: Option<String>,
    /// What is verified and not taken yet, and why.
    pub waiting: Option<String>,
    /// Notes that people have signed for every host; none: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<FleetNotes>,
    /// What runs in its place, and who has applied it on this host.
    pub local: Option<String>,
    /// What this host has refused or gone back from, and why, the last first.
    #[serde(default)]
    pub refused: Vec<FleetRefusal>,
    /// How often something was refused since the agent began, by cause.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
}

/// Notes that people have signed for every host: grants, revocations, quarantines and their lifting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetNotes {
    /// How many are listed.
    pub listed: u32,
    /// How many of them have not begun.
    pub waiting: u32,
    /// How many this host does not take.
    pub refused: u32,
    /// Which, and why: the first of them.
    pub why: Vec<String>,
}

/// A policy and an inventory of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetBundles {
    /// The policy.
    pub policy: FleetBundle,
    /// The inventory.
    pub inventory: FleetBundle,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetBundle {
    /// The version that was signed.
    pub version: u64,
    /// SHA-256 of the file, hexadecimal.
    pub digest: String,
}

/// What a host has not taken, or has gone back from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FleetRefusal {
    /// What, such as `policy 3`.
    pub what: String,
    /// The files' SHA-256, hexadecimal: the policy's and the inventory's.
    pub digests: Vec<String>,
    /// Why.
    pub why: String,
    /// It was enforced, and was given up by the host's own check.
    pub gone_back: bool,
}

/// A source of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InventorySource {
    /// Its name.
    pub name: String,
    /// What it is, such as `tailscale`.
    pub kind: String,
    /// Nodes of its last answer that was believed; none: there was none.
    pub nodes: Option<u64>,
    /// Seconds since that answer; none: this agent has had none.
    pub answered_seconds: Option<u64>,
    /// Why that answer still stands: it is silent, or what it says now is not believed.
    pub problem: Option<String>,
    /// Its nodes that are left out.
    pub left_out_count: u64,
    /// The first of them, and why.
    pub left_out: Vec<String>,
}

/// A workload of the host: a cgroup that is an identity of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Workload {
    /// `HOST/WORKLOAD`.
    pub name: String,
    /// Its overlay addresses, which its sockets alone use.
    pub addresses: Vec<IpAddr>,
    /// Whether it runs.
    pub state: WorkloadState,
    /// The path of its cgroup below the root of cgroup2, if it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// That cgroup's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// Why nobody has its addresses, where something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Whose keys route the identities' addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Identities {
    /// Whether what is not bound is treated as nobody's.
    pub enforced: bool,
    /// Who says which key an interface routes an address to, by interface: `netlink`, `uapi`, `tailscale`, or `none`.
    pub sources: BTreeMap<String, String>,
    /// Why an interface's peers could not be read; identities stay bound as they were.
    pub problems: Vec<String>,
    /// Addresses of other nodes, by state.
    pub count: BTreeMap<String, u64>,
    /// Bound ones whose key has had no handshake for 180 s.
    pub stale: u64,
    /// The addresses, those that are not bound first; not all of them where there are many.
    pub addresses: Vec<Identity>,
}

/// An address of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Identity {
    /// The node.
    pub node: String,
    /// The address.
    pub address: IpAddr,
    /// What is found of it, such as `bound`.
    pub state: BindingState,
    /// The key that routes it, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whose that is, if it is another node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// On which interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Seconds since that key's last handshake; none: it has had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_seconds: Option<u64>,
    /// That is longer ago than 180 s, after which WireGuard takes no packet by an old handshake, or there was none.
    pub stale: bool,
}

/// What came of comparing what the kernel holds with a fresh compile of the recorded files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LastLook {
    /// When, RFC 3339.
    pub time: String,
    /// The generation that was looked at; 0: there was no look.
    pub generation: u32,
    /// Entries and programs that are not what was approved.
    pub differences: u64,
    /// Changed entries that no packet can meet.
    pub meaningless: u64,
    /// The first difference, in words.
    pub first: Option<String>,
    /// What the look took of a CPU, milliseconds.
    pub cpu_milliseconds: u64,
    /// The generation that was built of the same files because of what was found.
    pub restored: Option<u32>,
    /// Why there was no look.
    pub failure: Option<String>,
}

/// Alarms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Alarms {
    /// Those that are on.
    pub active: Vec<ActiveAlarm>,
    /// How many were raised since the agent started, by kind.
    pub raised: BTreeMap<String, u64>,
    /// How many were not, since too many of their kind are on.
    pub suppressed: u64,
}

/// An alarm that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ActiveAlarm {
    /// What it is, such as `scan`.
    pub alarm: AlarmKind,
    /// Its cause, as its events have it.
    pub cause: String,
    /// Since when.
    pub since: Timestamp,
    /// In words.
    pub detail: String,
}

/// What ends at a time that is known before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Expiry {
    /// How many there are, by what they are and by how near their ends are; without what has ended longer ago than a
    /// warning comes before an end.
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
    /// Those whose ends are nearest, by their ends: 16 that have ended and 48 that have not, at most.
    pub nearest: Vec<Expires>,
}

/// Something that ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Expires {
    /// What it is, such as `node_key`.
    pub kind: Expiring,
    /// Its name.
    pub name: String,
    /// Since when it holds; none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<Timestamp>,
    /// Until when.
    pub ends: Timestamp,
    /// How near that is.
    pub level: ExpiryLevel,
}

/// How far a sink is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// Its kind, such as `otlp`.
    pub kind: String,
    /// The number of the first record that its receiver has not confirmed.
    pub position: u64,
    /// Records in the event log that its receiver has not confirmed.
    pub behind: u64,
    /// Records since the agent's start that the event log had pruned before they were sent.
    pub skipped: u64,
    /// Records since the agent's start that it had not confirmed when the event log that they are in was set aside:
    /// they are not sent.
    #[serde(default)]
    pub set_aside: u64,
    /// Records since the agent's start that its receiver has refused for good.
    pub refused: u64,
    /// Why nothing is sent at the moment, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Where checkpoints of the event log go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Anchor {
    /// Its name.
    pub name: String,
    /// Its kind, such as `witness`.
    pub kind: String,
    /// Records under the last checkpoint that it has taken since the agent's start.
    pub records: u64,
    /// Seconds since it took that; none: it has taken none since the agent's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Why it has not the last one, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An interface with role = "exchange", or another where link protocols pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExchangeInterface {
    /// Its name.
    pub interface: String,
    /// Link protocols that pass.
    pub link: Vec<Link>,
}

/// An interface with role = "underlay".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnderlayInterface {
    /// Its name.
    pub interface: String,
    /// The addresses that it has now.
    pub addresses: Vec<IpAddr>,
    /// Link protocols that pass.
    pub link: Vec<Link>,
}

/// One rule's counters, as in status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RuleCount {
    /// Number, name and position in the policy.
    #[serde(flatten)]
    pub rule: Rule,
    /// Packets that it let pass.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// How its flows began, if it asks for TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsCount>,
}

/// How flows of a rule began that asks for TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TlsCount {
    /// What the rule asks for: `observe` or `required`.
    pub mode: String,
    /// The protocol in which both ends agree on TLS first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starttls: Option<String>,
    /// Flows whose server began as TLS.
    pub began: u64,
    /// Flows of which an end that is looked at began otherwise.
    pub plaintext: u64,
    /// Flows whose beginning was not seen, or could not be read.
    pub unverified: u64,
}

/// One reason's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// What neither an event nor an aggregate tells of, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Losses {
    /// Drops: the ring was full.
    pub ring: u64,
    /// Drops: a CPU's budget for the second was used up.
    pub budget: u64,
    /// Differences of the staged policy, for either.
    pub staged: u64,
    /// Flows that rules let begin and that were to be told of, for either.
    #[serde(default)]
    pub flows: u64,
}

/// Since when the totals count, and what they lack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counted {
    /// Since when, ns since the Unix epoch; 0: not known.
    pub since: u64,
    /// Totals that began anew then, by the name of their table, because another map ABI's were not known.
    pub anew: Vec<String>,
    /// Drops that are counted by reason and that only another map ABI's tables told of, or lost.
    pub unread: u64,
    /// Since when, RFC 3339.
    pub since_time: Option<String>,
}

/// What the staged policy has decided otherwise, as in status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Observed {
    /// Its number, as in reports.
    pub generation: u32,
    /// The policy's file.
    pub policy: String,
    /// The inventory's file.
    pub inventory: String,
    /// Packets that it would drop and that passed, since the enforced generation was put in force.
    pub would_drop: u64,
    /// Packets that it would let pass and that were dropped.
    pub would_pass: u64,
}

/// One entry of the quarantine, its times for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Quarantined {
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
    /// Since when, RFC 3339.
    pub since_time: String,
    /// Until when, RFC 3339.
    pub until_time: Option<String>,
}
