//! `bulkhead tls scan`: connects to ports, with or without an agent.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use bulkhead_api::event::Timestamp;
use bulkhead_api::tls::{Began, ClientCertificate, Probe, StartTls};
use bulkhead_policy::service::TCP;
use bulkhead_probe::{Limits, Prober, Roots, Target};
use serde::Serialize;

use super::table::{NONE, begins, count, presented, table, until};
use crate::commands::status;
use crate::daemon::residence;
use crate::daemon::store::Store;
use crate::exit::{Answer, Usage};
use crate::exposed::{enforced, sockets, unit};
use crate::global::Global;
use crate::input;
use crate::owners::{self, Owner};
use crate::paths::Paths;
use crate::tls::{Admitted, Host, Listening, Workload, listening};

/// Connect to ports, and say what they begin with and present.
///
/// Without addresses: to all TCP ports that listen on this host's overlay addresses. Each connection may be a line in
/// the log of its service. Ends with 0 only if every port began as TLS and presented a certificate that is valid now.
#[derive(Debug, clap::Args)]
pub struct Scan {
    /// Where to connect to.
    #[arg(value_name = "ADDRESS:PORT")]
    addresses: Vec<SocketAddr>,
    /// Ask for TLS as this protocol does, at the addresses that are given.
    #[arg(long, value_name = "PROTOCOL", requires = "addresses")]
    starttls: Option<StartTls>,
    /// Ask for the server of this name (SNI).
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Trust these authorities (PEM) in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// A port, and what was found there.
#[derive(Serialize)]
struct Scanned {
    #[serde(flatten)]
    probe: Probe,
    /// Whose it is.
    process: Option<Owner>,
    unit: Option<String>,
}

#[derive(Serialize)]
struct Report {
    ports: Vec<Scanned>,
    notes: Vec<String>,
}

impl Scan {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let prober = Prober::new(self.roots()?, Limits::default());
        let report = if self.addresses.is_empty() {
            let paths = Paths::of(&global.instance)?;
            let seen = residence::there(&paths, || self.all(&prober, global, &paths))?;
            seen.with_context(|| {
                format!(
                    "instance {} is enforced in another network namespace, which no name and no process leads to from \
                     here; scan there",
                    global.instance
                )
            })??
        } else {
            let probe = |address: &SocketAddr| self.probe(&prober, *address, self.starttls, None);
            Report { ports: self.addresses.iter().map(probe).collect(), notes: Vec::new() }
        };
        let now = Timestamp::from_unix(input::now());
        if global.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", text(&report, now));
        }
        let is_well = |of: &Scanned| {
            of.probe.began == Began::Tls && !of.probe.chain.is_empty() && of.probe.invalid(now).is_none()
        };
        Ok(if report.ports.iter().all(is_well) { Answer::Yes } else { Answer::No })
    }

    fn roots(&self) -> anyhow::Result<Roots> {
        let Some(path) = &self.ca else { return Ok(Roots::system()) };
        let name = path.display().to_string();
        let text = std::fs::read(path).map_err(|error| Usage(format!("cannot read {name}: {error}")))?;
        Ok(Roots::of_pem(&name, &text).map_err(|error| Usage(error.to_string()))?)
    }

    fn probe(
        &self,
        prober: &Prober,
        address: SocketAddr,
        starttls: Option<StartTls>,
        process: Option<&Owner>,
    ) -> Scanned {
        let target = Target { address, starttls, name: self.name.clone() };
        let unit = process.and_then(|owner| unit::of(owner.pid));
        Scanned { probe: prober.probe(&target), process: process.cloned(), unit }
    }

    /// Every port on overlay addresses, in the network namespace of the instance.
    fn all(&self, prober: &Prober, global: &Global, paths: &Paths) -> anyhow::Result<Report> {
        anyhow::ensure!(
            rustix::process::geteuid().is_root(),
            "looking at sockets of all processes and at the enforced policy needs root; run this as root, or name \
             ADDRESS:PORT"
        );
        let status = status::ask(&global.instance, paths)?;
        let Some((enforced, _)) = enforced::read(&Store::new(&paths.state), &status)? else {
            let words =
                "nothing is enforced here, so no address is known to be an overlay's; name ADDRESS:PORT";
            return Err(Usage(words.to_owned()).into());
        };
        let node = enforced.inventory.node(&enforced.node);
        let addresses = node.map(|node| node.addresses.clone()).unwrap_or_default();
        let workloads = status.agent.into_iter().flat_map(|agent| agent.workloads);
        let workloads: Vec<Workload> = workloads.map(Workload::now).collect();
        let names: Vec<String> = workloads.iter().map(|workload| workload.name.clone()).collect();
        let all: Vec<usize> = (0..enforced.overlay.rules.len()).collect();
        let admitted = Admitted::of(&enforced.overlay, &all, &enforced.inventory, &enforced.node);
        let (sockets, mut notes) = sockets::all();
        let found = listening(&sockets, &owners::of_sockets(), &Host { addresses, workloads });
        if !names.is_empty() {
            notes.push(format!(
                "addresses of workloads are not scanned from the host ({}); scan them from a host that a rule admits",
                names.join(", ")
            ));
        }
        let ports = found.iter().filter(|port| port.protocol == TCP && port.workload.is_none());
        let scanned = ports.flat_map(|port| self.sockets(prober, port, &admitted)).collect();
        Ok(Report { ports: scanned, notes })
    }

    fn sockets(&self, prober: &Prober, port: &Listening, admitted: &[Admitted]) -> Vec<Scanned> {
        let each = port.sockets.iter().map(|address| {
            let naming = || admitted.iter().filter(|rule| rule.matches(*address, TCP, port.port));
            let starttls = naming().find_map(|rule| rule.starttls);
            self.probe(prober, (*address, port.port).into(), starttls, port.process.as_ref())
        });
        each.collect()
    }
}

