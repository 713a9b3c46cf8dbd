//! What happens to a conversation, where, and because of which line of the policy.

use std::net::IpAddr;

use bulkhead_abi::Direction;
use serde::Serialize;

use crate::analysis::reference::{self, Probe, Verdict};
use crate::frontend::diagnostic::Location;
use crate::frontend::inventory::{Inventory, Node};
use crate::frontend::policy::posture::Attributes;
use crate::frontend::policy::{Action, Grant, Rates, Record, Tls};
use crate::resolve::{Rule, Ruleset, SelectorId};

/// One pair of addresses.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Who the source is.
    pub from: End,
    /// Who the destination is.
    pub to: End,
    /// Both hosts, the source's first; an end that no node stands for is left out.
    pub hosts: Vec<Host>,
    /// Whether the source's host lets it pass, and one that leads to the destination: the node
    /// itself, or of several routers any.
    pub allowed: bool,
    /// The rule that decides, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Deciding>,
    /// The rules before it, which do not decide; all of them, if none does.
    pub earlier: Vec<Earlier>,
}

/// Who an address is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct End {
    /// The node that holds it, or those that route it.
    pub nodes: Vec<String>,
    /// Whether a node holds it itself.
    pub held: bool,
    /// Of a workload, the host that vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Of a workload, its SPIFFE ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<String>,
    /// The node's user, if it is a user's device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The node's tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What the node's device reports.
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    pub posture: Attributes,
    /// When the node is nobody, ns since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// Whether it is so already.
    pub expired: bool,
    /// Whether it may answer and never start.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub jailed: bool,
    /// The venue whose address it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub venue: Option<String>,
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
    /// Whether who asks is told that it does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rejects: bool,
    /// The number of the rule that decides there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
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
    /// What it says of itself.
    #[serde(flatten)]
    pub record: Record,
    /// Who has asked for it and who has approved it, if it is a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The selector that matched the source, as written.
    pub source: String,
    /// The selector that matched the destination, as written.
    pub destination: String,
    /// The protocols and ports there.
    pub service: String,
    /// What it admits a second.
    pub rates: Rates,
    /// Whether it starts no flow, so that no reply passes.
    pub one_way: bool,
    /// How what it admits has to begin.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// When it ends, ns since the Unix epoch, and the rule that decides then, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<(u64, Option<u32>)>,
}

/// A rule that was tried and did not match.
#[derive(Clone, Debug, Serialize)]
pub struct Earlier {
    /// Its number, from 1.
    pub number: u32,
    /// Its name or number.
    pub title: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Why it did not match.
    #[serde(flatten)]
    pub why: Why,
}

/// Why a rule does not match, by what came nearest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why", content = "detail")]
pub enum Why {
    /// It matched until it ended, ns since the Unix epoch.
    Expired(u64),
    /// Both ends match; it is about these services there.
    Service(String),
    /// The source does not meet any of these postures; all else matches.
    Posture(String),
    /// It is about other destinations.
    Destination,
    /// It is about other sources.
    Source,
    /// Neither end matches.
    Ends,
}

/// Explains one probe at a time (ns since the Unix epoch).
#[must_use]
pub fn explain(ruleset: &Ruleset, inventory: &Inventory, probe: &Probe, now: u64) -> Explanation {
    let ends = [(probe.source, Direction::Egress), (probe.destination, Direction::Ingress)];
    let hosts: Vec<Host> = ends
        .into_iter()
        .flat_map(|(address, direction)| {
            hosts_of(ruleset, inventory, address).into_iter().map(move |node| (node, direction))
        })
        .map(|(node, direction)| {
            let verdict = verdict(ruleset, inventory, (node, direction), probe, now);
            Host {
                node: node.name.clone(),
                direction: direction.name(),
                allowed: verdict.is_none_or(Verdict::allows),
                reason: verdict.map_or("loopback", |verdict| reason(ruleset, verdict)),
                rejects: rejects(ruleset, inventory, (node, direction), probe, now),
                rule: verdict.and_then(Verdict::rule).map(|index| ruleset.rules[index].number),
            }
        })
        .collect();
    let first = reference::first(ruleset, probe, now);
    let before = &ruleset.rules[..first.unwrap_or(ruleset.rules.len())];
    let earlier = before.iter().map(|rule| Earlier {
        number: rule.number,
        title: rule.title(),
        location: rule.location.clone(),
        why: why(ruleset, rule, probe),
    });
    Explanation {
        source: probe.source,
        destination: probe.destination,
        from: end(ruleset, inventory, probe.source, now),
        to: end(ruleset, inventory, probe.destination, now),
        allowed: passes(&hosts),
        rule: first.and_then(|index| deciding(ruleset, &ruleset.rules[index], probe)),
        earlier: earlier.collect(),
        hosts,
    }
}

/// What the host of a node says, on `lo` where both ends are of that host and one of them is a workload. `None`: there it
/// passes untouched.
fn verdict(
    ruleset: &Ruleset,
    inventory: &Inventory,
    (node, direction): (&Node, Direction),
    probe: &Probe,
    now: u64,
) -> Option<Verdict> {
    let ends = [probe.source, probe.destination].map(|address| holder(ruleset, inventory, address));
    let host = inventory.host_of(node);
    let is_within = ends.iter().all(|end| end.is_some_and(|end| end.host() == host.name));
    if is_within && ends.iter().flatten().any(|end| end.workload.is_some()) {
        return reference::judge_loopback(ruleset, inventory, host, direction, probe, now);
    }
    Some(reference::judge(ruleset, inventory, node, direction, probe, now))
}

