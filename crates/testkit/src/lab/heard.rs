//! What a host hears: packets that came past every filter in front of its stack, counted by nftables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::bounded::run_within;
use super::{Lab, Stream};

/// What nft may take.
const LIMIT: Duration = Duration::from_secs(10);
const TABLE: &str = "inet lab-heard";

/// Counts the packets of some streams where they are received.
pub(super) struct Heard {
    /// The namespaces that count.
    namespaces: Vec<String>,
    /// Of each stream, which of the namespaces and which of its counters.
    places: Vec<(usize, usize)>,
}

impl Heard {
    /// Begins at 0.
    pub(super) fn start<'a>(lab: &Lab, streams: impl Iterator<Item = &'a Stream>) -> anyhow::Result<Self> {
        let mut rules: Vec<String> = Vec::new();
        let mut counters: Vec<usize> = Vec::new();
        let mut indices: BTreeMap<&str, usize> = BTreeMap::new();
        let mut heard = Self { namespaces: Vec::new(), places: Vec::new() };
        for stream in streams {
            let index = *indices.entry(&stream.to).or_insert(rules.len());
            if index == rules.len() {
                heard.namespaces.push(lab.host(&stream.to)?.namespace.name().to_owned());
                // Before the guard, and before anything else.
                rules.push(format!(
                    "table {TABLE} {{ chain heard {{ type filter hook prerouting priority -450;\n"
                ));
                counters.push(0);
            }
            let family = if matches!(stream.source, IpAddr::V4(_)) { "ip" } else { "ip6" };
            let protocol = if stream.talk.is_tcp() { "tcp" } else { "udp" };
            let (source, at) = (stream.source, stream.at);
            writeln!(
                rules[index],
                "{family} saddr {source} {family} daddr {} {protocol} dport {} counter",
                at.ip(),
                at.port()
            )?;
            heard.places.push((index, counters[index]));
            counters[index] += 1;
        }
        for (namespace, rules) in heard.namespaces.iter().zip(&rules) {
            nft(namespace, &format!("{rules}}}\n}}\n"))?;
        }
        Ok(heard)
    }

    /// Ends it: packets by stream, in the order in which they were given.
    pub(super) fn stop(self) -> anyhow::Result<Vec<u64>> {
        let mut counts = Vec::new();
        for namespace in &self.namespaces {
            let text = nft(namespace, &format!("list table {TABLE}"))?;
            counts.push(packets(&text)?);
            nft(namespace, &format!("delete table {TABLE}"))?;
        }
        let of = |&(namespace, counter): &(usize, usize)| counts[namespace].get(counter).copied();
        self.places
            .iter()
            .map(|place| of(place).context("nft lists fewer counters than it was given"))
            .collect()
    }
}

/// The packets of every counter that nft lists, in order.
fn packets(text: &str) -> anyhow::Result<Vec<u64>> {
    let counters = text.lines().filter_map(|line| line.split_once(" counter packets "));
    let numbers = counters.map(|(_, rest)| rest.split(' ').next().unwrap_or_default().parse());
    numbers.collect::<Result<_, _>>().context("read nft's counters")
}

fn nft(namespace: &str, words: &str) -> anyhow::Result<String> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "nft", words]);
    let output = run_within(&mut command, LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`nft {words}` in {namespace}: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
