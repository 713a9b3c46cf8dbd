//! `cargo xtask demo --fleet`: one policy for twenty hosts over three servers that nobody has to believe.
//!
//! Hosts are network namespaces joined by WireGuard, each with its own agent; servers are real ones of NATS with TLS. People
//! sign a change, hosts enforce it; a version that breaks what some hosts run is stopped by these; a host is removed. All
//! by the commands that a firm would use.

mod directory;
mod hosts;
mod latency;
mod servers;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bulkhead_testkit::lab::{self, EchoServers, Lab, Outcome, Probe, Protocol, slower};

use self::directory::Directory;
use self::hosts::{count, names};
use self::servers::Servers;
use super::agents::{self, Agents};
use super::say;
use super::stop::Stop;

/// What it may take after the build.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// What hosts may take for one change.
const CHANGE: Duration = Duration::from_secs(20);

/// How long a client waits for its answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// What applications ask their databases, and what was only of use once.
const DATABASE: u16 = 5432;
const EXPORTER: u16 = 9100;

/// The host that is removed.
const REMOVED: &str = "app-10";

pub(super) use latency::{Figures, LIMIT as LATENCY_LIMIT, measure};

/// Everything that makes hosts and removes them again.
pub(super) fn show(bulkhead: &Path, stop: &Stop) -> Result<()> {
    agents::sweep();
    say("20 hosts, and WireGuard between them");
    let mut lab = Lab::new("fleet")?;
    for name in names() {
        lab.add_host(&name, &[hosts::address(&name)?])?;
        stop.check()?;
    }
    lab.mesh(bulkhead)?;
    stop.check()?;
    let _echoes = (lab.hosts().iter())
        .map(|host| EchoServers::start(&host.namespace, &[DATABASE, EXPORTER], &[EXPORTER]))
        .collect::<Result<Vec<_>>>()?;

    say("two of three people sign a policy, the enroller signs who there is");
    let directory = Directory::begin(&lab, bulkhead)?;
    directory.sign_first(&hosts::policy(&[DATABASE, EXPORTER]), &hosts::inventory(&lab)?)?;
    directory.run(&["publish", directory.path(), "--key", "online"])?;

    say("three servers, and a collector");
    let servers = Servers::start(&mut lab, &directory, bulkhead)?;
    servers.push(&directory)?;
    stop.check()?;

    let mut agents = Agents::each(&lab, bulkhead, |host| {
        let file = hosts::configure(&lab, host, &directory, &servers)?;
        Ok(vec!["run".to_owned(), "--config".to_owned(), file])
    })?;
    agents.wait(&lab, slower(Duration::from_secs(60)), false, stop)?;
    everywhere(&agents, &all(), 1, stop)?;
    ensure!(asks(&lab, "app-01", "db-01", EXPORTER)?, "what version 1 admits passes");
    say("all hosts enforce version 1 of the fleet's policy");

    change(&lab, &directory, &servers, &agents, stop)?;
    canary(&lab, &directory, &servers, &agents, stop)?;
    remove(&lab, &directory, &servers, stop)?;

    say("how all hosts stand, by the evidence that they have sent");
    print!("{}", servers.status(&directory)?);
    print!("{}", servers.verify(&directory, "db-01")?);
    // Agents, collector and servers end, and the hosts go, in this order.
    drop(agents);
    Ok(())
}

/// A signed change: a port is closed everywhere.
fn change(lab: &Lab, directory: &Directory, servers: &Servers, agents: &Agents, stop: &Stop) -> Result<()> {
    say("a change: nobody asks the exporters any more");
    directory.diff(&hosts::policy(&[DATABASE]))?;
    directory.sign_policy(&hosts::policy(&[DATABASE]))?;
    directory.run(&["publish", directory.path(), "--key", "online"])?;
    let begun = Instant::now();
    servers.push(directory)?;
    let until = begun + slower(CHANGE);
    while asks(lab, "app-01", "db-01", EXPORTER)? {
        stop.check()?;
        ensure!(Instant::now() < until, "what version 2 does not admit passes still");
    }
    let first = begun.elapsed();
    everywhere(agents, &all(), 2, stop)?;
    ensure!(asks(lab, "app-01", "db-01", DATABASE)?, "what version 2 admits passes");
    say(&format!(
        "app-01 is dropped {:.2} s after `fleet push` began; all 20 hosts enforce version 2",
        first.as_secs_f32()
    ));
    Ok(())
}

/// A version that somebody should not have signed: applications cannot reach their databases.
fn canary(lab: &Lab, directory: &Directory, servers: &Servers, agents: &Agents, stop: &Stop) -> Result<()> {
    say("a mistake, signed: port 5433 in place of 5432, for 20 % of the hosts first");
    directory.sign_policy(&hosts::policy(&[DATABASE + 1]))?;
    let (is_done, said) = servers.roll_out(directory, "8s")?;
    print!("{said}");
    ensure!(!is_done && said.contains("went back from version 3"), "the rollout was not stopped: {said}");
    stop.check()?;
    let until = Instant::now() + slower(CHANGE);
    while !asks(lab, "app-07", "db-02", DATABASE)? {
        stop.check()?;
        ensure!(Instant::now() < until, "app-07 has not gone back");
    }
    let bad = count(agents, &all(), ("policy", 3))?;
    say(&format!(
        "the applications' hosts went back by themselves and work; version 3 stays on {bad} databases"
    ));
    say("version 4 is what version 2 was: a fifth of the hosts first, and all once these are well");
    directory.sign_policy(&hosts::policy(&[DATABASE]))?;
    let (is_done, said) = servers.roll_out(directory, "2s")?;
    print!("{said}");
    ensure!(is_done, "the rollout has not come to its end: {said}");
    everywhere(agents, &all(), 4, stop)
}

/// A host is put out.
fn remove(lab: &Lab, directory: &Directory, servers: &Servers, stop: &Stop) -> Result<()> {
    say(&format!("{REMOVED} is removed"));
    ensure!(asks(lab, REMOVED, "db-01", DATABASE)?, "it passes before");
    let begun = Instant::now();
    print!("{}", servers.remove(directory, REMOVED)?);
    let until = begun + slower(CHANGE);
    while asks(lab, REMOVED, "db-01", DATABASE)? {
        stop.check()?;
        ensure!(Instant::now() < until, "its packets pass still");
    }
    say(&format!("db-01 drops it {:.2} s after the command began", begun.elapsed().as_secs_f32()));
    Ok(())
}

/// The hosts of the demo.
fn all() -> Vec<String> {
    names().collect()
}

/// Waits until hosts enforce a version of the fleet's policy.
fn everywhere(agents: &Agents, hosts: &[String], version: u64, stop: &Stop) -> Result<()> {
    everywhere_of(agents, hosts, ("policy", version), stop)
}

/// The same of the policy or the inventory.
fn everywhere_of(agents: &Agents, hosts: &[String], (of, version): (&str, u64), stop: &Stop) -> Result<()> {
    let until = Instant::now() + slower(CHANGE);
    while count(agents, hosts, (of, version))? < hosts.len() {
        stop.check()?;
        ensure!(Instant::now() < until, "not all hosts enforce {of} version {version}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Whether a host is answered by another.
fn asks(lab: &Lab, from: &str, to: &str, port: u16) -> Result<bool> {
    let probe = Probe { to: SocketAddr::new(hosts::address(to)?, port), protocol: Protocol::Tcp };
    let outcome = lab::probe(&lab.host(from)?.namespace, probe, slower(PATIENCE))?;
    Ok(outcome == Outcome::Replied)
}
