//! The space of addresses in classes: all of a class are treated alike by every rule.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bits::Bits;
use crate::resolve::{Ruleset, SelectorId};
use crate::sweep::Sweep;

/// Addresses that the same selectors hold: two of them, so that a class of several nodes can
/// be tried against itself.
pub(crate) struct Class {
    pub(crate) members: Bits,
    pub(crate) v4: bool,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The space of addresses in classes: all of a class are treated alike by every rule, so one
/// pair of each two classes proves the rest.
pub(crate) struct Space(pub(crate) Vec<Class>);

impl Space {
    pub(crate) fn new(ruleset: &Ruleset) -> Self {
        let mut sweep = Sweep::new(ruleset.selectors.len());
        let selectors = ruleset.selectors.iter().enumerate();
        let pieces4 = sweep.axis(selectors.clone().map(|(index, selector)| (index, &selector.set.v4)));
        let pieces6 = sweep.axis(selectors.map(|(index, selector)| (index, &selector.set.v6)));
        let ends4 = pieces4.iter().map(|piece| {
            let address = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
            (piece.class, address(piece.first), address(piece.last))
        });
        let ends6 = pieces6.iter().map(|piece| {
            let address = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
            (piece.class, address(piece.first), address(piece.last))
        });
        let mut classes: HashMap<(u32, bool), (IpAddr, IpAddr)> = HashMap::new();
        for (class, first, last) in ends4.chain(ends6) {
            classes.entry((class, first.is_ipv4())).or_insert((first, last)).1 = last;
        }
        let mut all: Vec<_> = classes.into_iter().collect();
        all.sort_unstable();
        let class = |((class, v4), (first, last)): ((u32, bool), (IpAddr, IpAddr))| Class {
            members: sweep.classes[class as usize].clone(),
            v4,
            addresses: if first == last { vec![first] } else { vec![first, last] },
        };
        Self(all.into_iter().map(class).collect())
    }

    pub(crate) fn of(&self, selector: SelectorId) -> impl Iterator<Item = &Class> {
        self.0.iter().filter(move |class| class.members.contains(selector.0 as usize))
    }
}
