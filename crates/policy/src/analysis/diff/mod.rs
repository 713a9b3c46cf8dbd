//! Exactly which flows a change of policy, of inventory, or of both adds and removes.

mod changes;
mod compare;
mod ends;
mod terms;
mod universe;

pub use terms::{Apart, Terms};

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::analysis::decide::{Decider, Ports};
use crate::frontend::inventory::Inventory;
use crate::interval::Intervals;
use crate::resolve::Ruleset;
use crate::resolve::SelectorId;
use crate::service;
use changes::Changes;
use compare::{Change, Comparison};
use ends::{End, joined};
use terms::Heirs;
use universe::{Group, Universe};

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
    /// Names of nodes, then prefixes and ranges of addresses that are no node's, with the routers that
    /// they are behind.
    pub sources: Vec<String>,
    /// The same, with the router in question where `via` makes a difference.
    pub destinations: Vec<String>,
    /// Selectors that mean exactly the sources, where these are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from_selectors: Vec<String>,
    /// The same of the destinations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to_selectors: Vec<String>,
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
    /// The terms on which they are admitted.
    #[serde(flatten)]
    pub terms: Terms,
}

/// Flows that are there before and after, on other terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Changed {
    /// The flows, and their terms after it.
    #[serde(flatten)]
    pub flows: Flows,
    /// Their terms before it.
    pub before: Terms,
    /// Whether more passes than before.
    pub widened: bool,
}

/// What a change does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What is admitted after it and was not before.
    pub added: Vec<Flows>,
    /// What was admitted before it and is not any more.
    pub removed: Vec<Flows>,
    /// What is admitted before and after it, on other terms.
    pub changed: Vec<Changed>,
    /// Limits that several rules have after it, where one had them.
    pub apart: Vec<Apart>,
    /// Venues, of either side, between which and anybody something is added or on wider terms.
    pub widened_venues: BTreeSet<String>,
    /// Boundaries, of either side, that something added, or on wider terms, crosses.
    pub widened_boundaries: BTreeSet<String>,
}

impl Difference {
    /// Whether anything passes after it that did not before.
    #[must_use]
    pub fn widens(&self) -> bool {
        !self.added.is_empty() || !self.apart.is_empty() || self.changed.iter().any(|changed| changed.widened)
    }
}

/// Two policies that tell too many apart to compare each with each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policies tell {groups} groups of identities apart and the change is about most of them: more than {most} pairs to compare; make the change in parts, or compare parts of the inventory"
)]
pub struct TooLarge {
    /// How many groups there are.
    pub groups: usize,
    /// How many pairs may be compared.
    pub most: u64,
}

/// Pairs of groups that are compared at most: minutes, not days.
const MOST: u64 = 100_000_000;

/// A piece of time in which no rule of either side ends.
type Span = (Option<u64>, Option<u64>);

/// Sources and destinations.
type Lane = (Vec<End>, Vec<End>);

/// What happens, to which services, and when → the lanes of IPv6 and those of IPv4.
type Found = BTreeMap<(Change, Vec<String>, Span), [Vec<Lane>; 2]>;

/// Compares two policies over their inventories from a time on (ns since the Unix epoch).
///
/// # Errors
/// The policies tell more identities apart than can be compared in reasonable time.
pub fn diff(old: Side<'_>, new: Side<'_>, now: u64) -> Result<Difference, TooLarge> {
    diff_within(old, new, now, MOST, &|| true).map(Option::unwrap_or_default)
}

