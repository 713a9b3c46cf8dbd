//! Decisions for whole classes at once: what a ruleset does between two classes of addresses,
//! for every class of ports.

use bulkhead_abi::port_index;

use crate::analysis::equivalence::Sweep;
use crate::bits::Bits;
use crate::frontend::policy::Action;
use crate::resolve::{Block, Ruleset};
use crate::service::{ICMP, ICMPV6, SCTP, TCP, UDP};

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

/// What can decide about packets from a class.
pub(crate) struct Sources<'a> {
    /// The blocks, in order, whose sources hold it.
    pub(crate) blocks: Vec<Candidate<'a>>,
    /// A time and every later one at which a rule of them ends: between two they decide alike.
    pub(crate) times: Vec<u64>,
    /// The blocks that one router carries.
    via: Vec<&'a Block>,
}

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

    /// What can decide about packets from a class from a time on; `members` are its selectors.
    pub(crate) fn sources(&self, members: &Bits, now: u64) -> Sources<'a> {
        let blocks = self.from(members);
        let times = self.times(&blocks, now);
        let via = blocks.iter().map(|(_, block)| *block).filter(|block| block.via.is_some()).collect();
        Sources { blocks, times, via }
    }

    /// A time and every later one at which a rule of some blocks ends.
    pub(crate) fn times(&self, candidates: &[Candidate<'_>], now: u64) -> Vec<u64> {
        let ends = candidates.iter().filter_map(|(rule, _)| self.ruleset.rules[*rule as usize].expires);
        let mut times: Vec<u64> = ends.filter(|end| *end > now).chain([now]).collect();
        times.sort_unstable();
        times.dedup();
        times
    }

    /// The rule that decides in each class of ports, from blocks whose sources match to a class
    /// of destinations, at a time. `router` as in [`crate::analysis::reference::matches`].
    pub(crate) fn to(
        &self,
        candidates: &[Candidate<'a>],
        members: &Bits,
        router: Option<u32>,
        now: u64,
    ) -> Vec<Option<u32>> {
        let mut decided = vec![None; self.ports.count()];
        // Class 0 is in no service.
        let mut left = decided.len() - 1;
        for candidate in candidates {
            if left == 0 {
                break;
            }
            if !self.applies(candidate, router, now) {
                continue;
            }
            let (index, block) = candidate;
            for (_, service) in block.destinations.iter().filter(|(id, _)| members.contains(id.0 as usize)) {
                for port in &self.ports.of[self.index][service.0 as usize] {
                    let undecided = &mut decided[*port as usize];
                    if undecided.is_none() {
                        *undecided = Some(*index);
                        left -= 1;
                    }
                }
            }
        }
        decided
    }

    /// Takes out of some classes of ports those that rules before one decide.
    pub(crate) fn decided_before(
        &self,
        rule: u32,
        candidates: &[Candidate<'a>],
        members: &Bits,
        (router, now): (Option<u32>, u64),
        ports: &mut Vec<usize>,
    ) {
        for candidate in candidates.iter().take_while(|(earlier, _)| *earlier < rule) {
            if ports.is_empty() {
                return;
            }
            if !self.applies(candidate, router, now) {
                continue;
            }
            let there = candidate.1.destinations.iter().filter(|(id, _)| members.contains(id.0 as usize));
            for (_, service) in there {
                let decided = &self.ports.of[self.index][service.0 as usize];
                ports.retain(|port| decided.binary_search(&(*port as u32)).is_err());
            }
        }
    }

    /// Whether a block counts at a router at a time.
    fn applies(&self, (rule, block): &Candidate<'_>, router: Option<u32>, now: u64) -> bool {
        self.ruleset.rules[*rule as usize].expires.is_none_or(|end| now < end)
            && (block.via.is_none() || router.is_none() || block.via == router)
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

impl Sources<'_> {
    /// The routers at which they may decide differently about a class of destinations: nowhere in
    /// particular; if `via` names some, at one that it does not name, and at each of them.
    pub(crate) fn routers(&self, members: &Bits) -> Vec<Option<u32>> {
        let leads = |block: &Block| block.destinations.iter().any(|(id, _)| members.contains(id.0 as usize));
        let via = self.via.iter().filter(|block| leads(block));
        let mut routers: Vec<Option<u32>> = via.map(|block| block.via).collect();
        if !routers.is_empty() {
            routers.push(Some(u32::MAX));
            routers.sort_unstable();
            routers.dedup();
        }
        routers.insert(0, None);
        routers
    }
}

impl Work {
    pub(crate) fn new() -> Self {
        Self(2_000_000_000)
    }

    /// Takes some steps; false if there are not so many left.
    pub(crate) fn take(&mut self, steps: usize) -> bool {
        let left = self.0.checked_sub(steps as u64);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}
