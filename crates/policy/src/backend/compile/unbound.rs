//! What the addresses of identities become while they are not bound to their keys: addresses that nobody has. No rule
//! counts for them, not even one that names the address or everybody; only management exemptions do, which are of
//! whoever has the address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bulkhead_abi::Leaf;

use super::classes::Classes;
use super::node::Sides;
use crate::bits::Bits;
use crate::frontend::inventory::{Inventory, Node};
use crate::resolve::{Ruleset, SelectorId};

/// The leaves of addresses that are not bound.
#[derive(Clone, Debug, Default)]
pub struct Unbound(BTreeMap<IpAddr, Leaf>);

impl Unbound {
    /// `merged`: the number in the tables of each column of the matrix.
    pub(super) fn new(exempt: Vec<(IpAddr, usize)>, merged: &[u32]) -> Self {
        Self(
            exempt
                .into_iter()
                .map(|(address, column)| (address, Leaf::new(0, merged[column], false)))
                .collect(),
        )
    }

    /// The leaf of an address while it is not bound.
    #[must_use]
    pub fn leaf(&self, address: IpAddr) -> Leaf {
        self.0.get(&address).copied().unwrap_or_default()
    }
}

/// Makes columns for the addresses of other nodes with keys that management exemptions are for, in which nothing but
/// these exemptions counts. Returns the column of each such address.
pub(super) fn exempt(
    ruleset: &Ruleset,
    sides: &Sides<'_>,
    classes: &mut Classes,
    node: &Node,
    inventory: &Inventory,
) -> Vec<(IpAddr, usize)> {
    let rules = ruleset.rules.iter().filter(|rule| rule.is_exempt());
    let sources = rules.flat_map(|rule| &rule.blocks).flat_map(|block| block.sources.iter().copied());
    let named: BTreeSet<SelectorId> = sources.collect();
    if named.is_empty() {
        return Vec::new();
    }
    // Set 0 of the remote side is 'known'.
    let sets: Vec<_> = (1..)
        .zip(&sides.remote_selectors)
        .filter(|(_, id)| named.contains(id))
        .map(|(number, id)| (number, &ruleset.selector(*id).set))
        .collect();
    // A workload's address is routed by its host's key.
    let is_proven = |other: &&Node| inventory.host_of(other).key.is_some() && other.host() != node.name;
    let others = inventory.nodes.iter().filter(is_proven);
    let addresses = others.flat_map(|other| other.addresses_on(ruleset.network));
    let mut columns = Vec::new();
    for address in addresses {
        let mut members = Bits::new(sides.remotes());
        let mut is_named = false;
        for (number, _) in sets.iter().filter(|(_, set)| set.contains(*address)) {
            members.insert(*number);
            is_named = true;
        }
        if is_named {
            columns.push((*address, classes.exempt_column(members)));
        }
    }
    columns
}
