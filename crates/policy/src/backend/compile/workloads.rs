//! What a node's agent must know of its workloads beside the tables.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::frontend::inventory::Matches;

/// The workloads of a node, as its tables number them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    /// Each; its place is [`bulkhead_abi::Workload::number`].
    pub each: Vec<CompiledWorkload>,
    /// The host's own overlay addresses, which are no workload's. No workload may send from one. Empty if the node has
    /// no workloads.
    pub host: Vec<IpAddr>,
    /// Where a workload must send from its own address: whoever the inventory knows, and what they route (but no route
    /// to everywhere), as the fewest prefixes. Empty if the node has no workloads.
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
