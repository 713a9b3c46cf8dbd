//! What a change takes away, as far as tables that run can end it at once, before those that replace them are there.
//!
//! Nothing that the new rules admit is named: each of these stores only takes away, so any of them may be made, in any
//! order, and what runs meanwhile admits no more than either set of rules does.

use std::collections::HashSet;
use std::net::IpAddr;

use bulkhead_abi::{CELL_ALLOW, CELL_EXEMPT};

use super::Program;
use crate::address::AddressSet;
use crate::frontend::inventory::{Inventory, Network};
use crate::frontend::policy::Action;
use crate::interval::Intervals;
use crate::resolve::fingerprint::text;
use crate::resolve::{Block, Rule, Ruleset};

/// Pairs of an old and a new rule that are compared. What is beyond them ends with the tables.
const PAIRS: usize = 20_000;

/// Addresses that are named. Those beyond them end with the tables.
const ADDRESSES: usize = 10_000;

/// What tables were compiled from, as far as it is asked what a later policy takes away of it.
#[derive(Clone, Debug)]
pub struct Basis {
    ruleset: Ruleset,
    /// The rules that cells name, from `first` on: indices into the ruleset's.
    rules: Vec<usize>,
    first: u32,
    /// Cells that admit, and the rules that they name.
    admitting: Vec<(u32, u32)>,
    /// Cells below this number are of rows, in each of which there is one a port class.
    in_rows: u32,
    port_classes: u32,
    /// First and last point of the axis of ports, and the class that these have.
    ports: Vec<(u32, u32, u16)>,
}

/// What running tables can end at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Addresses that nobody has any more and that no rule names.
    pub addresses: Vec<IpAddr>,
    /// Points of the axis of ports, first and last, at which nobody is admitted any more: they may be in class 0.
    pub ports: Vec<(u32, u32)>,
    /// Cells of which no packet is admitted any more.
    pub cells: Vec<u32>,
}

impl Basis {
    /// Of a program whose cells number its rules from `first` on.
    #[must_use]
    pub fn new(ruleset: Ruleset, program: &Program, first: u32) -> Self {
        let tables = &program.tables;
        let admits = |flags: u8, action: u8| action == CELL_ALLOW && flags & CELL_EXEMPT == 0;
        let admitting = (0..).zip(&tables.cells).filter(|(_, cell)| admits(cell.flags, cell.action));
        let admitting = admitting.map(|(index, cell)| (index, cell.rule)).collect();
        let mut ports: Vec<(u32, u32, u16)> = Vec::new();
        for (point, class) in (0..).zip(tables.ports.as_flattened()) {
            match ports.last_mut() {
                Some((_, last, of)) if of == class => *last = point,
                _ => ports.push((point, point, *class)),
            }
        }
        let in_rows = program.rows as u32 * tables.port_classes;
        let rules = program.rules.clone();
        Self { ruleset, rules, first, admitting, in_rows, port_classes: tables.port_classes, ports }
    }

    /// What new rules take away of what these admit, where nodes of `before` were.
    #[must_use]
    pub fn withdrawn(&self, before: &Inventory, (rules, after): (&Ruleset, &Inventory)) -> Withdrawn {
        let addresses = self.addresses(before, rules, after);
        let left = self.left(rules);
        Withdrawn { addresses, ports: self.points(&left), cells: self.cells(&left) }
    }

    /// Keys say whose addresses of the overlay are, which is where nodes come and go.
    fn addresses(&self, before: &Inventory, rules: &Ruleset, after: &Inventory) -> Vec<IpAddr> {
        if self.ruleset.network != Network::Overlay {
            return Vec::new();
        }
        let all = before.nodes.iter().flat_map(|node| node.addresses_on(self.ruleset.network));
        let is_named = |address| rules.selectors.iter().any(|selector| selector.set.contains(address));
        let gone = all.copied().filter(|address| after.holder(*address).is_none() && !is_named(*address));
        gone.take(ADDRESSES).collect()
    }

    /// Of each rule at which points something may be admitted by new rules; none if that is not known.
    fn left(&self, after: &Ruleset) -> Vec<Option<Intervals<u32>>> {
        let texts = |of: &Ruleset| (0..of.rules.len()).map(|rule| text(of, rule)).collect::<Vec<_>>();
        let (old, new) = (texts(&self.ruleset), texts(after));
        let denies = after.rules.iter().zip(&new).filter(|(rule, _)| rule.action == Action::Deny);
        let known: HashSet<&String> = old.iter().collect();
        let is_denied_more = { denies }.any(|(_, text)| !known.contains(text));
        let kept: HashSet<&String> = new.iter().collect();
        let mut pairs = PAIRS;
        let of_rule = |index: &usize| {
            let rule = &self.ruleset.rules[*index];
            let is_asked = rule.action == Action::Accept && (is_denied_more || !kept.contains(&old[*index]));
            // A management exemption is the agent's configuration, which no policy changes.
            if !is_asked || rule.is_exempt() || pairs < after.rules.len() {
                return None;
            }
            pairs -= after.rules.len();
            Some(admitted(&self.ruleset, rule, after))
        };
        self.rules.iter().map(of_rule).collect()
    }

