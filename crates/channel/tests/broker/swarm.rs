//! How fast a change is everywhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_channel::{Channel, FILES, Settings, consumers, digest, push};
use bulkhead_fleet::{Client, Origin, Repository};
use bulkhead_testkit::setting;
use tokio::sync::mpsc;

use crate::fleet::{Fleet, below, inventory, policy};
use crate::site::Site;

/// How long anything in here may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Hosts that follow a policy. Each reads what a host reads after a change, and compares digests; the first three verify
/// it all by TUF, as every real host does on a processor of its own.
pub struct Swarm {
    told: mpsc::UnboundedReceiver<(usize, String, Instant)>,
    pub channels: Vec<Arc<Channel>>,
    tasks: tokio::task::JoinSet<()>,
}

/// The newest policy that an origin has, by its metadata.
async fn read(channel: &Channel) -> Result<String, String> {
    let file = async |path: String| {
        let bytes = channel.file(&path, 16 << 20).await.map_err(|error| error.to_string())?;
        bytes.ok_or_else(|| format!("{path} is not there"))
    };
    let json = |bytes: Vec<u8>| {
        serde_json::from_slice::<serde_json::Value>(&bytes).map_err(|error| error.to_string())
    };
    let version = |of: &serde_json::Value, role: &str| of["signed"]["meta"][role]["version"].to_string();
    let timestamp = json(file("policy/metadata/timestamp.json".to_owned()).await?)?;
    let snapshot = format!("policy/metadata/{}.snapshot.json", version(&timestamp, "snapshot.json"));
    let snapshot = json(file(snapshot).await?)?;
    let targets = format!("policy/metadata/{}.targets.json", version(&snapshot, "targets.json"));
    let targets = json(file(targets).await?)?;
    let wanted = targets["signed"]["targets"]["policy.hujson"]["hashes"]["sha256"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let bundle = file(Repository::Policy.bundle(&wanted)).await?;
    if digest(&bundle) == wanted { Ok(wanted) } else { Err("another bundle than was signed".to_owned()) }
}

impl Swarm {
    /// Starts hosts, and returns when all have the policy that there is.
    pub async fn start(settings: Vec<Settings>, fleet: &Fleet, state: &std::path::Path) -> Self {
        let count = settings.len();
        let (tell, told) = mpsc::unbounded_channel();
        let mut swarm = Self { told, channels: Vec::new(), tasks: tokio::task::JoinSet::new() };
        for (number, settings) in settings.into_iter().enumerate() {
            let channel = Arc::new(Channel::new(settings).unwrap());
            swarm.channels.push(Arc::clone(&channel));
            let verifier = (number < 3).then(|| {
                let root = fleet.root(Repository::Policy);
                Client::open(Repository::Policy, &root, &below(state, &number.to_string())).unwrap()
            });
            swarm.tasks.spawn(host(number, channel, verifier, tell.clone()));
            if number % 50 == 49 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let begun = Instant::now();
        swarm.all_have(&digest(fleet.bundle(Repository::Policy).as_bytes()), count, begun).await;
        swarm
    }

    /// When each host had a bundle, from `since`, sorted.
    pub async fn all_have(&mut self, wanted: &str, count: usize, since: Instant) -> Vec<Duration> {
        let mut times = HashMap::new();
        let until = tokio::time::Instant::now() + LIMIT;
        while times.len() < count {
            match tokio::time::timeout_at(until, self.told.recv()).await {
                Ok(Some((number, has, at))) if has == wanted => {
                    times.entry(number).or_insert_with(|| at.saturating_duration_since(since));
                }
                Ok(Some(_)) => {}
                _ => panic!("{} of {count} hosts have it after {LIMIT:?}", times.len()),
            }
        }
        let mut times: Vec<Duration> = times.into_values().collect();
        times.sort();
        times
    }

    pub fn count(&self) -> usize {
        self.channels.len()
    }
}

async fn host(
    number: usize,
    channel: Arc<Channel>,
    mut verifier: Option<Client>,
    tell: mpsc::UnboundedSender<(usize, String, Instant)>,
) {
    let origin: Arc<dyn Origin> = channel.clone();
    let mut has = String::new();
    loop {
        let found = match &mut verifier {
            Some(client) => match client.check(&origin).await {
                Ok(checked) => {
                    let bundle = checked.bundle(&*origin).await;
                    bundle.map(|_| checked.digest).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            },
            None => read(&channel).await,
        };
        match found {
            Ok(found) if found != has => {
                has.clone_from(&found);
                if tell.send((number, found, Instant::now())).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            // It is not connected yet, or reads in the midst of a change: there will be news.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100 + fastrand::u64(0..200))).await;
                continue;
            }
        }
        channel.changed().await;
    }
}

pub fn share(times: &[Duration], of: f64) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = ((times.len() - 1) as f64 * of) as usize;
    times[at]
}

/// Publishes changes, and returns the slowest 99th percentile of them.
async fn measure(site: &Site, settings: Vec<Settings>, what: &str) -> Duration {
    let fleet = Fleet::new(&policy(0), &inventory(3, "tag:oms"));
    let publisher = site.service("publisher").await;
    push(&publisher, fleet.path()).await.unwrap();
    let begun = Instant::now();
    let mut swarm = Swarm::start(settings, &fleet, site.directory.path()).await;
    println!("{what}: {} hosts have the first policy after {:?}", swarm.count(), begun.elapsed());
    let mut worst = Duration::ZERO;
    for round in 1..=3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fleet.publish(Some(&policy(round)), None);
        let wanted = digest(fleet.bundle(Repository::Policy).as_bytes());
        let before: Vec<(u64, f64)> = site.cluster.usage();
        let begun = Instant::now();
        let pushed = push(&publisher, fleet.path()).await.unwrap();
        let acknowledged = begun.elapsed();
        let times = swarm.all_have(&wanted, swarm.count(), begun).await;
        let after = site.cluster.usage();
        let seconds: f64 = after.iter().zip(&before).map(|(after, before)| after.1 - before.1).sum();
        println!(
            "{what} round {round}: head {} B, pushed in {acknowledged:?}; p50 {:?}, p99 {:?}, max {:?}; servers {:?} MB, \
             {seconds:.2} s of CPU",
            pushed.head,
            share(&times, 0.5),
            share(&times, 0.99),
            times[times.len() - 1],
            after.iter().map(|(resident, _)| *resident).collect::<Vec<_>>(),
        );
        worst = worst.max(share(&times, 0.99));
    }
    let heads: u64 = swarm.channels.iter().map(|channel| channel.counts().heads).sum();
    let parts: u64 = swarm.channels.iter().map(|channel| channel.counts().parts).sum();
    println!("{what}: {heads} requests for the head, {parts} for parts, by {} hosts", swarm.count());
    assert_eq!(consumers(&publisher, FILES).await.unwrap(), 0, "no host has a consumer");
    worst
}

fn raise_descriptors() {
    let limit = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
    // SAFETY: a call with a pointer to a value that lives on. Fewer descriptors show as hosts that do not come.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// Swarms take the machine one after the other.
pub static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_change_is_with_all_hosts_within_half_a_second() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    raise_descriptors();
    let count = setting("BULKHEAD_AGENTS", 100);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let worst = runtime.block_on(async {
        let site = Site::closed(3).await;
        let settings = (0..count).map(|number| site.agent_settings(&format!("host-{number}"))).collect();
        measure(&site, settings, "TLS and JWT").await
    });
    assert!(worst < bulkhead_testkit::lab::slower(Duration::from_millis(500)), "{worst:?}");
}

#[test]
fn a_change_is_with_many_hosts_within_two_seconds() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    raise_descriptors();
    let count = setting("BULKHEAD_PLAIN_AGENTS", 300);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let worst = runtime.block_on(async {
        let site = Site::open(3).await;
        let settings = (0..count).map(|number| site.settings(None, &format!("host-{number}"))).collect();
        measure(&site, settings, "plain").await
    });
    assert!(worst < bulkhead_testkit::lab::slower(Duration::from_secs(2)), "{worst:?}");
}
