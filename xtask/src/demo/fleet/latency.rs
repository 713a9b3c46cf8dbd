//! How soon hosts drop what a change of the fleet takes away: from `fleet publish` to the last packet that each lets in.
//!
//! One sender asks every host at short intervals; hosts have an agent each, which share this machine's processors.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bulkhead_testkit::lab::{Lab, slower};

use super::super::agents::{self, Agents};
use super::super::say;
use super::super::stop::Stop;
use super::directory::Directory;
use super::hosts;
use super::servers::Servers;
use super::{CHANGE, DATABASE, EXPORTER};

/// What all of it may take.
pub(in super::super) const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Between two packets to one host.
const INTERVAL: Duration = Duration::from_millis(20);

/// Nothing for so long is a drop.
const SILENCE: Duration = Duration::from_secs(1);

/// Seconds that all servers are gone, unless the environment has another number.
const OUTAGE: u64 = 6;

/// Times that the port is closed and opened again.
const ROUNDS: usize = 5;

/// What 99 of 100 hosts have to drop by.
const SOON: Duration = Duration::from_secs(1);

/// The same after all servers were gone.
const AFTER_OUTAGE: Duration = Duration::from_secs(30);

/// Who sends, and is removed in the end. It has no agent, which would drop what it sends.
const SENDER: &str = "app-01";

/// By when half of the hosts, 99 of 100 and all of them had dropped.
pub(in super::super) struct Figures {
    pub(in super::super) half: Duration,
    pub(in super::super) p99: Duration,
    pub(in super::super) longest: Duration,
    /// By when 99 of 100 have to.
    pub(in super::super) bound: Duration,
}

/// Measures it for so many hosts: what came of every round, and of the removal.
pub(in super::super) fn measure(bulkhead: &Path, count: u8, stop: &Stop) -> Result<Vec<(String, Figures)>> {
    agents::sweep();
    say(&format!("{count} hosts and one that asks them, and WireGuard between them"));
    let mut lab = Lab::new("soon")?;
    let names: Vec<String> = (1..=count).map(|number| format!("db-{number:02}")).collect();
    for name in names.iter().map(String::as_str).chain([SENDER]) {
        lab.add_host(name, &[hosts::address(name)?])?;
        stop.check()?;
    }
    lab.star(bulkhead, SENDER)?;
    stop.check()?;

    let directory = Directory::begin(&lab, bulkhead)?;
    directory.sign_first(&policy(&[DATABASE, EXPORTER]), &hosts::inventory(&lab)?)?;
    directory.run(&["publish", directory.path(), "--key", "online"])?;
    let mut servers = Servers::start(&mut lab, &directory, bulkhead)?;
    servers.push(&directory)?;
    let mut agents = Agents::on(&lab, bulkhead, &names, |host| {
        let file = hosts::configure(&lab, host, &directory, &servers)?;
        Ok(vec!["run".to_owned(), "--config".to_owned(), file])
    })?;
    agents.wait(&lab, slower(Duration::from_secs(180)), false, stop)?;
    super::everywhere(&agents, &names, 1, stop)?;

    let heard = Heard::start(&lab, &names)?;
    let mut figures = Vec::new();
    let mut version = 1;
    for round in 1..=ROUNDS {
        heard.by_all(EXPORTER, stop)?;
        directory.sign_policy(&policy(&[DATABASE]))?;
        figures.push((
            format!("a port is closed, round {round}"),
            heard.until_dropped(SOON, stop, || publish(&directory, &servers))?,
        ));
        version += 1;
        super::everywhere(&agents, &names, version, stop)?;
        directory.sign_policy(&policy(&[DATABASE, EXPORTER]))?;
        publish(&directory, &servers)?;
        version += 1;
        super::everywhere(&agents, &names, version, stop)?;
    }
    figures.push(outage(&directory, &mut servers, &agents, (&heard, &names), version, stop)?);
    heard.by_all(DATABASE, stop)?;
    let all: serde_json::Value = serde_json::from_str(&hosts::inventory(&lab)?)?;
    let nodes = all["nodes"].as_array().context("nodes")?.iter().filter(|node| node["name"] != SENDER);
    let left = serde_json::json!({ "nodes": nodes.collect::<Vec<_>>() });
    directory.sign_inventory(&serde_json::to_string_pretty(&left)?)?;
    figures.push((
        format!("{SENDER} is removed"),
        heard.until_dropped(SOON, stop, || publish(&directory, &servers))?,
    ));
    drop(heard);
    // Commands that end the agents are asked of hosts that do nothing else.
    super::everywhere_of(&agents, &names, ("inventory", 2), stop)?;
    drop(agents);
    Ok(figures)
}

