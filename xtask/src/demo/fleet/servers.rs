//! Three servers of NATS beneath the overlay, and a collector beside them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulkhead_testkit::lab::{Lab, Process, run_within, slower};
use bulkhead_testkit::nats::{Cluster, Plan};

use super::directory::Directory;

/// Where the servers are: on the switch that all hosts are connected to.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

/// What `audit verify` may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The servers, and who collects. The fields' order is the order of removal.
pub(super) struct Servers {
    bulkhead: std::path::PathBuf,
    collector: Process,
    cluster: Cluster,
    urls: Vec<String>,
    /// Commands that speak to them run in their network.
    network: String,
}

impl Servers {
    /// Makes the account, starts the servers and the collector.
    pub(super) fn start(lab: &mut Lab, directory: &Directory, bulkhead: &Path) -> Result<Self> {
        directory.run(&["account", "account"])?;
        let include = std::fs::read_to_string(directory.beside("account/nats-server.conf"))?;
        let plan = Plan { is_tls: true, include: Some(include), address: ADDRESS, ..Plan::open(3) };
        let network = lab.switch(ADDRESS)?;
        let cluster = Cluster::start(plan, Some(network))?;
        let urls = cluster.urls();
        let mut collect = Command::new(bulkhead);
        collect.args(["fleet", "collect", "--store"]).arg(directory.beside("collected"));
        urls.iter().for_each(|url| {
            collect.args(["--server", url]);
        });
        collect.arg("--ca").arg(cluster.ca().context("servers have TLS")?);
        collect.arg("--credentials").arg(directory.beside("account/collector.creds"));
        collect.args(["--listen", &SocketAddr::from((Ipv4Addr::LOCALHOST, 8480)).to_string()]);
        let log = directory.beside("collector.log");
        let collector = Process::spawn(network, &mut collect, &log)?;
        let network = network.name().to_owned();
        Ok(Self { bulkhead: bulkhead.to_owned(), collector, cluster, urls, network })
    }

    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The certificates to trust them by.
    pub(super) fn ca(&self) -> Result<String> {
        Ok(self.cluster.ca().context("servers have TLS")?.display().to_string())
    }

    /// A command of the fleet that speaks to them.
    fn ask(&self, directory: &Directory, words: &[&str]) -> Result<(bool, String)> {
        let ca = self.ca()?;
        let mut all = words.to_vec();
        self.urls.iter().for_each(|url| all.extend(["--server", url]));
        all.extend(["--ca", &ca, "--account", "account"]);
        directory.ask_within(&self.network, &all)
    }

    fn run(&self, directory: &Directory, words: &[&str]) -> Result<String> {
        let (is_well, said) = self.ask(directory, words)?;
        ensure!(is_well, "`bulkhead fleet {}` answers no: {}", words.join(" "), said.trim());
        Ok(said)
    }

    /// Ends all servers at once.
    pub(super) fn kill(&mut self) {
        (0..self.urls.len()).for_each(|number| self.cluster.kill(number));
    }

    /// Starts them again; returns when they serve.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.cluster.restart_all()
    }

    /// Puts what is published on the servers.
    pub(super) fn push(&self, directory: &Directory) -> Result<()> {
        self.run(directory, &["push", directory.path()]).map(drop)
    }

    /// Lets a fifth of the hosts take the policy first, for so long: whether all did in the end, and what was said.
    pub(super) fn roll_out(&self, directory: &Directory, hold: &str) -> Result<(bool, String)> {
        let words = [
            "rollout",
            directory.path(),
            "--share",
            "20",
            "--hold",
            hold,
            "--within",
            "30s",
            "--key",
            "online",
        ];
        self.ask(directory, &[&words[..], &["--collected", "collected"]].concat())
    }

    /// Puts a host out.
    pub(super) fn remove(&self, directory: &Directory, host: &str) -> Result<String> {
        let keys = ["--key", "enroller", "--online-key", "online"];
        self.run(directory, &[&["remove", host, "--fleet", directory.path()][..], &keys].concat())
    }

    /// How hosts stand.
    pub(super) fn status(&self, directory: &Directory) -> Result<String> {
        Ok(directory.ask(&["status", "--collected", "collected"])?.1)
    }

    /// What a stranger finds of a host's evidence where it was collected.
    pub(super) fn verify(&self, directory: &Directory, host: &str) -> Result<String> {
        let log = directory.beside(&format!("collected/nodes/{host}/log"));
        let mut command = Command::new(&self.bulkhead);
        command.args(["audit", "verify", "--log"]).arg(&log).arg("--key").arg(log.join("pinned"));
        command.arg("--witness").arg(directory.beside("collected/vkey"));
        let output = run_within(&mut command, slower(LIMIT))?;
        ensure!(
            output.status.success(),
            "{}: {}",
            self.collector.log(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}
