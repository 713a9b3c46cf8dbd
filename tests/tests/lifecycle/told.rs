//! What was told of is counted on by the next agent, to the drop, however the one before ended.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::site::{Over, Site, WEB};

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number: {value}"))
}

/// Drops by reason, and those that were told of, or that it is known nobody is.
fn drops(status: &Value) -> (u64, u64) {
    let passes = ["rule", "reply", "arp", "icmp_error", "neighbour_discovery", "link"];
    let reasons = status["reasons"].as_array().unwrap().iter();
    let dropped = reasons.filter(|count| !passes.contains(&count["reason"].as_str().unwrap()));
    let events = &status["agent"]["events"];
    let told = ["events", "aggregated"].map(|kind| number(&events[kind])).iter().sum::<u64>();
    (
        dropped.map(|count| number(&count["packets"])).sum(),
        told + number(&status["lost"]["ring"]) + number(&status["lost"]["budget"]),
    )
}

/// Lines on disk, and the drops that they tell of.
fn on_disk(site: &Site) -> (u64, u64) {
    let text =
        std::fs::read_to_string(format!("/var/lib/bulkhead/{}/events.jsonl", site.instance())).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.fold((0, 0), |(lines, drops), line| (lines + 1, drops + number(&line["count"])))
}

#[test]
fn what_was_told_of_is_counted_on_after_a_restart_and_after_a_kill() {
    let mut site = Site::new("told", Over::Ethernet, &[WEB]);
    site.start();
    let (stop, address) = (AtomicBool::new(false), site.address("server"));
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Ever other kinds of drops, so that there is always something to tell of.
            for port in (1000..60_000_u16).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let _ = socket.send_to(b"?", SocketAddr::new(address, port / 2));
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..6 {
                std::thread::sleep(Duration::from_millis(700 + 130 * round));
                let before = site.status()["agent"]["events"].clone();
                site.kill();
                site.start();
                let after = site.status()["agent"]["events"].clone();
                for kind in ["events", "aggregated", "written"] {
                    assert!(number(&after[kind]) >= number(&before[kind]), "{kind}: {before}, then {after}");
                }
                assert!(number(&before["written"]) > 0, "{before}");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let agree = |status: &Value| {
        let (dropped, told) = drops(status);
        dropped > 1000 && dropped == told
    };
    let status = site.wait_for("every drop is told of once", agree);
    let (lines, told) = on_disk(&site);
    let events = &status["agent"]["events"];
    assert_eq!(lines, number(&events["written"]));
    assert_eq!(told, number(&events["events"]) + number(&events["aggregated"]));
    // A restart that nothing happens in changes nothing.
    site.kill();
    site.start();
    let again = site.wait_for("as before", agree);
    assert_eq!(again["agent"]["events"], *events);
    // Nothing is enforced, and nothing counted.
    site.done(&["detach"]);
    assert!(site.has_ended());
    site.start();
    assert_eq!(number(&site.status()["agent"]["events"]["written"]), 0);
}
