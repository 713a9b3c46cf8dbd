//! A flood of drops beside a few of a stranger: these are told of, each.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_engine::Reason;
use serde_json::Value;

use crate::site::account::{drops, number, packets, reports};
use crate::site::{Over, Site, WEB};

/// How many ports of the server the stranger tries at a time, and how many times.
const PROBES: u16 = 3;
const ROUNDS: u16 = 4;

/// What denies it them.
const DENIED: &str =
    r#"{"name": "denied", "action": "deny", "src": ["tag:stranger"], "dst": ["tag:server:*"]}"#;

/// Datagrams from one socket of a host to a port that no rule admits, as fast as it can.
struct Flood {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<u64>,
    started: Instant,
}

impl Flood {
    fn start(site: &Site, from: &str, to: &str) -> Self {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let socket = site.namespace(from).run(|| UdpSocket::bind(any)).unwrap().unwrap();
        let at = SocketAddr::new(site.address(to), 9);
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let sending = std::thread::spawn(move || {
            let mut sent = 0;
            while !until.load(Ordering::Relaxed) {
                // What is dropped on its way out may be an error here.
                sent += u64::from(socket.send_to(&[0], at).is_ok());
            }
            sent
        });
        Self { stop, sending, started: Instant::now() }
    }

    /// How many a second were sent.
    fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sending.join().unwrap() as f64 / self.started.elapsed().as_secs_f64()
    }
}

/// One datagram to each of three ports.
fn probe(site: &Site, first: u16) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for port in first..first + PROBES {
        socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
    }
}

/// The ports that events tell of, each of one datagram, with names on both ends.
fn told(site: &Site) -> BTreeSet<u64> {
    let reports = reports(&site.journal_file()).into_iter();
    let events =
        reports.filter(|report| report["source_name"] == "stranger" && report["direction"] == "ingress");
    let named = events.inspect(|event| {
        let ends = (&event["destination_name"], &event["count"], &event["rule_name"]);
        assert_eq!(ends, (&Value::from("server"), &Value::from(1), &Value::from("denied")), "{event}");
        assert_ne!(event["source_port"], 0, "a summary: {event}");
    });
    named.map(|event| number(&event["port"])).collect()
}

/// Three probes in each of some seconds beside floods from one host to another.
fn probes_are_told_of(label: &str, floods: &[(&str, &str)]) {
    let mut site = Site::with_hosts(label, Over::Ethernet, &[DENIED, WEB], &["visitor"]);
    site.start();
    let floods: Vec<_> = floods.iter().map(|(from, to)| Flood::start(&site, from, to)).collect();
    for round in 1..=ROUNDS {
        std::thread::sleep(Duration::from_millis(800));
        probe(&site, 20 * round);
    }
    std::thread::sleep(Duration::from_millis(300));
    let sent: Vec<f64> = floods.into_iter().map(Flood::stop).collect();
    let status = site.wait_for_balance();
    let arrived = packets(&status, Reason::DenyRule);
    println!(
        "{label}: {sent:.0?} datagrams a second, {} drops, {arrived} of them probes; {}",
        drops(&status),
        status["lost"]
    );
    assert!(number(&status["lost"]["budget"]) > 0, "no flood: {status}");
    // The network itself may lose some beside a flood.
    assert!(arrived >= u64::from(PROBES), "{status}");
    assert_eq!(told(&site).len() as u64, arrived, "{:?} of {arrived}: {status}", told(&site));
    assert!(site.connects("client", 8080));
}

#[test]
fn a_process_of_the_host_blinds_no_report_of_what_comes_in() {
    probes_are_told_of("flood-out", &[("server", "client")]);
}

#[test]
fn another_hosts_flood_blinds_no_report_of_a_stranger() {
    // Of a node, it may share with the stranger for a second.
    probes_are_told_of("flood-in", &[("visitor", "server")]);
    probes_are_told_of("flood-both", &[("visitor", "server"), ("server", "client")]);
}

#[test]
fn a_scan_is_told_of_by_its_sender() {
    let mut site = Site::new("scan", Over::Ethernet, &[WEB]);
    site.start();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    let started = Instant::now();
    for port in (1..=u16::MAX).cycle() {
        let _ = socket.send_to(b"?", SocketAddr::new(site.address("server"), port));
        if started.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    site.wait_for_balance();
    let reports = reports(&site.journal_file());
    let many: Vec<_> = reports.iter().filter(|report| report["many"] == true).collect();
    let of_stranger = |report: &Value| {
        report["source_name"] == "stranger" && report["destination"].is_null() && report["protocol"] == "any"
    };
    assert!(!many.is_empty() && many.iter().all(|report| of_stranger(report)), "{many:?}");
    assert!(many.iter().map(|report| number(&report["count"])).max().unwrap() > 100, "{many:?}");
    println!("{}", many[0]);
}
