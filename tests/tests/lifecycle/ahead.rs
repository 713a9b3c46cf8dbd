//! What a change takes away ends before its generation is there, and what both admit loses nothing.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::site::account::reports;
use crate::site::{OTHER, Over, Site, WEB, load};

#[test]
fn a_port_that_is_closed_drops_by_the_tables_that_run_still() {
    let mut site = Site::new("ahead", Over::Tunnel, &[WEB, OTHER]);
    site.start();
    let before = site.status()["agent"]["generation"].clone();
    let admitted = load::start(&site, 8080, 8082);
    let to = SocketAddr::new(site.address("server"), 8081);
    let client = site.namespace("client").run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // What is refused at the other end is an error here.
                let _ = client.send_to(b"?", to);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        site.write_policy(&[WEB]);
        site.done(&["apply"]);
        is_over.store(true, Ordering::Relaxed);
    });
    load::check(admitted);
    let is_meant = |report: &Value| report["kind"] == "drop" && report["destination_port"] == 8081;
    let until = Instant::now() + Duration::from_secs(10);
    let first = loop {
        if let Some(first) = reports(&site.journal_file()).into_iter().find(is_meant) {
            break first;
        }
        assert!(Instant::now() < until, "no drop is told of");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((&first["generation"], &first["reason"]), (&before, &Value::from("no_rule")), "{first}");
}
