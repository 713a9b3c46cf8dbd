//! What a node's agent must know of its workloads beside the tables.

use std::net::IpAddr;

use bulkhead_abi::Workload;
use ipnet::IpNet;

use super::classes::Classes;
use super::node::Sides;
use crate::frontend::inventory::{Matches, Network, Node};

/// The workloads of a node, as its tables number them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// Each; its place is [`bulkhead_abi::Workload::number`].
    pub each: Vec<CompiledWorkload>,
    /// The host's own overlay addresses, which are no workload's. No workload may send from one. Empty if the node has
    /// no workloads.
    pub host: Vec<IpAddr>,
    /// Where a workload must send from its own address: whoever the inventory knows, and what they route (but no route
    /// to everywhere), as the fewest prefixes. Empty if the node has no workloads. Of the tables of `lo` there are only
    /// own addresses here.
    pub overlay: Vec<IpNet>,
}

/// One workload of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledWorkload {
    /// `HOST/WORKLOAD`.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its local classes in these tables: the entries of [`bulkhead_engine::memory::Tables::workloads`] in which the
    /// agent puts its cgroup. No other workload has one of them, nor has the host.
    pub classes: Vec<u32>,
    /// Which cgroups it is.
    pub matches: Matches,
}

/// Whose each local class is, with place 0 for what is not local. None is anybody's yet who runs.
pub(super) fn table(sides: &Sides<'_>, classes: &Classes) -> Vec<Workload> {
    let of = |members| {
        sides.workload_of(members).map_or(Workload::NONE, |place| Workload::not_running(place as u32))
    };
    let mut table = vec![Workload::NONE];
    table.extend(classes.locals.iter().map(of));
    table.resize(table.len().max(2), Workload::NONE);
    table
}

pub(super) fn workloads(sides: &Sides<'_>, classes: &Classes, host: &Node, network: Network) -> Workloads {
    if sides.workloads.is_empty() {
        return Workloads::default();
    }
    let classes_of = |place: usize| {
        let numbered = (1..).zip(&classes.locals);
        numbered.filter(|(_, of)| sides.workload_of(of) == Some(place)).map(|(class, _)| class).collect()
    };
    let each = sides.workloads.iter().enumerate().filter_map(|(place, (node, _))| {
        Some(CompiledWorkload {
            name: node.name.clone(),
            addresses: node.addresses_on(network).to_vec(),
            classes: classes_of(place),
            matches: node.workload.as_ref()?.matches.clone(),
        })
    });
    Workloads {
        each: each.collect(),
        host: host.addresses_on(network).to_vec(),
        overlay: sides.known.prefixes(),
    }
}
