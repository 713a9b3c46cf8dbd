//! One identity more: what to store in tables that are there already.

use std::net::IpAddr;

use bulkhead_abi::{Leaf, from_ip};
use bulkhead_engine::change::{Unchanged, change};
use bulkhead_engine::leaf_of;
use bulkhead_engine::memory::Tables;

use crate::backend::evaluate::environment;
use crate::frontend::inventory::{Inventory, Node};
use crate::resolve::{By, Ruleset};

/// How many nodes that are the same identity are tried for one that the rules do not tell from
/// the new one.
const CANDIDATES: usize = 64;

/// What to store in one node's tables so that they hold for an inventory with one node more: the
/// leaf of each of its addresses. `None` if that does not say it all, and the tables have to be
/// compiled anew.
///
/// `ruleset` and `tables` are of the inventory without the new node. A node that no rule tells
/// from one that is there (same user or tags, posture and expiry, jailed or not, and addresses that lie in the
/// same prefixes) has that one's classes: rows, ports and cells stay as they are, and whatever was
/// proven of the rules holds with it.
#[must_use]
pub fn added(
    ruleset: &Ruleset,
    inventory: &Inventory,
    tables: &Tables,
    new: &Node,
) -> Option<Vec<(IpAddr, Leaf)>> {
    let addresses = new.addresses_on(ruleset.network);
    let claimed = new.addresses.iter().chain(&new.underlay);
    if !new.routes.is_empty() || new.workload.is_some() || inventory.index(&new.name).is_some() {
        return None;
    }
    for address in claimed {
        // What a venue or somebody's route holds would be the node's from now on.
        let guarded = |id| ruleset.selector(id).set.contains(*address);
        if inventory.holder(*address).is_some() || ruleset.venues.iter().any(|venue| guarded(venue.addresses))
        {
            return None;
        }
        if is_routed(inventory, *address) {
            return None;
        }
    }
    let environment = environment(tables, 0);
    let same = inventory.owned_by(&new.owner).filter(|node| is_same(node, new)).take(CANDIDATES);
    for twin in same {
        let stores = addresses.iter().map(|address| {
            let own = twin.addresses_on(ruleset.network).iter();
            let mut own = own.copied().filter(|other| !is_routed(inventory, *other));
            let other = own.find(|other| alike(ruleset, *address, *other))?;
            let version = if other.is_ipv4() { 4 } else { 6 };
            let leaf = leaf_of(&environment, version, &from_ip(other)).ok()?;
            (!leaf.own()).then_some((*address, leaf.with_quarantine(false)))
        });
        if let Some(stores) = stores.collect() {
            return Some(stores);
        }
    }
    None
}

/// Whether somebody routes an address, whoever holds it. The internet behind an exit is no route.
fn is_routed(inventory: &Inventory, address: IpAddr) -> bool {
    let mut routes = inventory.routers().flat_map(|node| &node.routes);
    routes.any(|net| net.prefix_len() > 0 && net.contains(&address))
}

/// Whether two nodes of one owner are the same to everything but addresses. One that routes is more
/// than that.
fn is_same(node: &Node, new: &Node) -> bool {
    node.expires == new.expires
        && node.jailed == new.jailed
        && node.workload.is_none()
        && node.routes.is_empty()
        && node.posture == new.posture
}

/// Whether no selector tells two addresses of the same identity apart.
fn alike(ruleset: &Ruleset, new: IpAddr, other: IpAddr) -> bool {
    new.is_ipv4() == other.is_ipv4()
        && ruleset.selectors.iter().filter(|selector| selector.by == By::Address).all(|selector| {
            let set = selector.narrowed.as_ref().map_or(&selector.set, |narrowed| &narrowed.from);
            set.contains(new) == set.contains(other)
        })
}

/// Stores leaves in tables that no program reads.
///
/// # Errors
/// If the trie is broken, or the host table cannot hold an address at any size.
pub fn store(tables: &mut Tables, stores: &[(IpAddr, Leaf)]) -> Result<(), Unchanged> {
    stores.iter().try_for_each(|(address, leaf)| change(tables, *address, |_| *leaf))
}