/// Whether the host of a node tells who asks of its denial. Nobody speaks for a workload.
fn rejects(
    ruleset: &Ruleset,
    inventory: &Inventory,
    (node, direction): (&Node, Direction),
    probe: &Probe,
    now: u64,
) -> bool {
    let (here, _) = probe.ends(direction);
    holder(ruleset, inventory, here).is_some_and(|node| node.workload.is_none())
        && reference::rejects(ruleset, inventory, node, direction, probe, now)
}

/// Whether there is a way: at each end where somebody enforces, one who lets it pass.
fn passes(hosts: &[Host]) -> bool {
    let open = |direction: Direction| {
        let mut there = hosts.iter().filter(|host| host.direction == direction.name()).peekable();
        there.peek().is_none() || there.any(|host| host.allowed)
    };
    !hosts.is_empty() && open(Direction::Egress) && open(Direction::Ingress)
}

/// The node that holds an address, or else those that route it or receive it as a group.
fn hosts_of<'i>(ruleset: &Ruleset, inventory: &'i Inventory, address: IpAddr) -> Vec<&'i Node> {
    if let Some(node) = holder(ruleset, inventory, address) {
        return vec![node];
    }
    let routes = |node: &&Node| node.routes_on(ruleset.network).iter().any(|route| route.contains(&address));
    let receives = |node: &&Node| ruleset.groups_of(node).contains(address);
    inventory.nodes.iter().filter(|node| routes(node) || receives(node)).collect()
}

fn holder<'i>(ruleset: &Ruleset, inventory: &'i Inventory, address: IpAddr) -> Option<&'i Node> {
    inventory.holder(address).filter(|node| node.addresses_on(ruleset.network).contains(&address))
}

fn end(ruleset: &Ruleset, inventory: &Inventory, address: IpAddr, now: u64) -> End {
    let nodes = hosts_of(ruleset, inventory, address).into_iter().map(|node| node.name.clone()).collect();
    let venue = ruleset.venues.iter().find(|venue| ruleset.selector(venue.addresses).set.contains(address));
    let end = End { nodes, venue: venue.map(|venue| venue.name.clone()), ..End::default() };
    match holder(ruleset, inventory, address) {
        None => end,
        Some(node) => End {
            held: true,
            host: node.workload.as_ref().map(|workload| workload.host.clone()),
            spiffe: node.spiffe().map(ToString::to_string),
            user: node.user().map(str::to_string),
            tags: node.tags().to_vec(),
            posture: node.posture.clone(),
            expires: node.expires,
            jailed: node.jailed,
            expired: node.expires.is_some_and(|time| time <= now),
            ..end
        },
    }
}

fn reason(ruleset: &Ruleset, verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow(_) => "rule",
        Verdict::Deny(rule) if ruleset.rules[rule].is_default_deny() => "venue_default_deny",
        Verdict::Deny(_) => "deny_rule",
        Verdict::NoRule => "no_rule",
        Verdict::Unknown => "unknown_address",
        Verdict::NotLocal => "not_local",
    }
}

fn deciding(ruleset: &Ruleset, rule: &Rule, probe: &Probe) -> Option<Deciding> {
    let holds = |id: &SelectorId, address| ruleset.selector(*id).set.contains(address);
    rule.blocks.iter().find_map(|block| {
        let source = block.sources.iter().find(|id| holds(id, probe.source))?;
        let (destination, service) = block.destinations.iter().find(|(id, service)| {
            holds(id, probe.destination) && ruleset.service(*service).matches(probe.protocol, probe.port)
        })?;
        let next = |time| reference::first(ruleset, probe, time).map(|index| ruleset.rules[index].number);
        Some(Deciding {
            number: rule.number,
            name: rule.name.clone(),
            action: rule.action,
            record: rule.record.clone(),
            grant: rule.grant.clone(),
            location: rule.location.clone(),
            source: ruleset.selector(*source).label.clone(),
            destination: ruleset.selector(*destination).label.clone(),
            service: ruleset.service(*service).to_string(),
            rates: rule.rates,
            one_way: rule.one_way,
            tls: rule.tls,
            until: rule.expires.map(|time| (time, next(time))),
        })
    })
}

/// Why a rule that does not decide does not: it does not match, or it has ended.
fn why(ruleset: &Ruleset, rule: &Rule, probe: &Probe) -> Why {
    if let Some(end) = rule.expires.filter(|_| reference::matches(ruleset, rule, probe, None)) {
        return Why::Expired(end);
    }
    let holds = |id: &SelectorId, address| ruleset.selector(*id).set.contains(address);
    let narrowed = |id: &SelectorId| {
        let narrowed = ruleset.selector(*id).narrowed.as_ref();
        narrowed.filter(|narrowed| narrowed.from.contains(probe.source))
    };
    let mut sides = (false, false);
    for block in &rule.blocks {
        let source = block.sources.iter().any(|id| holds(id, probe.source));
        let mut there = block.destinations.iter().filter(|(id, _)| holds(id, probe.destination)).peekable();
        sides = (sides.0 || source, sides.1 || there.peek().is_some());
        if source && there.peek().is_some() {
            let mut services: Vec<String> =
                there.map(|(_, service)| ruleset.service(*service).to_string()).collect();
            services.dedup();
            return Why::Service(services.join(", "));
        }
        if let Some(narrowed) = block.sources.iter().find_map(narrowed)
            && there.any(|(_, service)| ruleset.service(*service).matches(probe.protocol, probe.port))
        {
            return Why::Posture(narrowed.postures.clone());
        }
    }
    match sides {
        (true, _) => Why::Destination,
        (false, true) => Why::Source,
        (false, false) => Why::Ends,
    }
}
