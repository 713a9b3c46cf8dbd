//! Decisions for whole classes at once: what a ruleset does between two classes of addresses,
//! for every class of ports.

use bulkhead_engine::layout::port_index;

use crate::bits::Bits;
use crate::policy::Action;
use crate::resolve::{Block, Ruleset};
use crate::service::{ICMP, ICMPV6, SCTP, TCP, UDP};
use crate::sweep::Sweep;

/// The (protocol, port) space in classes: all of a class are treated alike by every service of
/// some rulesets. Class 0 is in no service.
pub(crate) struct Ports {
    /// Points of each class, as ranges on the axis of `port_index`.
    pub(crate) ranges: Vec<Vec<(u32, u32)>>,
    /// For each ruleset, for each of its services, its classes.
    of: Vec<Vec<Vec<u32>>>,
}

impl Ports {
    pub(crate) fn new(rulesets: &[&Ruleset]) -> Self {
        let points: Vec<_> =
            rulesets.iter().flat_map(|ruleset| &ruleset.services).map(|service| service.points()).collect();
        let mut sweep = Sweep::new(points.len());
        let pieces = sweep.axis(points.iter().enumerate());
        let mut ranges = vec![Vec::new(); sweep.classes.len()];
        for piece in pieces {
            ranges[piece.class as usize].push((piece.first, piece.last));
        }
        let mut services = vec![Vec::new(); points.len()];
        for (class, members) in sweep.classes.iter().enumerate() {
            members.iter().for_each(|service| services[service].push(class as u32));
        }
        let mut services = services.into_iter();
        let of = rulesets.iter().map(|ruleset| services.by_ref().take(ruleset.services.len()).collect());
        Self { of: of.collect(), ranges }
    }

    /// Protocol and port of a packet of a class in one of the families, which have an ICMP each.
    pub(crate) fn packet(&self, class: usize, v4: bool) -> Option<(u8, u16)> {
        let other = if v4 { ICMPV6 } else { ICMP };
        let points = self.ranges[class].iter().map(|(first, _)| packet(*first));
        points.into_iter().find(|(protocol, _)| *protocol != other)
    }

    /// How many (protocol, port) a class has in one of the families.
    pub(crate) fn size(&self, class: usize, v4: bool) -> u128 {
        let other = port_index(if v4 { ICMPV6 } else { ICMP }, 0);
        let ranges = self.ranges[class].iter().filter(|range| **range != (other, other));
        ranges.map(|(first, last)| u128::from(last - first) + 1).sum()
    }

    /// How many classes there are.
    pub(crate) fn count(&self) -> usize {
        self.ranges.len()
    }
}

/// The protocol and the port of a point of the axis of [`port_index`].
fn packet(point: u32) -> (u8, u16) {
    let ported = [TCP, UDP, SCTP].into_iter().find(|protocol| point >> 16 == port_index(*protocol, 0) >> 16);
    match ported {
        Some(protocol) => (protocol, point as u16),
        None => (point as u8, 0),
    }
}

/// One ruleset over its classes of ports.
pub(crate) struct Decider<'a> {
    pub(crate) ruleset: &'a Ruleset,
    ports: &'a Ports,
    index: usize,
    /// For each selector, the blocks that it is a source of: rule and block.
    sources: Vec<Vec<(u32, u32)>>,
}

/// A rule's block whose sources hold a class.
pub(crate) type Candidate<'a> = (u32, &'a Block);

impl<'a> Decider<'a> {
    /// The ruleset that is number `index` of those that `ports` was made of.
    pub(crate) fn new(ruleset: &'a Ruleset, ports: &'a Ports, index: usize) -> Self {
        let mut sources = vec![Vec::new(); ruleset.selectors.len()];
        for (rule, blocks) in (0..).zip(ruleset.rules.iter().map(|rule| &rule.blocks)) {
            for (number, block) in (0..).zip(blocks) {
                block.sources.iter().for_each(|id| sources[id.0 as usize].push((rule, number)));
            }
        }
        Self { ruleset, ports, index, sources }
    }

    /// The blocks, in order, whose sources hold a class; `members` are its selectors.
    pub(crate) fn from(&self, members: &Bits) -> Vec<Candidate<'a>> {
        let mut blocks: Vec<(u32, u32)> =
            members.iter().flat_map(|selector| &self.sources[selector]).copied().collect();
        blocks.sort_unstable();
        blocks.dedup();
        let block =
            |(rule, number): (u32, u32)| (rule, &self.ruleset.rules[rule as usize].blocks[number as usize]);
        blocks.into_iter().map(block).collect()
    }

    /// A time and every later one at which a rule of some blocks ends: between two of them the
    /// blocks decide alike.
    pub(crate) fn times(&self, candidates: &[Candidate<'_>], now: u64) -> Vec<u64> {
        let ends = candidates.iter().filter_map(|(rule, _)| self.ruleset.rules[*rule as usize].expires);
        let mut times: Vec<u64> = ends.filter(|end| *end > now).chain([now]).collect();
        times.sort_unstable();
        times.dedup();
        times
    }

    /// The rule that decides in each class of ports, from blocks whose sources match to a class
    /// of destinations, at a time. `router` as in [`crate::reference::matches`].
    pub(crate) fn to(
        &self,
        candidates: &[Candidate<'a>],
        members: &Bits,
        router: Option<u32>,
        now: u64,
    ) -> Vec<Option<u32>> {
        let mut decided = vec![None; self.ports.count()];
        for (index, block) in candidates {
            let absent = self.ruleset.rules[*index as usize].expires.is_some_and(|end| now >= end);
            if absent || (block.via.is_some() && router.is_some() && block.via != router) {
                continue;
            }
            for (_, service) in block.destinations.iter().filter(|(id, _)| members.contains(id.0 as usize)) {
                for port in &self.ports.of[self.index][service.0 as usize] {
                    decided[*port as usize].get_or_insert(*index);
                }
            }
        }
        decided
    }

    /// The classes of ports that a block is about at a class of destinations.
    pub(crate) fn ports_of(&self, block: &'a Block, members: &Bits) -> impl Iterator<Item = usize> {
        let services = block.destinations.iter().filter(|(id, _)| members.contains(id.0 as usize));
        services.flat_map(|(_, id)| &self.ports.of[self.index][id.0 as usize]).map(|port| *port as usize)
    }

    /// Whether a rule admits.
    pub(crate) fn admits(&self, rule: Option<u32>) -> bool {
        rule.is_some_and(|index| self.ruleset.rules[index as usize].action == Action::Accept)
    }
}

/// How much a search may do before it is given up: seconds, not hours. A decision between two
/// classes takes a step for each block and each class of ports.
pub(crate) struct Work(u64);

impl Work {
    pub(crate) fn new() -> Self {
        Self(2_000_000_000)
    }

    /// Takes the steps of one decision; false if there are not so many left.
    pub(crate) fn take(&mut self, decider: &Decider<'_>, candidates: &[Candidate<'_>]) -> bool {
        let steps = (candidates.len() + decider.ports.count()) as u64;
        let left = self.0.checked_sub(steps);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}
