//! The space of addresses in classes: all of a class are treated alike by every rule.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::AddressSet;
use crate::analysis::equivalence::Sweep;
use crate::bits::Bits;
use crate::resolve::{Ruleset, SelectorId};

/// Addresses that the same selectors hold.
pub(crate) struct Class {
    pub(crate) members: Bits,
    pub(crate) v4: bool,
    /// The ends of its ranges: every node's address in it is one, for a node that no range
    /// around it holds, so that a class can be tried against itself.
    pub(crate) addresses: Vec<IpAddr>,
    /// How many addresses are in it.
    pub(crate) size: u128,
}

/// The space of addresses in classes: all of a class are treated alike by every rule, so one
/// pair of each two classes proves the rest.
pub(crate) struct Space {
    pub(crate) classes: Vec<Class>,
    /// For each selector, the classes in it.
    of: Vec<Vec<u32>>,
}

impl Space {
    pub(crate) fn new(ruleset: &Ruleset) -> Self {
        Self::of_sets(ruleset.selectors.iter().map(|selector| &selector.set))
    }

    /// The part of it that lies in a set.
    pub(crate) fn within(ruleset: &Ruleset, set: &AddressSet) -> Self {
        let parts = ruleset.selectors.iter().map(|selector| selector.set.intersection(set));
        Self::of_sets(parts.collect::<Vec<_>>().iter())
    }

    fn of_sets<'a>(sets: impl ExactSizeIterator<Item = &'a AddressSet> + Clone) -> Self {
        let selectors = sets.len();
        let mut sweep = Sweep::new(selectors);
        let sets = sets.enumerate();
        let pieces4 = sweep.axis(sets.clone().map(|(index, set)| (index, &set.v4)));
        let pieces6 = sweep.axis(sets.map(|(index, set)| (index, &set.v6)));
        let v4 = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
        let v6 = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
        let ends4 = pieces4.iter().map(|piece| {
            (piece.class, v4(piece.first), v4(piece.last), u128::from(piece.last - piece.first) + 1)
        });
        let ends6 = pieces6.iter().map(|piece| {
            (piece.class, v6(piece.first), v6(piece.last), (piece.last - piece.first).saturating_add(1))
        });
        let mut known: HashMap<(u32, bool), usize> = HashMap::new();
        let mut classes: Vec<Class> = Vec::new();
        for (number, first, last, size) in ends4.chain(ends6) {
            let index = *known.entry((number, first.is_ipv4())).or_insert_with(|| {
                let members = sweep.classes[number as usize].clone();
                classes.push(Class { members, v4: first.is_ipv4(), addresses: Vec::new(), size: 0 });
                classes.len() - 1
            });
            classes[index].size = classes[index].size.saturating_add(size);
            classes[index].addresses.push(first);
            if last != first {
                classes[index].addresses.push(last);
            }
        }
        let mut of = vec![Vec::new(); selectors];
        for (index, class) in (0..).zip(&classes) {
            class.members.iter().for_each(|selector| of[selector].push(index));
        }
        Self { classes, of }
    }

    /// The indices of the classes in a selector.
    pub(crate) fn indices(&self, selector: SelectorId) -> impl Iterator<Item = usize> {
        self.of[selector.0 as usize].iter().map(|index| *index as usize)
    }

    /// The classes in a selector.
    pub(crate) fn of(&self, selector: SelectorId) -> impl Iterator<Item = &Class> {
        self.indices(selector).map(|index| &self.classes[index])
    }
}
