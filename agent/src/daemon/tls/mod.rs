//! What service ports present, and what files of certificates hold: looked at now and then, by a thread of its own, one
//! port after the other. Enforcement neither waits for it nor follows from it.

mod endings;
mod files;
mod host;
mod round;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_api::event::Timestamp;
use bulkhead_api::tls::{Certificate, Coverage, Probing, Watched};

use crate::config;
use crate::daemon::clock::wall_time;
use crate::daemon::state::{Enforcer, held};
use crate::exposed::sockets;
use crate::tls::Counts;
use crate::{owners, tls};

/// Between two looks whether something is due.
const LOOK: Duration = Duration::from_secs(1);

/// What the expiry watch calls this.
const SOURCE: &str = "tls";

/// Between two looks at files.
const FILES: Duration = Duration::from_secs(60);

/// After a start, and after a change of the policy: services that start with the host are there by then.
const SETTLE: Duration = Duration::from_secs(5);

/// What was found, in memory alone.
#[derive(Debug, Default)]
pub struct Found(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    watched: Watched,
    /// What each port has presented last, also while it does not answer.
    presented: BTreeMap<SocketAddr, Certificate>,
}

impl Found {
    /// Nothing yet.
    #[must_use]
    pub fn new(config: &config::Tls) -> Self {
        let every_seconds = config.probe_seconds.into();
        let watched = Watched { probing: config.probing, every_seconds, ..Watched::default() };
        Self(Mutex::new(Kept { watched, ..Kept::default() }))
    }

    /// What was found last.
    #[must_use]
    pub fn report(&self) -> Watched {
        held(&self.0).watched.clone()
    }

    /// What somebody should know of it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let found = &held(&self.0).watched;
        let of_files = found.files.iter().filter_map(|file| {
            Some(format!("file of certificates {}: {}", file.file, file.problem.as_ref()?))
        });
        of_files.chain(found.problems.iter().map(|problem| format!("TLS probes: {problem}"))).collect()
    }
}

/// Looks at intervals, on a thread of its own.
///
/// # Errors
/// If the system has no more threads.
pub fn start(enforcer: Arc<Enforcer>) -> std::io::Result<()> {
    let settings = config(&enforcer);
    if settings.probing == Probing::Off && settings.files.is_empty() {
        return Ok(());
    }
    enforcer.shared.endings.expect(SOURCE);
    let run = move || {
        let every = Duration::from_secs(config(&enforcer).probe_seconds.into());
        let (mut files, mut probes) = (Instant::now(), Instant::now() + jitter(SETTLE));
        let mut generation = None;
        loop {
            let number = {
                let live = enforcer.live();
                if live.detached {
                    return;
                }
                live.built.number
            };
            let now = Instant::now();
            if now >= files {
                files::look(&enforcer);
                files = now + FILES;
                // Until ports have been asked, nobody knows what has become of an earlier agent's alarms.
                if held(&enforcer.tls.0).watched.last.is_some() || config(&enforcer).probing == Probing::Off {
                    endings::put(&enforcer);
                }
            }
            if generation.is_some_and(|before| before != number) {
                // Rules may name other ports.
                probes = probes.min(now + jitter(SETTLE));
            }
            generation = Some(number);
            if now >= probes && config(&enforcer).probing != Probing::Off {
                round::probe(&enforcer);
                endings::put(&enforcer);
                probes = Instant::now() + jitter(every);
            }
            std::thread::sleep(LOOK);
        }
    };
    std::thread::Builder::new().name("tls".to_owned()).spawn(run).map(drop)
}

fn config(enforcer: &Enforcer) -> &config::Tls {
    &enforcer.setup.config.tls
}

/// So long, or up to a tenth less or more: hosts that start together do not probe together.
fn jitter(time: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 201;
    time * (900 + random as u32) / 1000
}

/// TLS at all service ports, as far as rules, counters and the last round know.
///
/// # Errors
/// If the kernel does not say who listens.
pub fn coverage(enforcer: &Enforcer) -> anyhow::Result<Coverage> {
    let host = host::look(enforcer);
    let (sockets, mut notes) = sockets::all();
    let listening = tls::listening(&sockets, &owners::of_sockets(), &host.host);
    let counts = host::counts(enforcer).unwrap_or_else(|error| {
        notes.push(format!("reading what the kernel has counted: {error:#}"));
        Counts::new()
    });
    let found = enforcer.tls.report();
    let now = Timestamp::from_unix(wall_time());
    let ports = tls::ports(&listening, &host.admitted, &counts, &found.probes, now);
    match (found.probing, found.last) {
        (Probing::Off, _) => notes.push("[tls] in agent.toml has probes off".to_owned()),
        (_, None) => notes.push("the agent has not probed yet".to_owned()),
        (Probing::Rules, _) => notes.push(
            "probed are ports that a rule with `tls` names; `bulkhead tls scan` probes all, and so does \
             probe = \"all\" of [tls] in agent.toml"
                .to_owned(),
        ),
        (Probing::All, _) => {}
    }
    notes.extend(found.problems);
    Ok(Coverage { node: host.node, ports, files: found.files, notes })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::jitter;

    #[test]
    fn times_differ_by_a_tenth_at_most() {
        let times: Vec<Duration> = (0..200).map(|_| jitter(Duration::from_secs(1000))).collect();
        assert!(times.iter().all(|time| (900..=1100).contains(&time.as_secs())), "{times:?}");
        assert!(times.iter().any(|time| *time != times[0]));
    }
}
