//! A policy from what the demo's hosts do while nothing is enforced.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bulkhead_testkit::lab::{self, Lab, Probe, slower};

use super::agents::Agents;
use super::plan::{Firm, Phase};
use super::stop::Stop;
use super::{PATIENCE, say};

/// Lets hosts do all that the policy admits, in audit mode under a policy that admits nothing, and writes down what
/// `bulkhead suggest` makes of their histories.
pub fn suggested(lab: &Lab, firm: &Firm, bulkhead: &Path, inventory: &Path, stop: &Stop) -> Result<PathBuf> {
    let nothing = lab.directory().join("nothing.hujson");
    fs::write(&nothing, "{\"acls\": []}\n")?;
    let mut agents = Agents::start(lab, bulkhead, &nothing, inventory, "audit", stop)?;
    say("audit mode, under a policy that admits nothing; every host does what the firm's policy admits");
    for host in lab.hosts() {
        let attempts = firm.attempts(&host.name, Phase::Everywhere)?.into_iter();
        let probes: Vec<Probe> = attempts
            .filter(|attempt| attempt.drop.is_none())
            .map(|attempt| Probe {
                to: SocketAddr::new(attempt.address, attempt.port),
                protocol: attempt.protocol,
            })
            .collect();
        lab::probe_all(&host.namespace, &probes, slower(PATIENCE))?;
        stop.check()?;
    }
    let policy = lab.directory().join("suggested.hujson");
    let text = agents.suggest(&nothing, inventory)?;
    eprintln!("{text}");
    fs::write(&policy, text)?;
    Ok(policy)
}
