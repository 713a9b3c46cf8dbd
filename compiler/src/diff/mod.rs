//! Exactly which flows a change of policy, of inventory, or of both adds and removes.

mod universe;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::bits::Bits;
use crate::decide::{Candidate, Decider, Ports, times};
use crate::interval::Intervals;
use crate::inventory::Inventory;
use crate::resolve::Ruleset;
use crate::service;
use universe::{Group, Spot, Universe};

/// One side of a change.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The policy over the inventory.
    pub ruleset: &'a Ruleset,
    /// The inventory.
    pub inventory: &'a Inventory,
}

/// Flows that a change adds or removes: from each source to each destination but itself. A
/// flow is there if every host that enforces lets it pass.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Flows {
    /// Names of nodes, and ranges of addresses that are no node's.
    pub sources: Vec<String>,
    /// The same, with the router in question where `via` makes a difference.
    pub destinations: Vec<String>,
    /// Protocols with their ports, such as `tcp:80,443`, or names of protocols without ports.
    pub services: Vec<String>,
    /// `ipv4` or `ipv6`, if it is so for one of the two only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    /// From when on (ns since the Unix epoch); none is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Until when; none is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// What a change does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What is admitted after it and was not before.
    pub added: Vec<Flows>,
    /// What was admitted before it and is not any more.
    pub removed: Vec<Flows>,
}

/// Two policies that tell too many apart to compare each with each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policies tell {groups} groups of identities apart: more than {MOST} pairs to compare; use fewer distinct combinations of tags, or compare parts of the inventory"
)]
pub struct TooLarge {
    /// How many groups there are.
    pub groups: usize,
}

/// Pairs of groups that are compared at most: minutes, not days.
const MOST: usize = 100_000_000;

/// A piece of time in which no rule of either side ends.
type Span = (Option<u64>, Option<u64>);

/// Sources and destinations.
type Lane = (Vec<String>, Vec<String>);

/// Added or removed, which services, and when → the lanes of IPv6 and those of IPv4.
type Found = BTreeMap<(bool, Vec<String>, Span), [Vec<Lane>; 2]>;

/// Compares two policies over their inventories from a time on (ns since the Unix epoch).
///
/// # Errors
/// The policies tell more identities apart than can be compared in reasonable time.
pub fn diff(old: Side<'_>, new: Side<'_>, now: u64) -> Result<Difference, TooLarge> {
    let sides = [old, new];
    let rulesets = sides.map(|side| side.ruleset);
    let universe = Universe::new(&sides, now);
    let groups = universe.groups.len();
    if groups.saturating_mul(groups) > MOST {
        return Err(TooLarge { groups });
    }
    let ports = Ports::new(&rulesets);
    let deciders = [Decider::new(rulesets[0], &ports, 0), Decider::new(rulesets[1], &ports, 1)];
    let times = times(&rulesets, now);
    let mut found = Found::new();
    for from in &universe.groups {
        let candidates = [0, 1].map(|side: usize| {
            let spot = from.spots[side].as_ref();
            spot.map_or(Vec::new(), |spot| deciders[side].from(&universe.members[spot.class as usize][side]))
        });
        for to in universe.groups.iter().filter(|to| to.v4 == from.v4) {
            let Some((sources, destinations)) = names(from, to) else { continue };
            let comparison = Comparison { sides: &sides, deciders: &deciders, universe: &universe, from, to };
            for (gate, spans) in comparison.changes(&candidates, &times, ports.count()) {
                let destinations: Vec<String> = match gate {
                    Some(router) => destinations.iter().map(|name| format!("{name} via {router}")).collect(),
                    None => destinations.clone(),
                };
                for (added, classes, span) in spans {
                    if let Some(services) = services(&ports, &classes, from.v4) {
                        let lanes = found.entry((added, services, span)).or_default();
                        lanes[usize::from(from.v4)].push((sources.clone(), destinations.clone()));
                    }
                }
            }
        }
    }
    Ok(collect(found))
}

/// The names on both sides; none if all that is there is a node and itself.
fn names(from: &Group, to: &Group) -> Option<(Vec<String>, Vec<String>)> {
    let other = from.members.iter().any(|(source, identity)| {
        to.members.iter().any(|(target, other)| match (identity, other) {
            (Some(a), Some(b)) => a != b,
            (None, None) => source != target || source.contains('-'),
            _ => true,
        })
    });
    let names = |group: &Group| group.members.iter().map(|(name, _)| name.clone()).collect();
    other.then(|| (names(from), names(to)))
}

/// Two groups, over both sides.
struct Comparison<'a> {
    sides: &'a [Side<'a>; 2],
    deciders: &'a [Decider<'a>; 2],
    universe: &'a Universe,
    from: &'a Group,
    to: &'a Group,
}

/// Classes of ports that were added (or removed) between two groups in a piece of time.
type Changed = (bool, Vec<usize>, Span);

