//! What happens to a conversation, where, and because of which line of the policy.

use std::net::IpAddr;

use bulkhead_engine::layout::Direction;
use serde::Serialize;

use crate::diagnostic::Location;
use crate::inventory::{Inventory, Node};
use crate::policy::Action;
use crate::reference::{self, Probe, Verdict};
use crate::resolve::Ruleset;

/// One pair of addresses.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Both hosts, the source's first; an end that no node stands for is left out.
    pub hosts: Vec<Host>,
    /// Whether every host that enforces lets it pass.
    pub allowed: bool,
    /// The rule that decides, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Deciding>,
}

/// What one host does.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// Its name.
    pub node: String,
    /// The direction there.
    pub direction: &'static str,
    /// Whether it passes.
    pub allowed: bool,
    /// Why.
    pub reason: &'static str,
}

/// The rule that decides.
#[derive(Clone, Debug, Serialize)]
pub struct Deciding {
    /// Its number, from 1.
    pub number: u32,
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does.
    pub action: Action,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The selector that matched the source, as written.
    pub source: String,
    /// The selector that matched the destination, as written.
    pub destination: String,
    /// The protocols and ports there.
    pub service: String,
}

/// Explains one probe at a time (ns since the Unix epoch).
#[must_use]
pub fn explain(ruleset: &Ruleset, inventory: &Inventory, probe: &Probe, now: u64) -> Explanation {
    let ends = [(probe.source, Direction::Egress), (probe.destination, Direction::Ingress)];
    let hosts: Vec<Host> = ends
        .into_iter()
        .flat_map(|(address, direction)| hosts_of(inventory, address).map(move |node| (node, direction)))
        .map(|(node, direction)| {
            let verdict = reference::judge(ruleset, inventory, node, direction, probe, now);
            Host {
                node: node.name.clone(),
                direction: direction.name(),
                allowed: verdict.allows(),
                reason: reason(ruleset, verdict),
            }
        })
        .collect();
    Explanation {
        source: probe.source,
        destination: probe.destination,
        allowed: !hosts.is_empty() && hosts.iter().all(|host| host.allowed),
        rule: deciding(ruleset, probe, now),
        hosts,
    }
}

/// The node that holds an address, or else those that route it.
fn hosts_of(inventory: &Inventory, address: IpAddr) -> impl Iterator<Item = &Node> {
    let holder = inventory.holder(address);
    let routers = inventory
        .nodes
        .iter()
        .filter(move |node| holder.is_none() && node.routes.iter().any(|route| route.contains(&address)));
    holder.into_iter().chain(routers)
}

fn reason(ruleset: &Ruleset, verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow(_) => "rule",
        Verdict::Deny(rule) if ruleset.rules[rule].is_guard() => "venue_guard",
        Verdict::Deny(_) => "deny_rule",
        Verdict::NoRule => "no_rule",
        Verdict::Unknown => "unknown_address",
        Verdict::NotLocal => "not_local",
    }
}

fn deciding(ruleset: &Ruleset, probe: &Probe, now: u64) -> Option<Deciding> {
    let rule = &ruleset.rules[reference::first(ruleset, probe, now)?];
    let holds = |id: &crate::resolve::SelectorId, address| ruleset.selector(*id).set.contains(address);
    rule.blocks.iter().find_map(|block| {
        let source = block.sources.iter().find(|id| holds(id, probe.source))?;
        let (destination, service) = block.destinations.iter().find(|(id, service)| {
            holds(id, probe.destination) && ruleset.service(*service).matches(probe.protocol, probe.port)
        })?;
        Some(Deciding {
            number: rule.number,
            name: rule.name.clone(),
            action: rule.action,
            location: rule.location.clone(),
            source: ruleset.selector(*source).label.clone(),
            destination: ruleset.selector(*destination).label.clone(),
            service: ruleset.service(*service).to_string(),
        })
    })
}
