//! What `bulkhead status` tells.

use bulkhead::kernel::{Attached, KernelError, Pins, State};
use serde::{Deserialize, Serialize};

use super::pump::Pumped;

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
    /// The node it enforces for.
    pub node: String,
    /// The policy file.
    pub policy: String,
    /// The inventory file.
    pub inventory: String,
    /// `enforce` or `audit`.
    pub mode: String,
    /// The enforced generation.
    pub generation: u32,
    /// Rules that matter to the node.
    pub rules: usize,
    /// Interfaces and hooks.
    pub interfaces: Vec<Attached>,
    /// Events and the journal.
    pub events: Pumped,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The instance.
    pub instance: String,
    /// The agent, if it runs. Enforcement does not need it.
    pub agent: Option<Agent>,
    /// Pinned links: what is enforced, agent or not.
    pub links: Vec<(String, String)>,
    /// Generations whose tables are in the kernel.
    pub generations: Vec<u32>,
    /// Packets by reason.
    pub reasons: Vec<ReasonCount>,
    /// Drops that no event and no aggregate tells of.
    pub lost_events: u64,
    /// Flows without a reply.
    pub unreplied_flows: usize,
    /// Flows with one.
    pub established_flows: usize,
}

impl Status {
    /// Reads what the kernel tells.
    ///
    /// # Errors
    /// If the pins cannot be read.
    pub fn read(instance: &str, pins: &Pins, agent: Option<Agent>) -> Result<Self, KernelError> {
        let links = pins.links()?.into_iter().map(|(interface, hook)| (interface, hook.name().to_owned()));
        let mut status = Self {
            instance: instance.to_owned(),
            agent,
            links: links.collect(),
            generations: pins.generations()?,
            reasons: Vec::new(),
            lost_events: 0,
            unreplied_flows: 0,
            established_flows: 0,
        };
        if !pins.state("EVENTS").exists() {
            return Ok(status);
        }
        let state = State::open(pins)?;
        let count = |(direction, reason, counter): (
            bulkhead_engine::layout::Direction,
            bulkhead_engine::Reason,
            bulkhead_engine::layout::Counter,
        )| ReasonCount {
            direction: direction.name().to_owned(),
            reason: reason.name().to_owned(),
            packets: counter.packets,
            bytes: counter.bytes,
        };
        status.reasons = state.reasons()?.into_iter().map(count).collect();
        status.lost_events = state.lost_events()?;
        [status.unreplied_flows, status.established_flows] = state.flow_counts();
        Ok(status)
    }
}
