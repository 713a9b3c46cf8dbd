//! What was told of is counted on by the next agent, to the drop, however the one before ended.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::site::account::{drops, lost, number, reports, told, told_in};
use crate::site::{Over, Site, WEB};

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
                std::thread::sleep(Duration::from_micros(500));
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
    let journal = site.journal_file();
    let agrees = |status: &Value| {
        let lines = reports(&journal).len() as u64;
        drops(status) > 1000
            && drops(status) == told(status) + lost(status)
            && (lines, told_in(&journal)) == (number(&status["agent"]["events"]["written"]), told(status))
    };
    let status = site.wait_for("every drop is told of once", agrees);
    let events = &status["agent"]["events"];
    // A restart that nothing happens in changes nothing.
    site.kill();
    site.start();
    let again = site.wait_for("as before", agrees);
    assert!(number(&again["agent"]["events"]["written"]) >= number(&events["written"]), "{again}");
    // Where nothing was enforced any more, the next agent counts from nothing: the little that comes by itself.
    site.done(&["detach"]);
    assert!(site.has_ended());
    let earlier = reports(&journal).len() as u64;
    site.start();
    let anew = site.wait_for("counted from nothing", |status| {
        let lines = reports(&journal).len() as u64;
        lines == earlier + number(&status["agent"]["events"]["written"])
            && drops(status) == told(status) + lost(status)
    });
    assert!(drops(&anew) < 100, "{anew}");
}