impl Comparison<'_> {
    /// What changed, for each router that is a way of its own.
    fn changes(
        &self,
        candidates: &[Vec<Candidate<'_>>; 2],
        times: &[u64],
        ports: usize,
    ) -> Vec<(Option<String>, Vec<Changed>)> {
        let mut by_gate: BTreeMap<Option<String>, Vec<[Bits; 2]>> = BTreeMap::new();
        for (segment, now) in times.iter().enumerate() {
            for side in [0, 1] {
                for (gate, admitted) in self.admitted(side, &candidates[side], *now, ports) {
                    let all = by_gate
                        .entry(gate)
                        .or_insert_with(|| vec![[Bits::new(ports), Bits::new(ports)]; times.len()]);
                    all[segment][side] = admitted;
                }
            }
        }
        let all = by_gate.into_iter();
        all.map(|(gate, segments)| (gate, spans(&segments, times, ports)))
            .filter(|(_, c)| !c.is_empty())
            .collect()
    }

    /// What one side admits, by the way in: `None` unless a `via` tells routers apart.
    fn admitted(
        &self,
        side: usize,
        candidates: &[Candidate<'_>],
        now: u64,
        ports: usize,
    ) -> HashMap<Option<String>, Bits> {
        let (Some(from), Some(to)) = (&self.from.spots[side], &self.to.spots[side]) else {
            return HashMap::new();
        };
        let decider = &self.deciders[side];
        let members = &self.universe.members[to.class as usize][side];
        let decide = |router| {
            let decided = decider.to(candidates, members, router, now);
            let mut bits = Bits::new(ports);
            let admitted = decided.iter().enumerate().filter(|(_, rule)| decider.admits(**rule));
            admitted.for_each(|(port, _)| bits.insert(port));
            bits
        };
        let at_source = from.enforced.then(|| decide(None));
        if !to.enforced {
            return at_source.map(|bits| (None, bits)).into_iter().collect();
        }
        let gates = to.gates.iter().map(|gate| {
            let mut bits = decide(Some(*gate));
            if let Some(at_source) = &at_source {
                (0..ports).filter(|port| !at_source.contains(*port)).for_each(|port| bits.remove(port));
            }
            (self.way(side, to, *gate), bits)
        });
        gates.collect()
    }

    /// The router's name, if the end is behind one that some `via` names.
    fn way(&self, side: usize, to: &Spot, gate: u32) -> Option<String> {
        let behind = self.to.members.first().is_some_and(|(_, identity)| identity.is_none());
        let named = behind && to.gates.iter().any(|gate| *gate != u32::MAX);
        named.then(|| match self.sides[side].inventory.nodes.get(gate as usize) {
            Some(node) => node.name.clone(),
            None => "another router".into(),
        })
    }
}

/// What changed in each piece of time; pieces that follow one another with the same change
/// become one.
fn spans(segments: &[[Bits; 2]], times: &[u64], ports: usize) -> Vec<Changed> {
    let mut all: Vec<Changed> = Vec::new();
    for added in [true, false] {
        let mut open: Option<(Vec<usize>, usize)> = None;
        for segment in 0..=segments.len() {
            let changed: Vec<usize> = segments.get(segment).map_or(Vec::new(), |[old, new]| {
                let (before, after) = if added { (old, new) } else { (new, old) };
                (0..ports).filter(|port| after.contains(*port) && !before.contains(*port)).collect()
            });
            if open.as_ref().is_some_and(|(classes, _)| *classes == changed) {
                continue;
            }
            if let Some((classes, start)) = open.take() {
                let from = (start > 0).then(|| times[start]);
                all.push((added, classes, (from, times.get(segment).copied())));
            }
            open = (!changed.is_empty()).then_some((changed, segment));
        }
    }
    all
}

/// Classes of ports in words; none if no packet of the family is among them: each family has
/// an ICMP of its own.
fn services(ports: &Ports, classes: &[usize], v4: bool) -> Option<Vec<String>> {
    let ranges = classes.iter().flat_map(|class| &ports.ranges[*class]).copied().collect();
    let words = service::words(&Intervals::new(ranges));
    let other = service::name_of(if v4 { service::ICMPV6 } else { service::ICMP });
    words.iter().any(|word| *word != other).then_some(words)
}

/// Flows that differ in one side only become one, and so do those of both families.
fn collect(found: Found) -> Difference {
    let mut difference = Difference::default();
    for ((added, services, (from, until)), lanes) in found {
        let [v6, v4] = lanes.map(|lanes| {
            let by_target = merge(lanes).into_iter().map(|(source, target)| (target, source)).collect();
            merge(by_target)
        });
        let list = if added { &mut difference.added } else { &mut difference.removed };
        let mut push = |(destinations, sources): Lane, family| {
            list.push(Flows { sources, destinations, services: services.clone(), family, from, until });
        };
        v4.iter().filter(|lane| v6.contains(lane)).for_each(|lane| push(lane.clone(), None));
        let only4 = v4.iter().filter(|lane| !v6.contains(lane));
        only4.for_each(|lane| push(lane.clone(), Some("ipv4")));
        let only6 = v6.iter().filter(|lane| !v4.contains(lane));
        only6.for_each(|lane| push(lane.clone(), Some("ipv6")));
    }
    difference.added.sort();
    difference.removed.sort();
    difference
}

/// Joins the right sides of equal left sides.
fn merge(lanes: Vec<Lane>) -> Vec<Lane> {
    let mut joined: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (mut left, right) in lanes {
        left.sort();
        joined.entry(left).or_default().extend(right);
    }
    for right in joined.values_mut() {
        right.sort();
        right.dedup();
    }
    joined.into_iter().collect()
}
