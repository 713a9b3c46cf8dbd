//! `bulkhead fleet rollout`: a version of the policy for some hosts first, and for all once these are well.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_api::text::first_of;
use bulkhead_channel::{Role, push};
use bulkhead_collect::{Fleet, Limits, State, read};
use bulkhead_fleet::{Publication, Repository, Tree, slot};

use super::broker::Broker;
use super::collect::STORE;
use super::memory::Remembered;
use super::{now, wrong};
use crate::client::block_on;
use crate::commands::grants::key::Key;
use crate::daemon::clock::wall_time;
use crate::duration;
use crate::exit::{Answer, Usage};
use crate::global::Global;

/// Between two looks at what hosts say.
const LOOK: Duration = Duration::from_millis(500);

/// Let some hosts take a policy first, and all once these are well.
///
/// A host goes back by itself from what its own check does not find good. One that has ends the rollout: no other host takes
/// that version any more, and the exit is 1. What hosts say comes from a collector, which runs on this machine. It needs
/// the key that freshens alone.
#[derive(Debug, clap::Args)]
pub struct Rollout {
    /// The fleet directory.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// The key that freshens.
    ///
    /// A private key, or the .pub of one that ssh-agent has.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How many hosts of a hundred are first.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=99))]
    share: u8,
    /// How long these must be well: longer than hosts' confirm_seconds.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = |text: &str| duration::within(text, 1))]
    hold: u64,
    /// How long they may take, and then all.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = |text: &str| duration::within(text, 1))]
    within: u64,
    /// How long it is fresh.
    #[arg(long, value_name = "TIME", default_value = "3d", value_parser = |text: &str| duration::within(text, 30))]
    fresh: u64,
    /// Where the collector keeps what came.
    #[arg(long, value_name = "DIR", default_value = STORE)]
    collected: PathBuf,
    /// A server to push to, such as tls://nats-1:4222; again for others.
    #[arg(long = "server", value_name = "URL", requires = "account")]
    servers: Vec<String>,
    /// Certificates to trust servers by [default: the system's].
    #[arg(long, value_name = "FILE", requires = "servers")]
    ca: Option<PathBuf>,
    /// The directory of `bulkhead fleet account`; publisher.creds suffices.
    #[arg(long, value_name = "DIRECTORY", requires = "servers")]
    account: Option<PathBuf>,
    #[command(flatten)]
    remembered: Remembered,
}

/// How a version stands with the hosts that it waits for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    /// Those that do not enforce it yet, or say nothing any more.
    behind: Vec<String>,
    /// Hosts that went back from it, of all.
    gone_back: Vec<String>,
}

/// Hosts that may take a version and are heard of.
fn heard(fleet: &Fleet, version: u64, share: u8, silent_seconds: u64) -> BTreeSet<String> {
    let heard =
        fleet.nodes.iter().filter(|node| node.heard_seconds.is_some_and(|seconds| seconds < silent_seconds));
    let names = heard.map(|node| &node.standing.node);
    names.filter(|name| slot(name, version) < share).cloned().collect()
}

impl Taken {
    /// By the last report of each, which is to be younger than `seconds`: a host that a policy has cut off says nothing.
    fn of(fleet: &Fleet, version: u64, hosts: &BTreeSet<String>, seconds: u64) -> Self {
        let mut taken = Self { behind: hosts.iter().cloned().collect(), gone_back: Vec::new() };
        for node in &fleet.nodes {
            let Some(heard) = &node.standing.heard else { continue };
            let (name, report) = (&node.standing.node, &heard.report);
            if report.rolled_back == Some(version) {
                taken.gone_back.push(name.clone());
            }
            let is_heard = node.heard_seconds.is_some_and(|heard| heard < seconds);
            let is_well = matches!(report.state, State::Enforced | State::Audit);
            if is_heard && is_well && report.policy.version == Some(version) {
                taken.behind.retain(|behind| behind != name);
            }
        }
        taken
    }
}

/// How a wait ended.
enum Ended {
    Well(usize),
    GoneBack(Vec<String>),
    Late(Vec<String>),
}

