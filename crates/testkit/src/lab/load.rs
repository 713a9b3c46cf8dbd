//! Clients that ask all the while: some whose every request must be answered, some who must not be heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::task::JoinSet;

use super::heard::Heard;
use super::namespace::enter;
use super::probe::runtime;
use super::stream::{Client, Stream, Tally};
use super::{EchoServers, Lab};

/// What the clients and the receiving hosts counted.
#[derive(Debug)]
pub struct Counts {
    /// Requests of admitted clients.
    pub sent: u64,
    /// Of those, requests without an answer. A connection that breaks leaves one.
    pub unanswered: u64,
    /// The longest that an answer took: what was lost and sent again by TCP shows here.
    pub longest: Duration,
    /// Requests of denied clients.
    pub denied_sent: u64,
    /// Of those, requests that were answered.
    pub denied_answered: u64,
    /// Packets of denied clients that the receiving hosts' stacks were given.
    pub denied_through: u64,
    /// In words, what went wrong.
    pub failures: Vec<String>,
    /// Clients of denied streams that were not heard: all of them, where something filters.
    pub silent: usize,
}

/// Tells clients to stop when dropped.
struct Asking(Arc<AtomicBool>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The clients at work, for as long as it is there.
pub struct Load {
    asking: Asking,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
    streams: Vec<(Stream, Arc<Tally>)>,
    heard: Heard,
    _servers: Vec<EchoServers>,
}

impl Load {
    /// Servers for all streams, and their clients, with a pause after each request.
    ///
    /// # Errors
    /// What the system refused.
    pub fn start(lab: &Lab, streams: &[Stream], pause: Duration) -> anyhow::Result<Self> {
        let servers = serve(lab, streams)?;
        let heard = Heard::start(lab, streams.iter().filter(|stream| !stream.admitted))?;
        let stop = Arc::new(AtomicBool::new(false));
        let streams: Vec<_> = streams.iter().map(|stream| (stream.clone(), Arc::new(Tally::new()))).collect();
        let mut by_host: BTreeMap<&str, Vec<Client>> = BTreeMap::new();
        for (stream, tally) in &streams {
            let client = Client { stream: stream.clone(), tally: tally.clone(), pause, stop: stop.clone() };
            by_host.entry(&stream.from).or_default().push(client);
        }
        let mut threads = Vec::new();
        for (name, clients) in by_host {
            let namespace = lab.host(name)?.namespace.open()?;
            threads.push(std::thread::spawn(move || {
                enter(&namespace).context("enter a namespace")?;
                runtime()?.block_on(async {
                    let tasks: JoinSet<()> = clients.into_iter().map(Client::run).collect();
                    tasks.join_all().await;
                });
                Ok(())
            }));
        }
        Ok(Self { asking: Asking(stop), threads, streams, heard, _servers: servers })
    }

    /// Ends it, and waits a while for the last answers.
    ///
    /// # Errors
    /// A client could not be started, or the receivers' counts cannot be had.
    pub fn stop(self) -> anyhow::Result<Counts> {
        drop(self.asking);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a thread of clients panicked"))??;
        }
        let heard = self.heard.stop()?;
        let sum = |admitted: bool, count: fn(&Tally) -> u64| -> u64 {
            let streams = self.streams.iter().filter(|(stream, _)| stream.admitted == admitted);
            streams.map(|(_, tally)| count(tally)).sum()
        };
        let sent = |tally: &Tally| tally.sent.load(Ordering::Relaxed);
        let answered = |tally: &Tally| tally.answered.load(Ordering::Relaxed);
        let longest = self.streams.iter().map(|(_, tally)| tally.longest.load(Ordering::Relaxed)).max();
        Ok(Counts {
            sent: sum(true, sent),
            unanswered: sum(true, sent) - sum(true, answered),
            longest: Duration::from_micros(longest.unwrap_or(0)),
            denied_sent: sum(false, sent),
            denied_answered: sum(false, answered),
            denied_through: heard.iter().sum(),
            failures: failures(&self.streams, &heard),
            silent: heard.iter().filter(|packets| **packets == 0).count(),
        })
    }
}

/// Echo servers on every port that any stream asks.
fn serve(lab: &Lab, streams: &[Stream]) -> anyhow::Result<Vec<EchoServers>> {
    let mut ports: BTreeMap<&str, [BTreeSet<u16>; 2]> = BTreeMap::new();
    for stream in streams {
        let [tcp, udp] = ports.entry(&stream.to).or_default();
        if stream.talk.is_tcp() { tcp } else { udp }.insert(stream.at.port());
    }
    let mut servers = Vec::new();
    for (name, ports) in ports {
        let [tcp, udp] = ports.map(|ports| ports.into_iter().collect::<Vec<_>>());
        servers.push(EchoServers::start(&lab.host(name)?.namespace, &tcp, &udp)?);
    }
    Ok(servers)
}

/// What went wrong: admitted requests that failed, denied clients that were heard or answered.
fn failures(streams: &[(Stream, Arc<Tally>)], heard: &[u64]) -> Vec<String> {
    let mut heard = heard.iter();
    let mut failures = Vec::new();
    for (stream, tally) in streams {
        let Stream { from, at, talk, .. } = stream;
        let name = format!("{from} → {at} {talk:?}");
        if stream.admitted {
            let told = tally.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.extend(told.iter().map(|failure| format!("{name}, {failure}")));
        } else {
            let through = heard.next().copied().unwrap_or(0);
            let answered = tally.answered.load(Ordering::Relaxed);
            if through + answered != 0 {
                failures.push(format!("{name}, denied: {through} packets heard, {answered} answers"));
            }
        }
    }
    failures
}
