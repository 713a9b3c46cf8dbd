//! A flood of drops beside a few of a stranger: these are told of, each.

mod sources;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::site::account::{drops, number, reports};
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
    sent: Arc<AtomicU64>,
    sending: JoinHandle<()>,
    started: Instant,
}

impl Flood {
    fn start(site: &Site, from: &str, to: &str) -> Self {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let socket = site.namespace(from).run(|| UdpSocket::bind(any)).unwrap().unwrap();
        let at = SocketAddr::new(site.address(to), 9);
        Self::of(move || socket.send_to(&[0], at).is_ok())
    }

    /// The same, of a new source each.
    fn made_up(site: &Site, from: &str, to: &str) -> Self {
        let mut rng = fastrand::Rng::with_seed(21);
        let send = raw(site, from, to);
        Self::of(move || {
            // Of none of the networks that the policy names.
            send([rng.u8(1..10), rng.u8(..), rng.u8(..), rng.u8(..)], rng.u16(1..))
        })
    }

    /// So many datagrams of so many sources, one after the other.
    fn of_sources(site: &Site, from: &str, to: &str, packets: u64, sources: u32) -> Self {
        let send = raw(site, from, to);
        let mut sources = (0..sources).cycle();
        Self::bounded(packets, move || {
            let [_, a, b, c] = sources.next().unwrap_or_default().to_be_bytes();
            send([1, a, b, c], 1)
        })
    }

    fn of(send: impl FnMut() -> bool + Send + 'static) -> Self {
        Self::bounded(u64::MAX, send)
    }

    fn bounded(packets: u64, mut send: impl FnMut() -> bool + Send + 'static) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let sending = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) && count.load(Ordering::Relaxed) < packets {
                // What is dropped on its way out may be an error here.
                count.fetch_add(u64::from(send()), Ordering::Relaxed);
            }
        });
        Self { stop, sent, sending, started: Instant::now() }
    }

    /// How many were sent until now.
    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.sending.is_finished()
    }

    /// Waits until all are sent: how many a second, and how long it took.
    fn join(self) -> (f64, Duration) {
        self.sending.join().unwrap();
        let took = self.started.elapsed();
        (self.sent.load(Ordering::Relaxed) as f64 / took.as_secs_f64(), took)
    }

    /// How many a second were sent.
    fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.join().0
    }
}

/// Sends a datagram of a source that need not be there, with this identification.
fn raw(site: &Site, from: &str, to: &str) -> impl Fn([u8; 4], u16) -> bool + Send + use<> {
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)));
    let socket = site.namespace(from).run(open).unwrap().unwrap();
    let IpAddr::V4(to) = site.address(to) else { unreachable!("an IPv4 address") };
    let at = SocketAddr::from((to, 0)).into();
    move |source, identification| {
        // Version and header length, total length, TTL, protocol; the kernel fills in the sum.
        let mut packet = *b"\x45\0\0\x1d\0\0\0\0\x40\x11\0\0\0\0\0\0\0\0\0\0\0\x07\0\x09\0\x09\0\0\0";
        packet[4..6].copy_from_slice(&identification.to_be_bytes());
        packet[12..16].copy_from_slice(&source);
        packet[16..20].copy_from_slice(&to.octets());
        socket.send_to(&packet, &at).is_ok()
    }
}

/// One datagram to each of three ports.
fn probe(site: &Site, first: u16) {
    for port in first..first + PROBES {
        probe_at(site, port);
    }
}

/// One datagram of the stranger to a port.
fn probe_at(site: &Site, port: u16) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
}

/// The ports that events tell of, each of one datagram, with names on both ends.
fn told(site: &Site) -> BTreeSet<u64> {
    let reports = reports(&site.journal_file()).into_iter();
    let events =
        reports.filter(|report| report["source"]["name"] == "stranger" && report["direction"] == "ingress");
    let named = events.inspect(|event| {
        let ends = (&event["destination"]["name"], &event["count"], &event["rule"]["name"]);
        assert_eq!(ends, (&Value::from("server"), &Value::from(1), &Value::from("denied")), "{event}");
        assert!(event["source_port"].is_u64(), "a summary: {event}");
    });
    named.map(|event| number(&event["destination_port"])).collect()
}

/// Three probes in each of some seconds beside floods from one host to another.
fn probes_are_told_of(label: &str, floods: &[(&str, &str)]) {
    probes_are_told_of_with(label, &[DENIED, WEB], |site| {
        floods.iter().map(|(from, to)| Flood::start(site, from, to)).collect()
    });
}

fn probes_are_told_of_with(label: &str, acls: &[&str], floods: impl FnOnce(&Site) -> Vec<Flood>) {
    let mut site = Site::with_hosts(label, Over::Ethernet, acls, &["visitor"]);
    site.start();
    let floods = floods(&site);
    for round in 1..=ROUNDS {
        std::thread::sleep(Duration::from_millis(800));
        probe(&site, 20 * round);
    }
    std::thread::sleep(Duration::from_millis(300));
    let sent: Vec<f64> = floods.into_iter().map(Flood::stop).collect();
    let status = site.wait_for_balance();
    let rules = status["agent"]["rule_counters"].as_array().unwrap();
    let arrived = number(&rules.iter().find(|rule| rule["name"] == "denied").unwrap()["packets"]);
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
fn sources_that_are_made_up_blind_no_report_of_whom_the_rules_know() {
    // It names everybody, made up or not.
    const EVERYBODY: &str = r#"{"action": "deny", "src": ["*"], "dst": ["tag:server:*"]}"#;
    for (label, acls) in [("flood-made", &[DENIED, WEB][..]), ("flood-named", &[DENIED, WEB, EVERYBODY])] {
        probes_are_told_of_with(label, acls, |site| vec![Flood::made_up(site, "visitor", "server")]);
    }
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
        report["source"]["name"] == "stranger"
            && report["destination"].is_null()
            && report["protocol"].is_null()
    };
    assert!(!many.is_empty() && many.iter().all(|report| of_stranger(report)), "{many:?}");
    assert!(many.iter().map(|report| number(&report["count"])).max().unwrap() > 100, "{many:?}");
    println!("{}", many[0]);
}
