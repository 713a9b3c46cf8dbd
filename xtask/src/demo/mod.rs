//! `cargo xtask demo`: the trading firm's policy on real hosts, real tunnels and real sockets.
//!
//! Network namespaces stand for the hosts of policies/trading-firm. They are joined by WireGuard, each runs the
//! agent, and each tries every port of every other, by TCP and UDP. What the sockets saw and which drops were
//! reported is compared with what the reference evaluator (not the tables) says of the policy.

mod agents;
mod events;
mod fleet;
mod plan;
mod report;
mod stop;
mod suggest;
mod tls;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_testkit::lab::{self, EchoServers, Lab, Probe, slower};

use crate::cargo::{build_agent, workspace};
use crate::setup;
use agents::Agents;
use events::Seen;
use plan::{Attempt, Firm, PORTS, Phase};
use report::Row;
use stop::Stop;

/// What the demo may take after the build.
const LIMIT: Duration = Duration::from_secs(55);

/// What it may take besides to have a policy suggested.
const SUGGEST_LIMIT: Duration = Duration::from_secs(30);

/// How long a client waits for its answer. A round trip here takes milliseconds; silence means dropped.
const PATIENCE: Duration = Duration::from_millis(1200);

/// How long the last drop may take from the kernel to `watch`.
const EVENT_DELAY: Duration = Duration::from_secs(5);

/// The host that goes on without its agent, so that its targets must drop.
const DETACHED: &str = "backup-1";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print the table as JSON on standard output; all else goes to standard error.
    #[arg(long)]
    json: bool,
    /// Enforce what `bulkhead suggest` makes of the hosts' traffic in audit mode, in place of the policy; compare it with
    /// the policy all the same.
    #[arg(long)]
    suggest: bool,
    /// Show a fleet instead: twenty hosts, three servers, a signed change, a version that is stopped, a removal.
    #[arg(long, conflicts_with_all = ["json", "suggest"])]
    fleet: bool,
}

/// Builds, shows, compares. Leaves nothing behind, also when interrupted.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::require_root("demo")?;
    // A binary that is named is what another machine has, which builds none (`cargo xtask vm`).
    let binary = if std::env::var_os("BULKHEAD").is_some() {
        lab::bulkhead()?
    } else {
        setup::ensure()?;
        build_agent("dev")?.binary
    };
    if arguments.fleet {
        let (stop, started) = (Stop::new(slower(fleet::LIMIT))?, Instant::now());
        fleet::show(&binary, &stop)?;
        say(&format!("all removed after {:.1} s", started.elapsed().as_secs_f32()));
        return Ok(());
    }
    let limit = if arguments.suggest { LIMIT + SUGGEST_LIMIT } else { LIMIT };
    let stop = Stop::new(slower(limit))?;
    let started = Instant::now();
    let rows = show(&binary, arguments.suggest, &stop)?;
    eprintln!("\nall removed after {:.1} s", started.elapsed().as_secs_f32());
    if arguments.json {
        report::print_json(&rows)?;
    } else {
        report::print_table(&rows);
    }
    let wrong = rows.iter().filter(|row| !row.agrees()).count();
    ensure!(wrong == 0, "{wrong} of {} attempts differ from the policy; they are marked above", rows.len());
    Ok(())
}