/// [`diff`] that gives up where more than so many pairs of groups of identities are to be compared, about a million a
/// second, and once it is not to go on: `None` then. That is asked between two pairs.
///
/// # Errors
/// There are more.
pub fn diff_within(
    old: Side<'_>,
    new: Side<'_>,
    now: u64,
    most: u64,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Difference>, TooLarge> {
    let sides = [old, new];
    let rulesets = sides.map(|side| side.ruleset);
    let universe = Universe::new(&sides, now);
    let ports = Ports::new(&rulesets);
    let deciders = [Decider::new(rulesets[0], &ports, 0), Decider::new(rulesets[1], &ports, 1)];
    if !goes_on() {
        return Ok(None);
    }
    let changes = Changes::new(&sides, &universe);
    if changes.pairs() > most {
        return Err(TooLarge { groups: universe.groups.len(), most });
    }
    let mut found = Found::new();
    let mut widened = Widened::default();
    let mut heirs = Heirs::default();
    changes.kept.iter().for_each(|(old, new)| heirs.add(&rulesets, *old as u32, *new as u32));
    for (index, from) in universe.groups.iter().enumerate() {
        let targets = changes.targets(index);
        if targets.is_empty() {
            continue;
        }
        let candidates = [0, 1].map(|side: usize| {
            let spot = from.spots[side].as_ref();
            spot.map_or(Vec::new(), |spot| deciders[side].from(&universe.members[spot.class as usize][side]))
        });
        let times = [0, 1].map(|side: usize| deciders[side].times(&candidates[side], now)).concat();
        for to in targets.into_iter().map(|to| &universe.groups[to]).filter(|to| to.v4 == from.v4) {
            if !goes_on() {
                return Ok(None);
            }
            let comparison = Comparison { sides: &sides, deciders: &deciders, universe: &universe, from, to };
            let changes = comparison.changes(&candidates, &times, ports.count(), &mut heirs);
            if changes.is_empty() {
                continue;
            }
            let Some((sources, destinations)) = names(from, to) else { continue };
            for (way, spans) in changes {
                let destinations: Vec<End> = destinations.iter().map(|end| end.by(way.as_ref())).collect();
                for (change, classes, span) in spans {
                    if let Some(services) = services(&ports, &classes, from.v4) {
                        let lanes = found.entry((change, services, span)).or_default();
                        lanes[usize::from(from.v4)].push((sources.clone(), destinations.clone()));
                        let wider = match change {
                            Change::Added(_) => true,
                            Change::Removed(_) => false,
                            Change::Terms(before, after) => after.widen(before),
                        };
                        if wider {
                            widened.add(&rulesets, &universe, from, to);
                        }
                    }
                }
            }
        }
    }
    Ok(Some(Difference {
        apart: heirs.apart(&rulesets),
        widened_venues: widened.venues,
        widened_boundaries: widened.boundaries,
        ..collect(found, &sides)
    }))
}

/// The venues and boundaries that something added, or on wider terms, is about.
#[derive(Default)]
struct Widened {
    venues: BTreeSet<String>,
    boundaries: BTreeSet<String>,
}

impl Widened {
    fn add(&mut self, rulesets: &[&Ruleset; 2], universe: &Universe, from: &Group, to: &Group) {
        for (side, ruleset) in rulesets.iter().enumerate() {
            let in_any = |group: &Group, ids: &[SelectorId]| {
                let members =
                    group.spots[side].as_ref().map(|spot| &universe.members[spot.class as usize][side]);
                members.is_some_and(|members| ids.iter().any(|id| members.contains(id.0 as usize)))
            };
            for venue in &ruleset.venues {
                if in_any(from, &[venue.addresses]) || in_any(to, &[venue.addresses]) {
                    self.venues.insert(venue.name.clone());
                }
            }
            for boundary in &ruleset.boundaries {
                let side_of = |group| boundary.sides.iter().position(|ids| in_any(group, ids));
                if let (Some(here), Some(there)) = (side_of(from), side_of(to))
                    && here != there
                {
                    self.boundaries.insert(boundary.name.clone());
                }
            }
        }
    }
}

/// The names on both sides; none if all that is there is a node and itself.
fn names(from: &Group, to: &Group) -> Option<(Vec<End>, Vec<End>)> {
    let other = from.members.iter().any(|(source, identity)| {
        to.members.iter().any(|(target, other)| match (identity, other) {
            (Some(a), Some(b)) => a != b,
            (None, None) => source != target || !source.is_single(),
            _ => true,
        })
    });
    let names = |group: &Group| group.members.iter().map(|(end, _)| end.clone()).collect();
    other.then(|| (names(from), names(to)))
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
fn collect(found: Found, sides: &[Side<'_>; 2]) -> Difference {
    let mut difference = Difference::default();
    for ((change, services, (from, until)), lanes) in found {
        let [v6, v4] = lanes.map(|lanes| {
            let by_target = merge(lanes).into_iter().map(|(source, target)| (target, source)).collect();
            merge(by_target)
        });
        let mut push = |(destinations, sources): Lane, family: Option<&'static str>| {
            let side = &sides[usize::from(!matches!(change, Change::Removed(_)))];
            let v4 = family.map(|family| family == "ipv4");
            let other = v4.map(|v4| service::name_of(if v4 { service::ICMPV6 } else { service::ICMP }));
            let flows = |terms| Flows {
                from_selectors: ends::selectors(&sources, &destinations, v4, side, true),
                to_selectors: ends::selectors(&destinations, &sources, v4, side, false),
                sources: ends::words(&sources, side),
                destinations: ends::words(&destinations, side),
                services: services.iter().filter(|word| Some(*word) != other.as_ref()).cloned().collect(),
                family,
                from,
                until,
                terms,
            };
            match change {
                Change::Added(terms) => difference.added.push(flows(terms)),
                Change::Removed(terms) => difference.removed.push(flows(terms)),
                Change::Terms(before, after) => {
                    let widened = after.widen(before);
                    difference.changed.push(Changed { flows: flows(after), before, widened });
                }
            }
        };
        v4.iter().filter(|lane| v6.contains(lane)).for_each(|lane| push(lane.clone(), None));
        let only4 = v4.iter().filter(|lane| !v6.contains(lane));
        only4.for_each(|lane| push(lane.clone(), Some("ipv4")));
        let only6 = v6.iter().filter(|lane| !v4.contains(lane));
        only6.for_each(|lane| push(lane.clone(), Some("ipv6")));
    }
    difference.added.sort();
    difference.removed.sort();
    difference.changed.sort();
    difference
}

/// Joins the right sides of equal left sides.
fn merge(lanes: Vec<Lane>) -> Vec<Lane> {
    let mut all: BTreeMap<Vec<End>, Vec<End>> = BTreeMap::new();
    for (left, right) in lanes {
        all.entry(joined(left)).or_default().extend(right);
    }
    all.into_iter().map(|(left, right)| (left, joined(right))).collect()
}
