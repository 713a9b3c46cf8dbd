//! Which pairs of groups a change can be about at all: most rules of a large policy stay as they are.

use std::collections::{HashMap, HashSet};

use super::Side;
use super::terms::Terms;
use super::universe::{Group, Spot, Universe};
use crate::bits::Bits;
use crate::resolve::{Block, Rule, Ruleset, SelectorId};

/// The pairs of groups to compare.
///
/// Rules that are on both sides in the same order, written alike, are kept ones. A group that
/// the kept rules' selectors hold on both sides alike is settled. Between two settled groups the
/// first rule that matches is the same on both sides, unless a rule that is not kept is about them.
pub(super) struct Changes {
    /// The kept rules, as pairs of indices.
    pub(super) kept: Vec<(usize, usize)>,
    settled: Vec<bool>,
    /// Groups that are not settled.
    open: Vec<usize>,
    /// For each group, blocks of rules that are not kept: those it is a source of.
    sources: Vec<Bits>,
    /// For each such block, the groups that it leads to.
    targets: Vec<Vec<usize>>,
}

impl Changes {
    pub(super) fn new(sides: &[Side<'_>; 2], universe: &Universe) -> Self {
        let rulesets = sides.map(|side| side.ruleset);
        let kept = kept(sides);
        let selectors = paired_selectors(&rulesets, &kept);
        let members = |spot: &Spot, side: usize| &universe.members[spot.class as usize][side];
        let settled = |group: &Group| match &group.spots {
            [Some(old), Some(new)] => {
                let (before, after) = (members(old, 0), members(new, 1));
                let alike = |(a, b): &(SelectorId, SelectorId)| {
                    before.contains(a.0 as usize) == after.contains(b.0 as usize)
                };
                same_gates(sides, old, new) && selectors.iter().all(alike)
            }
            _ => false,
        };
        let settled: Vec<bool> = universe.groups.iter().map(settled).collect();
        let mut blocks: Vec<(usize, &Block)> = Vec::new();
        for (side, ruleset) in rulesets.iter().enumerate() {
            let stay: HashSet<usize> =
                kept.iter().map(|pair| if side == 0 { pair.0 } else { pair.1 }).collect();
            let gone = ruleset.rules.iter().enumerate().filter(|(index, _)| !stay.contains(index));
            blocks.extend(gone.flat_map(|(_, rule)| &rule.blocks).map(|block| (side, block)));
        }
        let mut sources = vec![Bits::new(blocks.len()); universe.groups.len()];
        let mut targets = vec![Vec::new(); blocks.len()];
        for (number, (side, block)) in blocks.iter().enumerate() {
            for (index, group) in universe.groups.iter().enumerate() {
                let Some(spot) = &group.spots[*side] else { continue };
                let members = members(spot, *side);
                if block.sources.iter().any(|id| members.contains(id.0 as usize)) {
                    sources[index].insert(number);
                }
                if block.destinations.iter().any(|(id, _)| members.contains(id.0 as usize)) {
                    targets[number].push(index);
                }
            }
        }
        let open = (0..settled.len()).filter(|index| !settled[*index]).collect();
        Self { kept, settled, open, sources, targets }
    }

    /// The groups to compare a group with, as sources of it.
    pub(super) fn targets(&self, from: usize) -> Vec<usize> {
        if !self.settled[from] {
            return (0..self.settled.len()).collect();
        }
        let changed = self.sources[from].iter().flat_map(|block| &self.targets[block]);
        let mut all: Vec<usize> = changed.chain(&self.open).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// How many pairs there are to compare, at most.
    pub(super) fn pairs(&self) -> u64 {
        let all = self.settled.len() as u64;
        let pairs = (0..self.settled.len()).map(|from| match self.settled[from] {
            false => all,
            true => {
                let changed = self.sources[from].iter().map(|block| self.targets[block].len() as u64);
                all.min(changed.sum::<u64>() + self.open.len() as u64)
            }
        });
        pairs.sum()
    }
}

/// Whether packets to both are judged by the same nodes at all times.
fn same_gates(sides: &[Side<'_>; 2], old: &Spot, new: &Spot) -> bool {
    let name = |side: usize, node: u32| sides[side].inventory.nodes.get(node as usize).map(|node| &node.name);
    old.gates.len() == new.gates.len()
        && old.gates.iter().zip(&new.gates).all(|(a, b)| {
            (a.end, a.narrow, a.receives) == (b.end, b.narrow, b.receives)
                && name(0, a.node) == name(1, b.node)
        })
}

/// Rules that are on both sides in the same order, as pairs of indices.
fn kept(sides: &[Side<'_>; 2]) -> Vec<(usize, usize)> {
    let keys = |side: &Side<'_>| -> Vec<String> {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let rules = side.ruleset.rules.iter().map(|rule| {
            let key = key(side, rule);
            // Rules that are written alike are told apart by their order.
            let twin = seen.entry(key.clone()).or_default();
            *twin += 1;
            format!("{twin} {key}")
        });
        rules.collect()
    };
    let (old, new) = (keys(&sides[0]), keys(&sides[1]));
    let places: HashMap<&str, usize> =
        new.iter().enumerate().map(|(index, key)| (key.as_str(), index)).collect();
    let pairs = old.iter().enumerate().filter_map(|(a, key)| Some((a, *places.get(key.as_str())?)));
    longest_rising(&pairs.collect::<Vec<_>>())
}

/// A rule as written: what decides but whom its selectors hold.
fn key(side: &Side<'_>, rule: &Rule) -> String {
    let label = |id: &SelectorId| &side.ruleset.selector(*id).label;
    let terms = Terms::of(rule);
    let mut key = format!("{:?} {:?} {:?} {terms:?}", rule.section, rule.action, rule.expires);
    for block in &rule.blocks {
        let via = block.via.and_then(|node| side.inventory.nodes.get(node as usize));
        key.push_str(&format!("\n{:?}", via.map(|node| &node.name)));
        block.sources.iter().for_each(|id| key.push_str(&format!("\t{}", label(id))));
        for (id, service) in &block.destinations {
            key.push_str(&format!("\t> {} {}", label(id), side.ruleset.service(*service)));
        }
    }
    key
}

/// Of pairs whose first parts rise, the longest part whose second parts rise too.
fn longest_rising(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // The last pair of the best run of each length so far, and what came before each pair.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; pairs.len()];
    for (index, (_, place)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].1 < *place);
        before[index] = length.checked_sub(1).map(|shorter| ends[shorter]);
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let mut run = Vec::new();
    let mut at = ends.last().copied();
    while let Some(index) = at {
        run.push(pairs[index]);
        at = before[index];
    }
    run.reverse();
    run
}

