//! Whether a host with workloads can hold them to their addresses.

use bulkhead_api::event::WorkloadState;
use bulkhead_api::status::Status;
use bulkhead_policy::inventory::Inventory;

use super::{Finding, Level, Patient};
use crate::daemon::workloads::mount_point;

const CHECK: &str = "workloads";

/// What is found of the workloads that the inventory has for a node; nothing if it has none.
pub(super) fn examine(patient: &Patient, inventory: &Inventory, status: &Status) -> Vec<Finding> {
    let node = patient.config.node.as_deref().unwrap_or_default();
    let count = inventory.workloads_of(node).count();
    if count == 0 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let Err(error) = mount_point() {
        let next = "they are cgroups of cgroup2, which systemd mounts unless the kernel's command line says otherwise";
        findings.push(Finding::new(CHECK, Level::Problem, error.to_string(), next));
    }
    if !patient.config.has_local() {
        findings.push(Finding::new(
            CHECK,
            Level::Warning,
            "what workloads of this host say to each other and to the host is not judged",
            "add [[interface]] with name = \"lo\" and role = \"local\" to agent.toml",
        ));
    }
    if !patient.config.refuse_bypass_to_all {
        findings.push(Finding::new(
            CHECK,
            Level::Note,
            "a process with CAP_NET_RAW that is no workload can send around the programs, as a workload too",
            "where nothing on this host needs AF_XDP or PACKET_QDISC_BYPASS, set refuse_bypass = \"all\" in [workloads]",
        ));
    }
    let running = status.agent.iter().flat_map(|agent| &agent.workloads);
    let running = running.filter(|workload| workload.state == WorkloadState::Running).count();
    if status.agent.is_some() {
        findings.push(Finding::ok(CHECK, format!("{running} of {count} run")));
    }
    findings
}
