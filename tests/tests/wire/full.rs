//! What tells of drops is full, stuck or gone: no verdict depends on it, and what is lost is counted.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab;
use serde_json::Value;

use crate::site::account::{drops, lost, number, reports, told, told_in};
use crate::site::load;
use crate::site::{Over, Site, WEB};

/// A ring for 46 events, and aggregates of 64 kinds: soon full.
const SMALL: &str = "[events]\nring_bytes = 4096\naggregates = 64\n";

/// The agent's configuration with more of it.
fn configure(site: &Site, more: &str) {
    site.write("agent.toml", &(site.configuration("server", site.interface()) + more));
}

/// Datagrams to this many ports that nobody may reach, each a kind of drop of its own, so often; every
/// port has a socket of the server, and none may hear anything.
fn refused(site: &Site, kinds: u16, times: u16) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let sender = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    let server = site.address("server");
    let heard = site.namespace("server").run(|| {
        let bind = |port| UdpSocket::bind(SocketAddr::new(server, port)).unwrap();
        (20_000..20_000 + kinds).map(bind).collect::<Vec<_>>()
    });
    let heard = heard.unwrap();
    for _ in 0..times {
        for socket in &heard {
            assert_eq!(sender.send_to(b"denied", socket.local_addr().unwrap()).unwrap(), 6);
        }
        // No queue on the way is so long.
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(100));
    for socket in heard {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 8]).is_err(), "a denied datagram passed");
    }
}

/// Allowed requests are answered and denied ones are not heard while `work` goes on.
#[track_caller]
fn under_load(site: &Site, work: impl FnOnce()) {
    let load = load::start(site, 8080, 8081);
    work();
    std::thread::sleep(Duration::from_millis(500));
    let counts = load::check(load);
    assert!(counts.sent > 20, "{counts:?}");
}

#[test]
fn a_ring_that_nobody_reads_changes_no_verdict_and_its_losses_are_counted() {
    let mut site = Site::new("ring", Over::Ethernet, &[WEB]);
    configure(&site, SMALL);
    site.start();
    let before = site.wait_for_balance();
    assert_eq!(lost(&before), 0);

    // The agent stands still.
    site.suspend();
    under_load(&site, || refused(&site, 300, 3));
    site.signal(libc::SIGCONT);
    let stopped = site.wait_for_balance();
    assert!(drops(&stopped) - drops(&before) >= 900, "{stopped}");
    assert!(number(&stopped["lost"]["ring"]) > 500, "{stopped}");

    // There is none; then there is one again, which reads what it finds and goes on.
    site.kill();
    under_load(&site, || refused(&site, 300, 3));
    site.start();
    let killed = site.wait_for_balance();
    assert!(drops(&killed) - drops(&stopped) >= 900, "{killed}");
    assert!(lost(&killed) > lost(&stopped));
    under_load(&site, || refused(&site, 10, 2));
    let after = site.wait_for_balance();
    assert!(drops(&after) - drops(&killed) >= 20);
}

#[test]
fn an_agent_that_is_killed_while_it_tells_of_drops_loses_none_of_them() {
    let mut site = Site::new("killed", Over::Ethernet, &[WEB]);
    site.start();
    site.wait_for_balance();
    let journal = site.journal_file();
    let size = || reports(&journal).len();
    // The report that it was killed with may come twice: it was written, and still in the kernel.
    let mut twice = 0;
    for round in 0..2 {
        // Killed in the midst of its summaries, or of its events.
        refused(&site, 1000, 2);
        let events = size();
        let deadline = Instant::now() + Duration::from_secs(3);
        while round % 2 == 0 && size() == events && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        if round % 2 == 1 {
            refused(&site, 1000, 1);
        }
        site.kill();
        let last = reports(&journal).into_iter().rfind(|report| report["kind"] == "drop").unwrap();
        site.start();
        // One that was not noted yet is taken out of the log, and told anew, perhaps with more of its kind.
        let times = || reports(&journal).iter().filter(|report| **report == last).count() as u64;
        let more = |times: u64| times.saturating_sub(1) * number(&last["count"]);
        site.wait_for("every drop is told of", |status| {
            told_in(&journal) + lost(status) == drops(status) + twice + more(times())
        });
        assert!(times() <= 2, "{last}");
        twice += more(times());
    }
}