/// The selectors that stand at the same place of kept rules, each pair once.
fn paired_selectors(rulesets: &[&Ruleset; 2], kept: &[(usize, usize)]) -> Vec<(SelectorId, SelectorId)> {
    let mut pairs = HashSet::new();
    for (a, b) in kept {
        let blocks = rulesets[0].rules[*a].blocks.iter().zip(&rulesets[1].rules[*b].blocks);
        for (old, new) in blocks {
            pairs.extend(old.sources.iter().copied().zip(new.sources.iter().copied()));
            let ends = old.destinations.iter().zip(&new.destinations);
            pairs.extend(ends.map(|((a, _), (b, _))| (*a, *b)));
        }
    }
    pairs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::longest_rising;

    #[test]
    fn the_longest_rising_run_is_found() {
        let pairs = |places: &[usize]| places.iter().copied().enumerate().collect::<Vec<_>>();
        let run =
            |places: &[usize]| longest_rising(&pairs(places)).into_iter().map(|(_, p)| p).collect::<Vec<_>>();
        assert_eq!(run(&[3, 0, 1, 4, 2]), [0, 1, 2]);
        assert_eq!(run(&[0, 1, 2]), [0, 1, 2]);
        assert_eq!(run(&[2, 1, 0]).len(), 1);
        assert_eq!(run(&[]), [0; 0]);
    }
}