/// All servers are gone while people sign that a port is closed: nothing changes on the hosts, which close it once
/// servers are back.
fn outage(
    directory: &Directory,
    servers: &mut Servers,
    agents: &Agents,
    (heard, names): (&Heard, &[String]),
    version: u64,
    stop: &Stop,
) -> Result<(String, Figures)> {
    let seconds = std::env::var("BULKHEAD_OUTAGE").map_or(Ok(OUTAGE), |seconds| seconds.parse())?;
    heard.by_all(EXPORTER, stop)?;
    let before = hosts::enforced(agents, names)?;
    servers.kill();
    directory.sign_policy(&policy(&[DATABASE]))?;
    directory.run(&["publish", directory.path(), "--key", "online"])?;
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        stop.check()?;
        heard.by_all(EXPORTER, stop)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    ensure!(hosts::enforced(agents, names)? == before, "what hosts enforce has changed without servers");
    let took = heard.until_dropped(AFTER_OUTAGE, stop, || {
        servers.restart()?;
        servers.push(directory)
    })?;
    super::everywhere(agents, names, version + 1, stop)?;
    Ok((format!("a port is closed while all servers are gone for {seconds} s, from their return"), took))
}

fn publish(directory: &Directory, servers: &Servers) -> Result<()> {
    directory.run(&["publish", directory.path(), "--key", "online"])?;
    servers.push(directory)
}

fn policy(ports: &[u16]) -> String {
    hosts::policy(ports).replace("\"tcp\"", "\"udp\"")
}

/// One sender, and when each host heard it last.
struct Heard {
    begun: Instant,
    /// Which port is asked.
    port: Arc<AtomicU64>,
    /// Of each host, ns since the beginning.
    last: Vec<Arc<AtomicU64>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Heard {
    fn start(lab: &Lab, names: &[String]) -> Result<Self> {
        let begun = Instant::now();
        let port = Arc::new(AtomicU64::new(u64::from(EXPORTER)));
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut last, mut threads, mut to) = (Vec::new(), Vec::new(), Vec::<IpAddr>::new());
        for name in names {
            let host = lab.host(name)?;
            for at in [DATABASE, EXPORTER] {
                let heard = Arc::new(AtomicU64::new(0));
                let socket = host.namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, at)))??;
                socket.set_read_timeout(Some(Duration::from_millis(500)))?;
                let (over, of) = (is_over.clone(), heard.clone());
                threads.push(std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        if socket.recv(&mut [0; 8]).is_ok() {
                            of.store(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
                        }
                    }
                }));
                last.push(heard);
            }
            to.push(hosts::address(name)?);
        }
        let socket = lab.host(SENDER)?.namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        let (over, at) = (is_over.clone(), port.clone());
        threads.push(std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let at = at.load(Ordering::Relaxed) as u16;
                for host in &to {
                    // What cannot be sent is not heard.
                    let _ = socket.send_to(&[0], SocketAddr::new(*host, at));
                }
                std::thread::sleep(INTERVAL);
            }
        }));
        Ok(Self { begun, port, last, is_over, threads })
    }

    /// Of each host, when it heard that port last.
    fn last(&self) -> impl Iterator<Item = Duration> {
        let place = usize::from(self.port.load(Ordering::Relaxed) == u64::from(EXPORTER));
        self.last.iter().skip(place).step_by(2).map(|last| Duration::from_nanos(last.load(Ordering::Relaxed)))
    }

    /// Asks a port from now on, and waits until every host hears it.
    fn by_all(&self, port: u16, stop: &Stop) -> Result<()> {
        self.port.store(port.into(), Ordering::Relaxed);
        let (now, until) = (self.begun.elapsed(), Instant::now() + slower(CHANGE));
        while self.last().any(|last| last <= now) {
            stop.check()?;
            let silent = self.last().filter(|last| *last <= now).count();
            ensure!(Instant::now() < until, "{silent} hosts do not hear port {port}");
            std::thread::sleep(INTERVAL);
        }
        Ok(())
    }

    /// From the beginning of what is done to the last packet that each host hears.
    fn until_dropped(
        &self,
        bound: Duration,
        stop: &Stop,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<Figures> {
        let (begun, until) = (self.begun.elapsed(), Instant::now() + slower(CHANGE));
        change()?;
        while self.last().any(|last| last + SILENCE > self.begun.elapsed()) {
            stop.check()?;
            ensure!(Instant::now() < until, "what is not admitted any more is heard still");
            std::thread::sleep(INTERVAL);
        }
        let mut took: Vec<Duration> = self.last().map(|last| last.saturating_sub(begun)).collect();
        took.sort_unstable();
        let at = |share: usize| took[(took.len() * share).div_ceil(100).clamp(1, took.len()) - 1];
        Ok(Figures { half: at(50), p99: at(99), longest: at(100), bound })
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