impl Rollout {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let version = self.publish(self.share, None)?;
        let say = |words: &str| {
            if global.json {
                eprintln!("{words}");
            } else {
                println!("{words}");
            }
        };
        say(&format!("policy version {version} is for {} % of the hosts", self.share));
        let first = self.wait(version, self.share, Duration::from_secs(self.hold))?;
        let ended = match first {
            Ended::Well(0) => {
                let words = format!(
                    "no host that is heard of is among the first {} % for version {version}: give a larger --share",
                    self.share
                );
                return Err(Usage(words).into());
            }
            Ended::Well(count) => {
                say(&format!(
                    "{count} hosts enforce it and have been well for {} s; it is for all now",
                    self.hold
                ));
                self.publish(100, Some(version))?;
                self.wait(version, 100, Duration::ZERO)?
            }
            other => other,
        };
        let (is_done, names) = match &ended {
            Ended::Well(count) => {
                say(&format!("all {count} hosts that are heard of enforce version {version}"));
                (true, &[][..])
            }
            Ended::GoneBack(names) => {
                self.publish(0, Some(version))?;
                say(&format!(
                    "stopped, and for no other host: {} went back from version {version}",
                    first_of(names)
                ));
                (false, &names[..])
            }
            Ended::Late(names) => {
                say(&format!(
                    "not done within {} s: {} did not take version {version}, or say nothing any more",
                    self.within,
                    first_of(names)
                ));
                (false, &names[..])
            }
        };
        if global.json {
            let came = serde_json::json!({ "version": version, "done": is_done, "hosts": names });
            println!("{came}");
        }
        Ok(if is_done { Answer::Yes } else { Answer::No })
    }

    /// Publishes for a share of the hosts, and pushes; the policy's version. With `only` no other version than that.
    fn publish(&self, share: u8, only: Option<u64>) -> anyhow::Result<u64> {
        let tree = Tree::new(&self.directory);
        let _alone = tree.alone().map_err(wrong)?;
        self.remembered.goes_on(&tree)?;
        let mut key = Key::find(self.key.as_deref())?;
        let public = key.public();
        let how = Publication { share: Some(share), fresh: self.fresh.cast_signed(), now: now() };
        let mut sign = |bytes: &[u8]| key.sign_bytes(bytes).map_err(|error| error.0);
        let done = match only {
            None => tree.publish(Repository::Policy, &public, &mut sign, how),
            Some(_) => tree.freshen(Repository::Policy, &public, &mut sign, how, only),
        };
        done.map_err(wrong)?;
        self.remembered.goes_on(&tree)?;
        if let (Some(account), false) = (&self.account, self.servers.is_empty()) {
            let broker = Broker { servers: self.servers.clone(), ca: self.ca.clone() };
            block_on(async {
                let service = broker.service(account, Role::Publisher).await?;
                push(&service, &self.directory).await.map_err(anyhow::Error::from)
            })?;
        }
        let version = tree.standing(Repository::Policy).map_err(wrong)?.version;
        Ok(version
            .ok_or_else(|| Usage("nothing is published: no policy is signed by enough people".to_owned()))?)
    }

    /// Waits until all that may take a version, and are heard of when it begins, have been well with it for a time.
    fn wait(&self, version: u64, share: u8, hold: Duration) -> Result<Ended, Usage> {
        let begun = Instant::now();
        let limit = Duration::from_secs(self.within) + hold;
        let silent_seconds = Limits::default().silent_seconds;
        let mut hosts = None;
        let mut since: Option<Instant> = None;
        loop {
            let standings = read(&self.collected).map_err(|error| {
                Usage(format!(
                    "{}: {error}; name the store of a collector that runs",
                    self.collected.display()
                ))
            })?;
            let fleet = Fleet::judge(standings, wall_time(), Limits { silent_seconds });
            let hosts = hosts.get_or_insert_with(|| heard(&fleet, version, share, silent_seconds));
            if hosts.is_empty() {
                return Ok(Ended::Well(0));
            }
            let mut taken = Taken::of(&fleet, version, hosts, silent_seconds);
            if !taken.gone_back.is_empty() {
                return Ok(Ended::GoneBack(taken.gone_back));
            }
            if taken.behind.is_empty() {
                let held = since.get_or_insert_with(Instant::now).elapsed();
                if held >= hold {
                    // Each has to say so once more after it has taken it.
                    if !hold.is_zero() {
                        taken = Taken::of(&fleet, version, hosts, held.as_secs().max(1));
                    }
                    if taken.behind.is_empty() {
                        return Ok(Ended::Well(hosts.len()));
                    }
                }
            } else {
                since = None;
            }
            if !taken.behind.is_empty() && begun.elapsed() > limit {
                return Ok(Ended::Late(taken.behind));
            }
            std::thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bulkhead_collect::{Fleet, Limits, Standing, State};

    use super::{Taken, heard};

    const SECOND: u64 = 1_000_000_000;

    /// A host's last report.
    fn host(node: &str, version: u64, heard: u64, rolled_back: Option<u64>) -> Standing {
        let mut of =
            Standing { node: node.to_owned(), heard: Some(Default::default()), ..Standing::default() };
        if let Some(last) = &mut of.heard {
            last.heard = heard * SECOND;
            last.report.state = State::Enforced;
            last.report.policy.version = Some(version);
            last.report.rolled_back = rolled_back;
        }
        of
    }

    fn fleet(hosts: Vec<Standing>, now: u64) -> Fleet {
        Fleet::judge(hosts, now * SECOND, Limits { silent_seconds: 300 })
    }

    #[test]
    fn a_host_that_falls_silent_is_waited_for() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let begin =
            fleet(vec![host("a", 1, 990, None), host("b", 1, 990, None), host("c", 1, 10, None)], 1000);
        let hosts = heard(&begin, 2, 100, 300);
        assert_eq!(hosts, names(&["a", "b"]), "c is silent when it begins");
        let behind = |fleet: &Fleet, seconds| Taken::of(fleet, 2, &hosts, seconds).behind;
        assert_eq!(behind(&begin, 300), ["a", "b"]);
        // b takes it and is cut off by it: for a while its last report is a good one.
        let later = |now, a| fleet(vec![host("a", 2, a, None), host("b", 2, 1010, None)], now);
        assert!(behind(&later(1020, 1015), 300).is_empty());
        assert_eq!(behind(&later(1130, 1120), 120), ["b"]);
        assert_eq!(behind(&later(1400, 1390), 300), ["b"]);
        // One that is not there at all any more, too.
        assert_eq!(behind(&fleet(vec![host("a", 2, 1390, None)], 1400), 300), ["b"]);
        let back = fleet(vec![host("c", 1, 1390, Some(2))], 1400);
        assert_eq!(Taken::of(&back, 2, &hosts, 300).gone_back, ["c"]);
    }
}