/// Everything that makes hosts and removes them again.
fn show(bulkhead: &Path, is_suggested: bool, stop: &Stop) -> Result<Vec<Row>> {
    let policy = workspace().join("policies/trading-firm/policy.hujson");
    let inventory = workspace().join("policies/trading-firm/inventory.json");
    agents::sweep();

    say("hosts, and WireGuard between them");
    let mut lab = Lab::new("demo")?;
    for (name, addresses) in plan::hosts(&inventory)? {
        lab.add_host(&name, &addresses)?;
        stop.check()?;
    }
    let inventory = write_inventory(&lab, &inventory)?;
    let firm = Firm::load(&policy, &inventory)?;
    lab.mesh(bulkhead)?;
    stop.check()?;
    let mut servers = Vec::new();
    for host in lab.hosts() {
        servers.push(EchoServers::start(&host.namespace, &PORTS, &PORTS)?);
    }
    say(&format!("{} hosts; without the agent each reaches every other", lab.hosts().len()));

    let _services = tls::Services::start(&lab)?;

    let policy =
        if is_suggested { suggest::suggested(&lab, &firm, bulkhead, &inventory, stop)? } else { policy };
    let mut agents = Agents::start(&lab, bulkhead, &policy, &inventory, "enforce", stop)?;
    say("the agent enforces the policy on every host; these are the drops, as they come");
    let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
    let mut rows = attempt_all(&lab, &firm, &agents, &hosts, Phase::Everywhere, stop)?;

    tls::show(&agents)?;

    agents.detach(DETACHED)?;
    say(&format!("{DETACHED} goes on without its agent; now its targets must drop"));
    rows.extend(attempt_all(&lab, &firm, &agents, &[DETACHED], Phase::SourceDetached, stop)?);
    Ok(rows)
}

/// Each of these hosts in turn tries every port of every other; then waits until the drops that must have come of
/// it were reported.
fn attempt_all(
    lab: &Lab,
    firm: &Firm,
    agents: &Agents,
    hosts: &[&str],
    phase: Phase,
    stop: &Stop,
) -> Result<Vec<Row>> {
    let mut done = Vec::new();
    for from in hosts {
        let attempts = firm.attempts(from, phase)?;
        let probe = |a: &Attempt| Probe { to: SocketAddr::new(a.address, a.port), protocol: a.protocol };
        let probes: Vec<Probe> = attempts.iter().map(probe).collect();
        let outcomes = lab::probe_all(&lab.host(from)?.namespace, &probes, slower(PATIENCE))?;
        done.extend(attempts.into_iter().zip(outcomes));
        stop.check()?;
    }
    let reported =
        |attempt: &Attempt| attempt.drop.as_ref().map(|drop| agents.seen(&Seen::of(attempt, drop)));
    let deadline = Instant::now() + slower(EVENT_DELAY);
    while done.iter().any(|(attempt, _)| reported(attempt) == Some(false)) && Instant::now() < deadline {
        stop.check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let row = |(attempt, outcome)| Row { reported: reported(&attempt), attempt, outcome, phase };
    Ok(done.into_iter().map(row).collect())
}

/// The shipped inventory with the keys that the lab's hosts have.
fn write_inventory(lab: &Lab, shipped: &Path) -> Result<PathBuf> {
    let text = fs::read_to_string(shipped).with_context(|| format!("read {}", shipped.display()))?;
    let mut inventory = plan::json(&text).with_context(|| format!("{}", shipped.display()))?;
    let nodes =
        inventory.get_mut("nodes").and_then(|nodes| nodes.as_array_mut()).context("it has no nodes")?;
    for node in nodes {
        let name = node.get("name").and_then(|name| name.as_str()).context("a node has no name")?;
        let key = lab.host(name)?.keys.public.clone();
        node["key"] = key.into();
    }
    let path = lab.directory().join("inventory.json");
    fs::write(&path, serde_json::to_vec_pretty(&inventory)?)?;
    Ok(path)
}

/// `cargo xtask soak latency`: how soon hosts drop what a change of the fleet takes away.
pub fn latency(bulkhead: &Path, hosts: u8) -> Result<()> {
    let stop = Stop::new(slower(fleet::LATENCY_LIMIT))?;
    let figures = fleet::measure(bulkhead, hosts, &stop)?;
    for (what, fleet::Figures { half, p99, longest, .. }) in &figures {
        let [half, p99, longest] = [half, p99, longest].map(Duration::as_secs_f32);
        println!("{what}: p50 {half:.2} s, p99 {p99:.2} s, max {longest:.2} s");
    }
    let late = figures.iter().filter(|(_, figures)| figures.p99 > slower(figures.bound));
    ensure!(late.count() == 0, "hosts drop later than they have to");
    Ok(())
}

fn say(text: &str) {
    eprintln!("\n== {text}");
}
