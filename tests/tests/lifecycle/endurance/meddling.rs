//! What is enforced is meddled with by root, in every way that other tools have, while packets come that the
//! policy denies: it is restored within a second, and each time without enforcement is on record.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_testkit::lab::{self, INTERFACE, Namespace, Process};
use bulkhead_testkit::measure::Hook;
use bulkhead_testkit::measure::bpf::{self, Place};
use bulkhead_testkit::setting;
use fastrand::Rng;

use super::Ground;
use super::looks::Looks;
use super::record::{Recorded, recorded};
use crate::site::Site;

/// Within which everything is to be restored, ms.
const RESTORED: u64 = 1000;
/// How far a recorded time may be from the true one, ms, beyond what the machine's scheduler is late by.
const TRUE: u64 = 10;
/// What may usually lie between two looks, ms: a look may take a twentieth of one CPU's time, and a debug build's
/// takes over a millisecond.
const USUAL: u64 = 40;
/// `r0 = TCX_PASS; exit`: nothing after it is asked.
const PASS: [u64; 2] = [0xb7, 0x95];
/// Between two of the agent's looks.
const LOOK: Duration = Duration::from_millis(5);
/// Between two packets of a sender.
const PAUSE: Duration = Duration::from_millis(1);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meddling {
    /// A link is detached; its pin stays.
    Detach,
    /// A link's pin is removed.
    Unpin,
    /// All pins are removed.
    UnpinAll,
    /// The guard's table is emptied, or gone with all others.
    Flush,
    /// Another program is put before ours.
    Foreign,
    /// The interface is renamed, and back.
    Rename,
    /// The interface goes to another network namespace, and comes back.
    Move,
    /// The interface is removed and made again with the same index.
    SameIndex,
    /// Two interfaces swap their names, and swap them again.
    Swap,
}

const ALL: [Meddling; 9] = {
    use Meddling::{Detach, Flush, Foreign, Move, Rename, SameIndex, Swap, Unpin, UnpinAll};
    [Detach, Unpin, UnpinAll, Flush, Foreign, Rename, Move, SameIndex, Swap]
};

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A sender and when it was heard.
struct Probe {
    heard: Arc<Mutex<Vec<u64>>>,
    last: Arc<AtomicU64>,
}

/// Senders that never pause for long, until they are dropped.
struct Probes {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Probes {
    fn add(&mut self, from: &Namespace, source: IpAddr, to: &Namespace, at: SocketAddr) -> Probe {
        let sender = from.run(|| UdpSocket::bind((source, 0))).unwrap().unwrap();
        let receiver = to.run(|| UdpSocket::bind(at)).unwrap().unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let probe = Probe { heard: Arc::default(), last: Arc::default() };
        let (heard, last) = (probe.heard.clone(), probe.last.clone());
        let stop = self.stop.clone();
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // Without its interface, or where it is denied, it is refused.
                let _ = sender.send_to(b"?", at);
                std::thread::sleep(PAUSE);
            }
        }));
        let stop = self.stop.clone();
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok((_, who)) = receiver.recv_from(&mut [0; 8])
                    && who.ip() == source
                {
                    last.store(now(), Ordering::Relaxed);
                    heard.lock().unwrap().push(now());
                }
            }
        }));
        probe
    }
}

