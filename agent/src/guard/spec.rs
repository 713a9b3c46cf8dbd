//! What the guard is to be.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bulkhead_policy::inventory::Node;

/// What the guard watches over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Names of the managed interfaces: those that they have, and those that they may come under.
    pub managed: BTreeSet<String>,
    /// Index and group of the devices whose packets may pass: they have programs attached, or get them now.
    pub attached: BTreeSet<(u32, u32)>,
    /// Names of those of them that lead to networks beneath the overlay: what the guard says of other interfaces holds
    /// there as well.
    pub underlay: BTreeSet<String>,
    /// The node's own overlay addresses, and its workloads': on other interfaces nothing may be to or from them.
    pub own: BTreeSet<IpAddr>,
    /// Other nodes' overlay addresses: on other interfaces nothing may come from them or leave for them.
    pub others: BTreeSet<IpAddr>,
    /// The netlink group that drops are logged to; none: they are counted only.
    pub log: Option<u16>,
}

impl Guard {
    /// What a node's guard knows of addresses: its own and its workloads', and the others'.
    pub fn of_node(nodes: &[Node], node: &str) -> Self {
        let (own, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|other| other.host() == node);
        let addresses =
            |nodes: Vec<&Node>| nodes.into_iter().flat_map(|node| node.addresses.clone()).collect();
        Self { own: addresses(own), others: addresses(others), ..Self::default() }
    }
}

/// The name of an instance's table.
pub fn table_name(instance: &str) -> String {
    format!("bulkhead-{instance}")
}