/// A small file system in the place of a state directory, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(state: &Path) -> Self {
        std::fs::create_dir_all(state).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]).arg(state);
        let output = lab::run_within(&mut mount, Duration::from_secs(5)).unwrap();
        assert!(output.status.success(), "{output:?}");
        Self(state.to_owned())
    }

    /// Leaves not a byte.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write(&[0; 512]).is_ok_and(|written| written > 0) {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        let done = lab::run_within(unmount.arg("-l").arg(&self.0), Duration::from_secs(5));
        if !done.is_ok_and(|output| output.status.success()) {
            eprintln!("{:?} stays mounted", self.0);
        }
    }
}

#[test]
fn a_full_disk_changes_no_verdict_and_what_is_not_written_is_counted() {
    let mut site = Site::new("disk", Over::Ethernet, &[WEB]);
    let disk = SmallDisk::new(site.journal_file().parent().unwrap());
    site.start();
    refused(&site, 10, 2);
    site.wait_for_balance();
    let journal = site.journal_file();
    let written = told_in(&journal);

    disk.fill();
    under_load(&site, || refused(&site, 100, 3));
    // Every drop is told of, and what is told of is on disk or known not to be.
    let is_exact = |status: &Value| {
        let unwritten = number(&status["agent"]["events"]["unwritten_drops"]);
        told(status) + lost(status) == drops(status) && told_in(&journal) + unwritten == told(status)
    };
    let full = site.wait_for("it is exact on a full disk", is_exact);
    assert!(number(&full["agent"]["events"]["unwritten"]) > 0, "{full}");
    assert!(told_in(&journal) - written < 20, "the disk was not full");

    // Nothing is applied that could not be kept; who is cut off is cut off.
    let before = full["agent"]["generation"].clone();
    let output = site.bulkhead(&["apply"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(site.status()["agent"]["generation"], before);
    let output = site.bulkhead(&["quarantine", "client"]);
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && String::from_utf8_lossy(&said).contains("not on disk"), "{said:?}");
    assert!(site.is_denied("client", 8080));

    // Space comes back.
    disk.free();
    refused(&site, 100, 1);
    let after = site.wait_for("it is exact afterwards", is_exact);
    assert!(told_in(&journal) >= written + 100, "{after}");
    let lines = std::fs::read_to_string(&journal).unwrap().lines().count();
    assert_eq!(reports(&journal).len(), lines, "a line was left half-way");
    std::thread::sleep(Duration::from_millis(2500));
    site.kill();
    site.start();
    assert!(site.is_denied("client", 8080), "what the disk had refused is on it by now");
    site.done(&["release", "client"]);
    site.done(&["apply"]);
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
}

#[test]
fn a_watcher_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed() {
    let mut site = Site::new("stuck", Over::Ethernet, &[WEB]);
    // Each drop is told of, and none summed up with others of its sender.
    let config = site.configuration("server", "eth0") + "[limits]\nevent_budget = 400000\n";
    site.write("agent.toml", &config);
    site.start();
    site.wait_for_balance();
    let mut watcher = UnixStream::connect(format!("/run/bulkhead/{}/agent.sock", site.instance())).unwrap();
    watcher.write_all(b"GET /v1/events HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n").unwrap();
    // It has been heard.
    watcher.read_exact(&mut [0; 12]).unwrap();
    under_load(&site, || {
        refused(&site, 10, 1);
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let sender = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
        for port in 30_000..38_000 {
            sender.send_to(b"denied", SocketAddr::new(site.address("server"), port)).unwrap();
            if port % 100 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    site.wait_for_balance();

    // It reads at last: every report is there, or counted as missed.
    watcher.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut seen, mut missed) = (Vec::new(), 0);
    for line in BufReader::new(watcher).lines().map_while(Result::ok) {
        // Chunks' lengths and headers are between them.
        let Ok(Value::Object(report)) = serde_json::from_str(&line) else { continue };
        match report.get("missed") {
            Some(count) => missed += number(count),
            None => seen.push(Value::Object(report)),
        }
    }
    // Others' noise may have been reported before it watched, and after it has read.
    let journal = reports(&site.journal_file());
    let first = journal.iter().position(|report| *report == seen[0]).unwrap();
    let last = journal.iter().rposition(|report| report == seen.last().unwrap()).unwrap();
    println!("{} reports: {} seen, {missed} missed", last + 1 - first, seen.len());
    assert_eq!(seen.len() as u64 + missed, (last + 1 - first) as u64);
    assert!(missed > 0 && last - first >= 8000, "it was never behind");
}