/// How late this machine's scheduler is at most, as the agent meets it: a thread that sleeps as long.
struct Lateness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Lateness {
    fn measure() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                std::thread::sleep(LOOK);
                worst = worst.max(start.elapsed().saturating_sub(LOOK));
            }
            worst.as_millis() as u64
        });
        Self { stop, thread }
    }

    fn worst(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The hosts, their addresses fixed, and a second Ethernet interface beside the first.
struct Field {
    ground: Ground,
    hardware: &'static str,
    away: Namespace,
}

impl Field {
    fn new() -> Self {
        let mut ground = Ground::new("meddle");
        let hardware = "02:00:00:00:be:01";
        let site = &ground.site;
        let server = site.namespace("server");
        server.ip(&format!("link set eth0 address {hardware}")).unwrap();
        let core = site.core();
        server.ip(&format!("link add eth1 type veth peer name second netns {core}")).unwrap();
        lab::ip(&format!("-n {core} link set second master br0 up")).unwrap();
        server.ip("link set eth1 up").unwrap();
        let address = site.underlay("server");
        for name in ["client", "stranger"] {
            let words = format!("neigh replace {address} lladdr {hardware} nud permanent dev eth0");
            site.namespace(name).ip(&words).unwrap();
        }
        ground.site.start();
        Self { ground, hardware, away: Namespace::create("away").unwrap() }
    }

    fn site(&self) -> &Site {
        &self.ground.site
    }

    fn server(&self, words: &str) {
        self.site().namespace("server").ip(words).unwrap();
    }

    /// Several commands of `ip` without a pause between them.
    fn batch(&self, words: &str) {
        self.site().write("batch", words);
        let name = self.site().namespace("server").name();
        lab::ip(&format!("-n {name} -batch {}", self.site().path("batch"))).unwrap();
    }

    fn nft(&self, words: &[&str]) {
        let mut command = Command::new("nft");
        self.site().namespace("server").prepare(command.args(words)).unwrap();
        let output = lab::run_within(&mut command, Duration::from_secs(10)).unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }

    fn index(&self, interface: &str) -> u32 {
        let said = self.site().namespace("server").ip(&format!("-o link show {interface}")).unwrap();
        said.split(':').next().unwrap().parse().unwrap()
    }

    /// The address and everything else that is lost with the first Ethernet interface.
    fn restore(&self) -> String {
        let v4 = self.site().underlay("server");
        format!("link set eth0 address {}\nlink set eth0 up\naddr replace {v4}/24 dev eth0\n", self.hardware)
    }

    /// Meddles; the program that is to be left, if one was put somewhere.
    fn meddle(&self, meddling: Meddling, rng: &mut Rng) -> Option<std::os::fd::OwnedFd> {
        let site = self.site();
        let (interface, ingress) =
            if rng.bool() { ("eth0", "xdp-native") } else { (INTERFACE, "tcx-ingress") };
        let hook = if rng.bool() { ingress } else { "tcx-egress" };
        let pause = Duration::from_millis(rng.u64(..60));
        match meddling {
            Meddling::Detach => bpf::detach(&site.link(interface, hook)).unwrap(),
            Meddling::Unpin => std::fs::remove_file(site.link(interface, hook)).unwrap(),
            Meddling::UnpinAll => match std::fs::remove_dir_all(site.pins()) {
                // The first of them is back before the last is gone.
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                removed => removed.unwrap(),
            },
            Meddling::Flush if rng.bool() => self.nft(&["flush", "ruleset"]),
            Meddling::Flush => {
                self.nft(&["flush", "table", "inet", &format!("bulkhead-{}", site.instance())]);
            }
            Meddling::Foreign => {
                let place = if hook == "tcx-ingress" { Place::TcxIngress } else { Place::TcxEgress };
                let program = bpf::load(Hook::Tc, &PASS).unwrap();
                let index = self.index(interface);
                let attach = || bpf::attach_first(place, std::os::fd::AsFd::as_fd(&program), index);
                return Some(site.namespace("server").run(attach).unwrap().unwrap());
            }
            Meddling::Rename => {
                self.server("link set eth0 down");
                self.server("link set eth0 name other up");
                std::thread::sleep(pause);
                self.server("link set other down");
                self.batch(&format!("link set other name eth0\n{}", self.restore()));
            }
            Meddling::Move => {
                let (away, server) = (self.away.name(), site.namespace("server").name());
                self.server(&format!("link set eth0 netns {away}"));
                std::thread::sleep(pause);
                self.away.ip(&format!("link set eth0 netns {server}")).unwrap();
                self.batch(&self.restore());
            }
            Meddling::SameIndex => {
                let index = self.index("eth0");
                let core = site.core();
                self.batch(&format!(
                    "link del eth0\nlink add eth0 index {index} type veth peer name again netns {core}\n{}",
                    self.restore()
                ));
                lab::ip(&format!("-n {core} link set again master br0 up")).unwrap();
            }
            Meddling::Swap => {
                let swap = |up: &str| {
                    format!(
                        "link set eth0 down\nlink set eth1 down\nlink set eth0 name swap\n\
                         link set eth1 name eth0\nlink set swap name eth1\nlink set eth0 up\nlink set eth1 up\n{up}"
                    )
                };
                self.batch(&swap(""));
                std::thread::sleep(pause);
                self.batch(&swap(&self.restore()));
            }
        }
        None
    }

    /// Whether the guard and every pin are there.
    fn is_whole(&self) -> bool {
        let links = [("eth0", "xdp-native"), (INTERFACE, "tcx-ingress"), ("eth0", "tcx-egress")];
        links.iter().all(|(interface, hook)| self.site().link(interface, hook).exists())
            && self.site().layout().join("state/FLOWS").exists()
            && self.site().status()["state"] == "enforced"
    }
}

/// `cargo xtask soak meddlings` does 1,000, or `BULKHEAD_MEDDLINGS`.
#[test]
fn what_is_meddled_with_is_restored_within_a_second_and_on_record() {
    let meddlings = setting("BULKHEAD_MEDDLINGS", 18);
    let seed = setting("BULKHEAD_SEED", 1);
    println!("BULKHEAD_MEDDLINGS={meddlings} BULKHEAD_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let field = Field::new();
    let site = field.site();
    let watched = site.lab.directory().join("watched");
    let mut watch = Command::new(lab::bulkhead().unwrap());
    watch.args(["--json", "--instance", site.instance(), "watch"]);
    let watch = Process::spawn(site.namespace("server"), &mut watch, &watched).unwrap();

    let mut probes = Probes { stop: Arc::default(), threads: Vec::new() };
    let [server, client, stranger] = ["server", "client", "stranger"].map(|name| site.namespace(name));
    let mut allowed = Vec::new();
    let mut denied = Vec::new();
    for way in [0, 1] {
        // On the switch, and on the tunnel over it.
        let from = |name: &str| field.ground.addresses(name)[way];
        let at = |name: &str, port: u16| SocketAddr::new(from(name), port);
        allowed.push(probes.add(client, from("client"), server, at("server", 8080)));
        denied.push(probes.add(client, from("client"), server, at("server", 8081)));
        denied.push(probes.add(server, from("server"), stranger, at("stranger", 9000)));
    }
    let passes = |since: u64| allowed.iter().all(|probe| probe.last.load(Ordering::Relaxed) > since);
    std::thread::sleep(Duration::from_millis(500));
    assert!(passes(now() - 400), "nothing is meddled with yet");
    let started = now();
    let (lateness, looks) = (Lateness::measure(), Looks::of(site.agent_pid()));

    let (mut windows, mut longest) = (Vec::new(), 0);
    for number in 0..meddlings {
        // Each kind first, then any.
        let meddling = ALL.get(number as usize).copied().unwrap_or_else(|| ALL[rng.usize(..ALL.len())]);
        let before = now();
        let foreign = field.meddle(meddling, &mut rng);
        let done = now();
        while !(passes(done) && field.is_whole()) {
            assert!(
                now() < done + 5 * RESTORED,
                "{meddling:?} ({number}) is not restored: {}\nthe agent said:\n{}",
                site.status(),
                site.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let restored = now();
        longest = longest.max(restored - done);
        windows.push((meddling, before, done, restored));
        drop(foreign);
        std::thread::sleep(Duration::from_millis(rng.u64(20..60)));
    }
    // What was reported last has a moment to arrive.
    std::thread::sleep(Duration::from_millis(300));
    drop(probes);
    watch.signal(libc::SIGTERM);
    let recorded = recorded(&std::fs::read_to_string(&watched).unwrap());
    let late = lateness.worst();
    let accuracy = TRUE + late;
    let looks = looks.stop();
    let usual = looks.usual();
    assert!(usual <= USUAL, "{usual} ms between two looks");

    for (meddling, before, done, restored) in &windows {
        let is_on_record = |record: &&Recorded| record.until >= *before && record.since <= *restored;
        let records: Vec<_> = recorded.iter().filter(is_on_record).collect();
        assert!(
            !records.is_empty(),
            "{meddling:?} at {before} is not on record: {recorded:#?}\n{}",
            site.log()
        );
        // No earlier than it may be, unless the scheduler let the agent look no sooner.
        let earliest = before.saturating_sub(accuracy).min(looks.last_whole_before(*before));
        for record in records {
            assert!(record.since >= earliest, "{meddling:?} at {before} to {done}: too early: {record:?}");
        }
    }
    let mut passed = 0;
    for heard in denied.iter().flat_map(|probe| probe.heard.lock().unwrap().clone()) {
        assert!(heard >= started, "a denied packet was heard before anything was meddled with");
        passed += 1;
        let is_covered = |record: &Recorded| {
            record.is_open && record.since <= heard + accuracy && heard <= record.until + accuracy
        };
        assert!(
            recorded.iter().any(is_covered),
            "heard at {heard}, and no such time is on record: {recorded:#?}"
        );
        let in_time = windows.iter().any(|(_, before, done, _)| *before <= heard && heard <= done + RESTORED);
        assert!(in_time, "heard at {heard}, after the second: {windows:?}");
    }
    let texts: Vec<&String> = recorded.iter().map(|record| &record.text).collect();
    println!(
        "{usual} ms between two looks, scheduler late by up to {late} ms; {meddlings} meddlings: all restored, the longest after {longest} ms; {} times on record, {passed} denied \
         packets passed within them, none after; the last: {:?}",
        recorded.len(),
        texts.last()
    );
    assert_eq!(site.status()["state"], "enforced");
}
