//! What `status` tells of workloads.

use std::net::{IpAddr, UdpSocket};

use bulkhead_api::event::WorkloadState;
use bulkhead_api::status::Workload;

use super::found::Found;
use crate::daemon::setup::Setup;

/// The workloads of this host, and what is wrong with them.
pub struct Report {
    /// Each of them.
    pub workloads: Vec<Workload>,
    /// What somebody should know.
    pub warnings: Vec<String>,
    /// Why they are not known.
    pub problem: Option<String>,
}

/// What is known of workloads. Not while what runs is held: a look holds them the other way round.
pub fn report(setup: &Setup) -> Report {
    let (workloads, mut warnings) = setup.workloads.known(|wanted, found, warnings| {
        let each = wanted.each.iter().map(|workload| {
            let of = found.get(&workload.name).unwrap_or(&Found::NotRunning);
            let cgroup = match of {
                Found::Running(cgroup) => Some(cgroup.clone()),
                _ => None,
            };
            Workload {
                name: workload.name.clone(),
                addresses: workload.addresses.clone(),
                state: state(of),
                cgroup: cgroup.as_ref().map(|cgroup| cgroup.path.clone()),
                cgroup_id: cgroup.map(|cgroup| cgroup.id),
                problem: of.problem(&workload.name),
            }
        });
        (each.collect::<Vec<_>>(), warnings.to_vec())
    });
    for workload in &workloads {
        let missing = workload.addresses.iter().filter(|address| !is_here(**address));
        warnings.extend(missing.map(|address| {
            format!(
                "workload {}: its address {address} is not one of this host's, so that nothing reaches it; run `ip address \
                 add {address} dev lo`, and have it done at boot",
                workload.name
            )
        }));
    }
    if !workloads.is_empty() && !setup.config.has_local() {
        warnings.push(
            "what workloads of this host say to each other and to the host goes by lo, where nothing is judged: add \
             [[interface]] with name = \"lo\" and role = \"local\" to agent.toml"
                .to_owned(),
        );
    }
    Report { workloads, warnings, problem: setup.workloads.problem() }
}

/// As events and `status` have it.
pub(super) fn state(found: &Found) -> WorkloadState {
    match found {
        Found::Running(_) => WorkloadState::Running,
        Found::NotRunning => WorkloadState::NotRunning,
        Found::Several(_) | Found::Overlaps(..) => WorkloadState::Ambiguous,
    }
}

/// Whether an address is one of this host's: what is sent there comes from there. Nothing is sent.
fn is_here(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    connected.is_ok_and(|own| own.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn own_addresses_are_told_from_others() {
        assert!(is_here("127.0.0.1".parse().unwrap()) && is_here("::1".parse().unwrap()));
        assert!(!is_here("192.0.2.1".parse().unwrap()));
    }
}
