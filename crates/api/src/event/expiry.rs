//! What ends at a time that is known before, and how near that is.

use serde::{Deserialize, Serialize};

use super::control::names;

names! {
    /// What ends.
    Expiring {
        /// A rule of the policy, by its `expires`.
        Rule "rule",
        /// The key of a node, by the inventory's `expires` or what a source says.
        NodeKey "node_key",
        /// A workload, by an `expires` of its own.
        Workload "workload",
        /// An X.509 certificate.
        Certificate "certificate",
        /// A grant. It ends by design: nobody is alarmed.
        Grant "grant",
    }
}

names! {
    /// How near the end is.
    ExpiryLevel {
        /// Not near.
        Ok "ok",
        /// It is to be renewed: by default within 7 days.
        Warning "warning",
        /// It is to be renewed at once: by default within 24 hours.
        Critical "critical",
        /// It has been.
        Expired "expired",
    }
}
