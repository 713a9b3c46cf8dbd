//! What changed between two groups.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::terms::{Heirs, Terms};
use super::universe::{Gate, Group, Spot, Universe};
use super::{Side, Span};
use crate::analysis::decide::{Candidate, Decider};

/// Two groups, over both sides.
pub(super) struct Comparison<'a> {
    pub(super) sides: &'a [Side<'a>; 2],
    pub(super) deciders: &'a [Decider<'a>; 2],
    pub(super) universe: &'a Universe,
    pub(super) from: &'a Group,
    pub(super) to: &'a Group,
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Added(Terms),
    Removed(Terms),
    /// It is there before and after, on other terms.
    Terms(Terms, Terms),
}

/// Classes of ports to which the same happens between two groups in a piece of time.
pub(super) type Changed = (Change, Vec<usize>, Span);

/// What one side admits of a class of ports: on which terms, by which rule at the destination.
#[derive(Clone, Copy)]
struct Admitted {
    terms: Terms,
    rule: u32,
}

/// One side's classes of ports.
type Row = Vec<Option<Admitted>>;

impl Comparison<'_> {
    /// What changed, for each router that is a way of its own, from the first of the times on at
    /// which a rule ends. Rules that admit the same before and after go to `heirs`.
    pub(super) fn changes(
        &self,
        candidates: &[Vec<Candidate<'_>>; 2],
        times: &[u64],
        ports: usize,
        heirs: &mut Heirs,
    ) -> Vec<(Option<String>, Vec<Changed>)> {
        let times = &self.with_ends(times);
        let mut by_gate: BTreeMap<Option<String>, Vec<[Row; 2]>> = BTreeMap::new();
        for (segment, now) in times.iter().enumerate() {
            for side in [0, 1] {
                for (gate, admitted) in self.admitted(side, &candidates[side], *now) {
                    let all = by_gate
                        .entry(gate)
                        .or_insert_with(|| vec![[vec![None; ports], vec![None; ports]]; times.len()]);
                    all[segment][side] = admitted;
                }
            }
        }
        let rulesets = self.sides.map(|side| side.ruleset);
        for [old, new] in by_gate.values().flatten() {
            let both = old.iter().zip(new).filter_map(|(old, new)| old.zip(*new));
            both.for_each(|(old, new)| heirs.add(&rulesets, old.rule, new.rule));
        }
        let all = by_gate.into_iter();
        all.map(|(gate, segments)| (gate, spans(&segments, times))).filter(|(_, c)| !c.is_empty()).collect()
    }

    /// The times at which a rule or one of these ends.
    fn with_ends(&self, times: &[u64]) -> Vec<u64> {
        let spots = self.from.spots.iter().chain(&self.to.spots).flatten();
        let ends = spots.flat_map(|spot| &spot.gates).filter_map(|gate| gate.end);
        let now = times[0];
        let mut all: Vec<u64> = ends.filter(|end| *end > now).chain(times.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What one side admits, by the way in: `None` unless a `via` tells routers apart.
    fn admitted(&self, side: usize, candidates: &[Candidate<'_>], now: u64) -> HashMap<Option<String>, Row> {
        let (Some(from), Some(to)) = (&self.from.spots[side], &self.to.spots[side]) else {
            return HashMap::new();
        };
        let decider = &self.deciders[side];
        let members = &self.universe.members[to.class as usize][side];
        let decide = |router| -> Row {
            let decided = decider.to(candidates, members, router, now).into_iter();
            let admitted = decided.map(|rule| rule.filter(|rule| decider.admits(Some(*rule))));
            let terms = |rule: u32| Terms::of(&decider.ruleset.rules[rule as usize]);
            admitted.map(|rule| rule.map(|rule| Admitted { terms: terms(rule), rule })).collect()
        };
        let (Some(mut at_from), Some(at_to)) = (from.gates(now), to.gates(now)) else {
            return HashMap::new();
        };
        let at_source = at_from.next().map(|_| decide(None));
        let mut gates = at_to.peekable();
        if gates.peek().is_none() {
            return at_source.map(|row| (None, row)).into_iter().collect();
        }
        let admitted = gates.map(|gate| {
            let mut row = decide(Some(gate.node));
            if let Some(at_source) = &at_source {
                for (here, there) in row.iter_mut().zip(at_source) {
                    let both = here.zip(*there);
                    *here = both.map(|(here, there)| Admitted { terms: here.terms.and(there.terms), ..here });
                }
            }
            (self.way(side, to, gate), row)
        });
        admitted.collect()
    }

    /// The way in: the router, if the end is behind one that some `via` names, or the receiver.
    fn way(&self, side: usize, to: &Spot, gate: Gate) -> Option<String> {
        let behind = self.to.members.first().is_some_and(|(_, identity)| identity.is_none());
        let named = behind && to.gates.iter().any(|gate| gate.node != u32::MAX);
        let word = if gate.receives { "at" } else { "via" };
        named.then(|| match self.sides[side].inventory.nodes.get(gate.node as usize) {
            Some(node) => format!("{word} {}", node.name),
            None => format!("{word} another router"),
        })
    }
}

/// What changed in each piece of time; pieces that follow one another with the same change
/// become one.
fn spans(segments: &[[Row; 2]], times: &[u64]) -> Vec<Changed> {
    let changed: Vec<BTreeMap<Change, Vec<usize>>> = segments.iter().map(by_change).collect();
    let kinds: BTreeSet<Change> = changed.iter().flat_map(|segment| segment.keys().copied()).collect();
    let mut all: Vec<Changed> = Vec::new();
    for kind in kinds {
        let mut open: Option<(&[usize], usize)> = None;
        for segment in 0..=segments.len() {
            let classes = changed.get(segment).and_then(|changes| changes.get(&kind));
            let classes = classes.map_or(&[][..], Vec::as_slice);
            if open.is_some_and(|(known, _)| known == classes) {
                continue;
            }
            if let Some((classes, start)) = open.take() {
                let from = (start > 0).then(|| times[start]);
                all.push((kind, classes.to_vec(), (from, times.get(segment).copied())));
            }
            open = (!classes.is_empty()).then_some((classes, segment));
        }
    }
    all
}

/// The classes of ports to which something happens, by what does.
fn by_change([old, new]: &[Row; 2]) -> BTreeMap<Change, Vec<usize>> {
    let mut all: BTreeMap<Change, Vec<usize>> = BTreeMap::new();
    for (port, (before, after)) in old.iter().zip(new).enumerate() {
        let change = match (before, after) {
            (None, Some(after)) => Change::Added(after.terms),
            (Some(before), None) => Change::Removed(before.terms),
            (Some(before), Some(after)) if before.terms != after.terms => {
                Change::Terms(before.terms, after.terms)
            }
            _ => continue,
        };
        all.entry(change).or_default().push(port);
    }
    all
}
