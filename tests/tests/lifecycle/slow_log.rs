//! An event log whose disk hangs: the ring is read all the same, whoever watches is told, and what the log lacks is
//! counted.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, Process, slower};

use crate::hang::Disk;
use crate::site::account::{drops, lost, number, reports, told, told_in};
use crate::site::{Over, Site, WEB};

/// How long the disk hangs.
const HANGS: Duration = Duration::from_secs(10);

#[test]
fn a_disk_that_hangs_under_a_flood_costs_no_event_of_the_ring() {
    let mut site = Site::new("slowlog", Over::Ethernet, &[WEB]);
    let mut disk = Disk::new(&site);
    // Each drop is told of, and none summed up with others of its sender.
    let config = site.configuration("server", "eth0") + "[limits]\nevent_budget = 400000\n";
    site.write("agent.toml", &config);
    site.start();
    let before = site.wait_for_balance();
    let watched = site.lab.directory().join("watched");
    let mut watch = Command::new(lab::bulkhead().unwrap());
    watch.args(["--json", "--instance", site.instance(), "watch"]);
    let watch = Process::spawn(site.namespace("server"), &mut watch, &watched).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let sender = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();

    disk.freeze();
    let (began, mut port) = (Instant::now(), 1024_u16);
    let address = site.address("server");
    while began.elapsed() < HANGS {
        for _ in 0..30 {
            let _ = sender.send_to(b"?", SocketAddr::new(address, port));
            port = port.checked_add(1).unwrap_or(1024);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // While it hangs: more than the queue has room for was dropped, and all of it was read.
    let during = site.status();
    let flooded = drops(&during) - drops(&before);
    assert_eq!(lost(&during), lost(&before), "{during}");
    assert!(flooded > 17_000, "no flood: {flooded}");
    // Whoever watches sees it meanwhile, or is told how much he was too slow for.
    let watched_so_far = || {
        let missed = reports(&watched).into_iter().filter(|event| event["kind"] == "missed");
        (told_in(&watched), missed.map(|event| number(&event["missed"])).sum::<u64>())
    };
    let deadline = Instant::now() + slower(Duration::from_secs(20));
    while watched_so_far().0 + watched_so_far().1 + 500 < flooded {
        assert!(Instant::now() < deadline, "{:?} of {flooded} drops were watched", watched_so_far());
        std::thread::sleep(Duration::from_millis(100));
    }
    let (seen, missed) = watched_so_far();
    assert!(seen > flooded / 2, "{seen} of {flooded} drops were watched, {missed} events missed");
    site.wait_for("the log's queue is full", |status| number(&status["agent"]["events"]["overflowed"]) > 0);

    disk.thaw();
    watch.signal(libc::SIGTERM);
    let journal = site.journal_file();
    let after = site.wait_for("every drop is told of, and what the log lacks is counted", |status| {
        let unwritten = number(&status["agent"]["events"]["unwritten_drops"]);
        told(status) + lost(status) == drops(status) && told_in(&journal) + unwritten == told(status)
    });
    let events = &after["agent"]["events"];
    assert_eq!((&events["unwritten"], lost(&after)), (&events["overflowed"], lost(&before)), "{after}");
    site.wait_for("what is counted as written is in the log", |status| {
        reports(&journal).len() as u64 == number(&status["agent"]["events"]["written"])
    });
    println!(
        "{flooded} drops in {HANGS:?}, {seen} watched meanwhile and {missed} missed; afterwards {events}"
    );
}