    /// The points at which no rule admits anybody any more.
    fn points(&self, left: &[Option<Intervals<u32>>]) -> Vec<(u32, u32)> {
        let rules = || self.rules.iter().map(|rule| &self.ruleset.rules[*rule]).zip(left);
        let all = |rule| points(&self.ruleset, rule).as_slice().to_vec();
        let asked = rules().filter(|(_, left)| left.is_some()).flat_map(|(rule, _)| all(rule));
        let admitted = rules().filter(|(rule, _)| rule.action == Action::Accept).flat_map(|(rule, left)| {
            left.as_ref().map_or_else(|| all(rule), |left| left.as_slice().to_vec())
        });
        let admitted = Intervals::new(admitted.collect());
        Intervals::new(asked.collect()).minus(&admitted).as_slice().to_vec()
    }

    /// The cells that admit nobody any more.
    fn cells(&self, left: &[Option<Intervals<u32>>]) -> Vec<u32> {
        let classes: Vec<_> = left.iter().map(|left| left.as_ref().map(|left| self.classes(left))).collect();
        let is_over = |(index, rule): &(u32, u32)| {
            let left = rule.checked_sub(self.first).and_then(|rule| classes.get(rule as usize)?.as_ref());
            left.is_some_and(|left| match index {
                index if *index < self.in_rows => !left.contains(&((index % self.port_classes) as u16)),
                // Of any port class.
                _ => left.is_empty(),
            })
        };
        self.admitting.iter().filter(|cell| is_over(cell)).map(|(index, _)| *index).collect()
    }

    /// The port classes that points are in.
    fn classes(&self, points: &Intervals<u32>) -> HashSet<u16> {
        let runs = self.ports.iter();
        let runs = runs.filter(|(first, last, _)| points.intersects(&Intervals::new(vec![(*first, *last)])));
        runs.map(|(_, _, class)| *class).collect()
    }
}

/// A rule's services, as points of the axis of ports.
fn points(ruleset: &Ruleset, rule: &Rule) -> Intervals<u32> {
    let services = rule.blocks.iter().flat_map(|block| &block.destinations);
    let points = services.flat_map(|(_, service)| ruleset.service(*service).points().as_slice().to_vec());
    Intervals::new(points.collect())
}

/// The services, as points of the axis of ports, by which something that a rule admits may be admitted by new rules.
fn admitted(before: &Ruleset, rule: &Rule, after: &Ruleset) -> Intervals<u32> {
    let set = |id| &before.selector(id).set;
    let ends = || rule.blocks.iter().flat_map(|block| &block.destinations);
    let sources = union(rule.blocks.iter().flat_map(|block| &block.sources).map(|id| set(*id)));
    let destinations = union(ends().map(|(id, _)| set(*id)));
    // What no rule has decided yet, and what one admits.
    let mut open = points(before, rule);
    let mut admitted = Intervals::default();
    for rule in &after.rules {
        if open.is_empty() {
            break;
        }
        let set = |id| &after.selector(id).set;
        for Block { sources: from, destinations: to, .. } in &rule.blocks {
            match rule.action {
                Action::Accept if from.iter().any(|id| set(*id).intersects(&sources)) => {
                    for (_, service) in to.iter().filter(|(id, _)| set(*id).intersects(&destinations)) {
                        let both = open.intersection(&after.service(*service).points());
                        open = open.minus(&both);
                        admitted = admitted.union(&both);
                    }
                }
                // One that ends, or is about less, leaves to others what they admit.
                Action::Deny if rule.expires.is_none() => {
                    let all = union(from.iter().map(|id| set(*id)));
                    if !is_within(&sources, &all) {
                        continue;
                    }
                    for (_, service) in to.iter().filter(|(id, _)| is_within(&destinations, set(*id))) {
                        open = open.minus(&after.service(*service).points());
                    }
                }
                _ => {}
            }
        }
    }
    admitted
}

fn is_within(some: &AddressSet, all: &AddressSet) -> bool {
    some.minus(all).is_empty()
}

fn union<'s>(sets: impl Iterator<Item = &'s AddressSet> + Clone) -> AddressSet {
    AddressSet {
        v4: Intervals::new(sets.clone().flat_map(|set| set.v4.as_slice()).copied().collect()),
        v6: Intervals::new(sets.flat_map(|set| set.v6.as_slice()).copied().collect()),
    }
}
