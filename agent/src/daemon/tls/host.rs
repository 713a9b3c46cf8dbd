//! This host: its addresses and workloads, and what rules say of it.

use std::net::IpAddr;

use bulkhead_api::status::{RuleCount, TlsCount};
use bulkhead_api::tls::Flows;

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
    Known { node, host: Host { addresses, workloads }, admitted }
}

/// How flows began, by rule.
///
/// # Errors
/// If the kernel refuses.
pub(super) fn counts(enforcer: &Enforcer) -> anyhow::Result<Counts> {
    let live = enforcer.live();
    let counts = live.built.counts(enforcer.pins(), &live.folded)?;
    let of = |count: RuleCount| {
        let TlsCount { began, plaintext, unverified, .. } = count.tls?;
        Some((count.rule.number, Flows { began, plaintext, unverified }))
    };
    Ok(counts.into_iter().filter_map(of).collect())
}
