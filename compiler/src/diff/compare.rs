//! What changed between two groups.

use std::collections::{BTreeMap, HashMap};

use super::universe::{Gate, Group, Spot, Universe};
use super::{Side, Span};
use crate::bits::Bits;
use crate::decide::{Candidate, Decider};

/// Two groups, over both sides.
pub(super) struct Comparison<'a> {
    pub(super) sides: &'a [Side<'a>; 2],
    pub(super) deciders: &'a [Decider<'a>; 2],
    pub(super) universe: &'a Universe,
    pub(super) from: &'a Group,
    pub(super) to: &'a Group,
}

/// Classes of ports that were added (or removed) between two groups in a piece of time.
pub(super) type Changed = (bool, Vec<usize>, Span);

impl Comparison<'_> {
    /// What changed, for each router that is a way of its own, from the first of the times on at
    /// which a rule ends.
    pub(super) fn changes(
        &self,
        candidates: &[Vec<Candidate<'_>>; 2],
        times: &[u64],
        ports: usize,
    ) -> Vec<(Option<String>, Vec<Changed>)> {
        let times = &self.with_ends(times);
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

    /// The times at which a rule or one of these ends.
    fn with_ends(&self, times: &[u64]) -> Vec<u64> {
        let spots = self.from.spots.iter().chain(&self.to.spots).flatten();
        let ends = spots.flat_map(|spot| &spot.gates).filter_map(|gate| gate.end);
        let mut all: Vec<u64> = ends.filter(|end| *end > times[0]).chain(times.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
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
        let (Some(mut at_from), Some(at_to)) = (from.gates(now), to.gates(now)) else {
            return HashMap::new();
        };
        let at_source = at_from.next().map(|_| decide(None));
        let mut gates = at_to.peekable();
        if gates.peek().is_none() {
            return at_source.map(|bits| (None, bits)).into_iter().collect();
        }
        let admitted = gates.map(|gate| {
            let mut bits = decide(Some(gate.node));
            if let Some(at_source) = &at_source {
                (0..ports).filter(|port| !at_source.contains(*port)).for_each(|port| bits.remove(port));
            }
            (self.way(side, to, gate), bits)
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
