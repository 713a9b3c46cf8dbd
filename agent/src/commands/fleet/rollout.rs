//! `bulkhead fleet rollout`: a version of the policy for some hosts first, and for all once these are well.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bulkhead_api::text::plain;
use bulkhead_channel::{Role, push};
use bulkhead_collect::{Fleet, Limits, State, read};
use bulkhead_fleet::{Publication, Repository, Tree, slot};

use super::broker::Broker;
use super::collect::STORE;
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
}

/// How a version stands with the hosts that may take it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    /// Hosts that may, and are heard of.
    may: usize,
    /// Those that do not enforce it yet.
    behind: Vec<String>,
    /// Hosts that went back from it.
    gone_back: Vec<String>,
}

impl Taken {
    fn of(fleet: &Fleet, version: u64, share: u8, silent_seconds: u64) -> Self {
        let mut taken = Self::default();
        for node in &fleet.nodes {
            let Some(heard) = &node.standing.heard else { continue };
            let (name, report) = (&node.standing.node, &heard.report);
            if report.rolled_back == Some(version) {
                taken.gone_back.push(name.clone());
            }
            let is_silent = node.heard_seconds.is_none_or(|seconds| seconds >= silent_seconds);
            if is_silent || slot(name, version) >= share {
                continue;
            }
            taken.may += 1;
            let is_well = matches!(report.state, State::Enforced | State::Audit);
            if report.policy.version != Some(version) || !is_well {
                taken.behind.push(name.clone());
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
        let version = self.publish(self.share)?;
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
                self.publish(100)?;
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
                self.publish(0)?;
                say(&format!(
                    "stopped, and for no other host: {} went back from version {version}",
                    list(names)
                ));
                (false, &names[..])
            }
            Ended::Late(names) => {
                say(&format!(
                    "not done within {} s: {} did not take version {version}",
                    self.within,
                    list(names)
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

    /// Publishes for a share of the hosts, and pushes; the policy's version.
    fn publish(&self, share: u8) -> anyhow::Result<u64> {
        let tree = Tree::new(&self.directory);
        let mut key = Key::find(self.key.as_deref())?;
        let public = key.public();
        let how = Publication { share: Some(share), fresh: self.fresh.cast_signed(), now: now() };
        let mut sign = |bytes: &[u8]| key.sign_bytes(bytes).map_err(|error| error.0);
        tree.publish(Repository::Policy, &public, &mut sign, how).map_err(wrong)?;
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

    /// Waits until all that may take a version have been well with it for a time.
    fn wait(&self, version: u64, share: u8, hold: Duration) -> Result<Ended, Usage> {
        let begun = Instant::now();
        let limit = Duration::from_secs(self.within) + hold;
        let silent_seconds = Limits::default().silent_seconds;
        let mut since = None;
        loop {
            let standings = read(&self.collected).map_err(|error| {
                Usage(format!(
                    "{}: {error}; name the store of a collector that runs",
                    self.collected.display()
                ))
            })?;
            let fleet = Fleet::judge(standings, wall_time(), Limits { silent_seconds });
            let taken = Taken::of(&fleet, version, share, silent_seconds);
            if !taken.gone_back.is_empty() {
                return Ok(Ended::GoneBack(taken.gone_back));
            }
            if taken.behind.is_empty() {
                if taken.may == 0 || since.get_or_insert_with(Instant::now).elapsed() >= hold {
                    return Ok(Ended::Well(taken.may));
                }
            } else {
                since = None;
                if begun.elapsed() > limit {
                    return Ok(Ended::Late(taken.behind));
                }
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The first names.
fn list(names: &[String]) -> String {
    const MOST: usize = 8;
    let shown: Vec<_> = names.iter().take(MOST).map(|name| plain(name).into_owned()).collect();
    let more = names.len().saturating_sub(MOST);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}
