//! Least privilege from what was observed: rules narrowed to their use, and a policy that admits what was seen.
//!
//! The unit is an identity: what was seen of one address of a node was seen of the node. An address that no node has
//! stands for itself.

mod draft;
mod narrow;
mod words;

pub use draft::{Draft, draft};
pub use narrow::{Axis, Narrowing, is_covered, narrow, seeing};

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::address::AddressSet;
use crate::frontend::inventory::{Inventory, Node};

/// One end of what was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A node: its index in the inventory.
    Node(u32),
    /// An address that no node has.
    Address(IpAddr),
}

/// A conversation that was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Observed {
    /// Who began.
    pub source: Party,
    /// With whom.
    pub destination: Party,
    /// IP protocol number.
    pub protocol: u8,
    /// The destination's port, host byte order; 0 for protocols without ports.
    pub port: u16,
}

impl Party {
    /// Whose an address was: the node that was recorded, by its name, whatever addresses it has today. Where none was,
    /// the address's holder.
    #[must_use]
    pub fn of(inventory: &Inventory, name: Option<&str>, address: IpAddr) -> Self {
        let holder = || inventory.holder(address).map(|node| node.name.as_str());
        let node = name.or_else(holder).and_then(|name| inventory.index(name));
        node.map_or(Self::Address(address), Self::Node)
    }

    fn node(self, inventory: &Inventory) -> Option<&Node> {
        match self {
            Self::Node(index) => inventory.nodes.get(index as usize),
            Self::Address(_) => None,
        }
    }

    /// Its addresses on the overlay.
    #[must_use]
    pub fn addresses(self, inventory: &Inventory) -> Vec<IpAddr> {
        match self {
            Self::Address(address) => vec![address],
            Self::Node(_) => self.node(inventory).map(|node| node.addresses.clone()).unwrap_or_default(),
        }
    }

    /// Whether it has an address in a set.
    fn is_in(self, inventory: &Inventory, set: &AddressSet) -> bool {
        match self {
            Self::Address(address) => set.contains(address),
            Self::Node(_) => self.node(inventory).is_some_and(|node| has_address_in(node, set)),
        }
    }

    /// Its name, for people.
    #[must_use]
    pub fn title(self, inventory: &Inventory) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Node(_) => self.node(inventory).map(|node| node.name.clone()).unwrap_or_default(),
        }
    }
}

fn has_address_in(node: &Node, set: &AddressSet) -> bool {
    node.addresses.iter().any(|address| set.contains(*address))
}

/// Nodes with an address in a set.
fn nodes_in(inventory: &Inventory, set: &AddressSet) -> BTreeSet<Party> {
    (0..)
        .zip(&inventory.nodes)
        .filter(|(_, node)| has_address_in(node, set))
        .map(|(index, _)| Party::Node(index))
        .collect()
}

fn addresses_of(inventory: &Inventory, parties: impl IntoIterator<Item = Party>) -> AddressSet {
    AddressSet::from_addresses(parties.into_iter().flat_map(|party| party.addresses(inventory)))
}
