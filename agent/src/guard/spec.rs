//! What the guard is to be.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// What the guard watches over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Names of the managed interfaces: those that they have, and those that they may come under.
    pub managed: BTreeSet<String>,
    /// Index and group of the devices whose packets may pass: they have programs attached, or get them now.
    pub attached: BTreeSet<(u32, u32)>,
    /// The node's own overlay addresses: on other interfaces nothing may be to or from them.
    pub own: BTreeSet<IpAddr>,
    /// Other nodes' overlay addresses: on other interfaces nothing may come from them or leave for them.
    pub others: BTreeSet<IpAddr>,
    /// The netlink group that drops are logged to; none: they are counted only.
    pub log: Option<u16>,
}

/// The name of an instance's table.
pub fn table_name(instance: &str) -> String {
    format!("bulkhead-{instance}")
}
