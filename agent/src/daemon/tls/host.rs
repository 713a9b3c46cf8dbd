//! This host: its addresses and workloads, and what rules say of it.

use std::net::IpAddr;

use crate::daemon::state::Enforcer;
use crate::daemon::workloads;
use crate::tls::{Admitted, Counts, Host, Workload};

/// What is known.
pub(super) struct Known {
    /// The node.
    pub node: String,
    /// Where its sockets are.
    pub host: Host,
    /// What rules admit to it.
    pub admitted: Vec<Admitted>,
    /// What the kernel has counted.
    pub counts: Counts,
}

/// Looks. What runs is held for a moment.
pub(super) fn look(enforcer: &Enforcer) -> Known {
    // Before `live`, as every lock of looks.
    let workloads = workloads::status::report(&enforcer.setup).workloads;
    let workloads = workloads.into_iter().map(Workload::now).collect();
    let node = enforcer.setup.options.node.clone();
    let live = enforcer.live();
    let own = live.built.inventory.node(&node);
    let addresses: Vec<IpAddr> = own.map(|node| node.addresses.clone()).unwrap_or_default();
    let admitted = live.built.watched.admitted.clone();
    Known { node, host: Host { addresses, workloads }, admitted, counts: Counts::new() }
}