const HEAD: [&str; 8] = [
    "address",
    "process",
    "begins",
    "version",
    "client certificate",
    "certificate until",
    "presented",
    "chain",
];

fn text(report: &Report, now: Timestamp) -> String {
    let mut text = table(HEAD, report.ports.iter().map(|port| row(port, now)).collect());
    for Scanned { probe, .. } in &report.ports {
        if let Some(problem) = &probe.problem {
            text += &format!("{}: {}\n", probe.address, bulkhead_api::text::plain(problem));
        }
        if probe.holds_key == Some(false) {
            text += &format!("{}: it has not shown that it holds the certificate's key\n", probe.address);
        }
    }
    text.extend(report.notes.iter().map(|note| format!("note: {note}\n")));
    let of = |began| report.ports.iter().filter(|port| port.probe.began == began).count();
    text + &format!(
        "{}: {} began as TLS, {} unknown, {} plaintext\n",
        count(report.ports.len(), "port"),
        of(Began::Tls),
        of(Began::Unknown),
        of(Began::Plaintext)
    )
}

fn row(Scanned { probe, process, unit }: &Scanned, now: Timestamp) -> [String; 8] {
    let own = probe.chain.first();
    let process = match (process, unit) {
        (Some(process), Some(unit)) => format!("{} ({unit})", process.name),
        (Some(process), None) => process.name.clone(),
        _ => NONE.to_owned(),
    };
    let demands = match probe.client_certificate {
        ClientCertificate::Unknown if own.is_none() => NONE,
        other => other.words(),
    };
    let chain = match &probe.trust {
        None => NONE.to_owned(),
        Some(trust) => match &trust.problem {
            None => format!("trusted ({})", trust.roots),
            Some(why) => format!("not trusted ({}): {why}", trust.roots),
        },
    };
    [
        probe.address.to_string(),
        process,
        begins(probe.began, probe.looks_like.as_deref()),
        probe.version.clone().unwrap_or_else(|| NONE.to_owned()),
        demands.to_owned(),
        until(own, now),
        presented(own),
        chain,
    ]
}
