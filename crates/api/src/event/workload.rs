//! Which cgroup a workload of this host is.

use serde::{Deserialize, Serialize};

use super::control::names;

/// Which cgroup a workload of this host is has changed, and with it whose sockets use its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkloadChange {
    /// `HOST/WORKLOAD`.
    pub workload: String,
    /// What holds now, such as `running`.
    pub state: WorkloadState,
    /// The path of its cgroup below the root of cgroup2, if it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// That cgroup's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// Why nobody has its addresses, where something is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The generation that is enforced.
    pub generation: u32,
}

names! {
    /// Whether a workload has a cgroup.
    WorkloadState {
        /// One cgroup is it, and alone uses its addresses.
        Running "running",
        /// No cgroup matches: nobody uses its addresses.
        NotRunning "not_running",
        /// Several match, or one that is another workload's as well: nobody uses its addresses.
        Ambiguous "ambiguous",
    }
}
