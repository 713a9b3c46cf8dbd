//! A feed by multicast and PTP through a switch that snoops, beside hundreds of groups that processes of
//! the host are in and the policy does not name. `BULKHEAD_FEED` seconds of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, Namespace};
use bulkhead_testkit::setting;
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{Over, Site};

const PORT: u16 = 26_400;
const PTP_PORT: u16 = 319;
const FEED4: Ipv4Addr = Ipv4Addr::new(233, 54, 12, 1);
const FEED6: Ipv6Addr = Ipv6Addr::new(0xff3e, 0x30, 0x2001, 0xdb8, 0, 0, 0, 1);
const PTP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 129);
/// One of the groups of no feed, to which somebody sends.
const FOREIGN: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 7);
/// Groups of no feed, of each family. With 8 bytes a record, IGMPv3 has 183 in a packet.
const FOREIGN_GROUPS: u8 = 200;
/// Groups that one socket is in: Linux's limit for IPv4 is 20 (igmp_max_memberships).
const ONE_SOCKET: u8 = 15;
const PAUSE: Duration = Duration::from_millis(20);
/// After how long the switch forgets a port that has not reported: seven seconds, and what its timers add.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// A switch that asks every 3 s and forgets after 7, and passes groups to nobody who has not reported.
const SNOOPS: &str = "mcast_snooping 1 mcast_igmp_version 3 mcast_mld_version 2 mcast_query_interval 300 \
                      mcast_query_response_interval 100 mcast_membership_interval 700 \
                      mcast_startup_query_interval 200 mcast_query_use_ifaddr 1";

fn feed_site(label: &str) -> Site {
    let site = Site::dual(label, Over::Ethernet, &[], &["feed", "other"]);
    let core = site.core();
    lab::ip(&format!("-n {core} addr add 192.0.2.254/24 dev br0")).unwrap();
    lab::ip(&format!("-n {core} link set br0 type bridge {SNOOPS}")).unwrap();
    // It counts as one that asks after the response interval that it has right then.
    lab::ip(&format!("-n {core} link set br0 type bridge mcast_querier 1")).unwrap();
    for port in 0..5 {
        lab::ip(&format!("-n {core} link set p{port} type bridge_slave mcast_flood off")).unwrap();
    }
    for name in ["server", "feed", "other"] {
        site.namespace(name).ip("route add 224.0.0.0/4 dev eth0").unwrap();
    }
    let server: Vec<_> = site.addresses("server").iter().map(|ip| format!("\"{ip}\"")).collect();
    site.write(
        "inventory.json",
        &format!(
            r#"{{"nodes": [{{"name": "server", "addresses": ["100.64.0.1"], "underlay": [{}], "tags": ["tag:server"]}}]}}"#,
            server.join(", ")
        ),
    );
    let feed: Vec<_> = site.addresses("feed").iter().map(|ip| format!("\"{ip}\"")).collect();
    let feed = feed.join(", ");
    site.write(
        "policy.hujson",
        &format!(
            r#"{{"tagOwners": {{"tag:server": []}}, "acls": [],
                "venues": {{"venue:a": {{"addresses": [{feed}], "feeds": [
                    {{"from": [{feed}], "to": ["tag:server"], "proto": "udp", "ports": "{PORT}",
                      "groups": ["233.54.12.0/24", "ff3e:30:2001:db8::/96"]}}]}}}}}}"#
        ),
    );
    let config = site.configuration("server", "eth0");
    site.write("agent.toml", &format!("{config}role = \"exchange\"\nlink = [\"ptp\", \"lldp\"]\n"));
    site
}

fn index(of: &Namespace) -> u32 {
    let shown = of.ip("-o link show eth0").unwrap();
    shown.split(':').next().unwrap().trim().parse().unwrap()
}

/// Sends a number to a group every 20 ms, beginning with 0, until it is told to end; how many.
fn send(from: &Namespace, to: SocketAddr, end: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = from.run(|| UdpSocket::bind(any)).unwrap().unwrap();
    socket.set_multicast_ttl_v4(8).ok();
    let end = end.clone();
    std::thread::spawn(move || {
        let (start, mut sent) = (Instant::now(), 0u64);
        while !end.load(Ordering::Relaxed) {
            socket.send_to(&sent.to_be_bytes(), to).unwrap();
            sent += 1;
            std::thread::sleep((start + PAUSE * sent as u32).saturating_duration_since(Instant::now()));
        }
        sent
    })
}

/// What a receiver has of a sender's numbers.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    first: u64,
    last: u64,
    count: u64,
}

/// Joins a group on the server and hears until it is told to end. `heard` counts meanwhile.
fn hear(site: &Site, group: IpAddr, port: u16, end: &Arc<AtomicBool>) -> (JoinHandle<Heard>, Arc<AtomicU64>) {
    let server = site.namespace("server");
    let socket = server.run(|| UdpSocket::bind(SocketAddr::new(group, port))).unwrap().unwrap();
    join(site, &socket, group);
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let (count, end) = (Arc::new(AtomicU64::new(0)), end.clone());
    let counter = count.clone();
    let thread = std::thread::spawn(move || {
        let (mut heard, mut bytes) = (Heard { first: u64::MAX, last: 0, count: 0 }, [0; 8]);
        while !end.load(Ordering::Relaxed) {
            if socket.recv(&mut bytes).is_ok() {
                let number = u64::from_be_bytes(bytes);
                heard.first = heard.first.min(number);
                heard.last = heard.last.max(number);
                heard.count += 1;
                counter.store(heard.count, Ordering::Relaxed);
            }
        }
        heard
    });
    (thread, count)
}

fn join(site: &Site, socket: &UdpSocket, group: IpAddr) {
    match (group, site.underlay("server")) {
        (IpAddr::V4(group), IpAddr::V4(at)) => socket.join_multicast_v4(&group, &at).unwrap(),
        (IpAddr::V6(group), _) => {
            socket.join_multicast_v6(&group, index(site.namespace("server"))).unwrap();
        }
        _ => unreachable!("hosts have IPv4"),
    }
}

/// Puts the server into groups of no feed, of both families, for as long as the sockets are there.
fn join_others(site: &Site) -> Vec<UdpSocket> {
    let mut sockets = Vec::new();
    for first in (0..FOREIGN_GROUPS).step_by(usize::from(ONE_SOCKET)) {
        let bind =
            |any: &'static str| site.namespace("server").run(|| UdpSocket::bind(any)).unwrap().unwrap();
        let (v4, v6) = (bind("0.0.0.0:0"), bind("[::]:0"));
        for last in first..FOREIGN_GROUPS.min(first.saturating_add(ONE_SOCKET)) {
            join(site, &v4, [239, 1, 1, last].into());
            join(site, &v6, [0xff1e, 0, 0, 0, 0, 0, 0, u16::from(last)].into());
        }
        sockets.extend([v4, v6]);
    }
    sockets
}

/// The groups that the switch passes to the server.
fn passed_on(site: &Site) -> Vec<String> {
    let mut command = Command::new("bridge");
    command.args(["-n", &site.core(), "-j", "mdb", "show", "dev", "br0"]);
    let shown = lab::run_within(&mut command, Duration::from_secs(5)).unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let entries = shown[0]["mdb"].as_array().cloned().unwrap_or_default();
    let of_server = entries.iter().filter(|entry| entry["port"] == "p0");
    of_server.map(|entry| entry["grp"].as_str().unwrap().to_owned()).collect()
}

fn foreign(groups: &[String]) -> usize {
    groups.iter().filter(|group| group.starts_with("239.1.1.") || group.starts_with("ff1e:")).count()
}

#[test]
fn a_feed_goes_on_beside_groups_that_no_feed_names() {
    let time = Duration::from_secs(setting("BULKHEAD_FEED", 30));
    let mut site = feed_site("feed");
    let end = Arc::new(AtomicBool::new(false));
    let scope = index(site.namespace("feed"));
    let to = |group: Ipv4Addr, port| SocketAddr::new(group.into(), port);
    let senders = [
        send(site.namespace("feed"), to(FEED4, PORT), &end),
        send(site.namespace("feed"), SocketAddrV6::new(FEED6, PORT, 0, scope).into(), &end),
        send(site.namespace("other"), to(PTP, PTP_PORT), &end),
    ];
    let stray = send(site.namespace("other"), to(FOREIGN, PORT), &end);
    let others = join_others(&site);
    let (listener, overheard) = hear(&site, FOREIGN.into(), PORT, &end);
    // Before anything filters, the switch is asked for all of it.
    std::thread::sleep(Duration::from_secs(2));
    let before = foreign(&passed_on(&site));
    assert!(
        before > 2 * usize::from(FOREIGN_GROUPS) - 10 && overheard.load(Ordering::Relaxed) > 0,
        "{before}"
    );
    assert!(!passed_on(&site).iter().any(|group| group == "233.54.12.1"), "nobody has joined it yet");

    site.start();
    let heard = [(FEED4.into(), PORT), (FEED6.into(), PORT), (PTP.into(), PTP_PORT)]
        .map(|(group, port)| hear(&site, group, port, &end));
    // What was there before is forgotten, unless it is reported again and again.
    std::thread::sleep(FORGOTTEN);
    let asked = passed_on(&site);
    assert_eq!(foreign(&asked), 0, "{asked:?}");
    for group in ["233.54.12.1", "ff3e:30:2001:db8::1", "224.0.1.129"] {
        assert!(asked.iter().any(|asked| asked == group), "{group} of {asked:?}");
    }
    let stray_before = overheard.load(Ordering::Relaxed);
    // Others come and go meanwhile, and are told of.
    drop(others);
    let others = join_others(&site);
    std::thread::sleep(time);

    let status = site.status();
    end.store(true, Ordering::Relaxed);
    assert_eq!(overheard.load(Ordering::Relaxed), stray_before, "data of a group of no feed");
    listener.join().unwrap();
    assert!(stray.join().unwrap() > 100);
    for ((thread, _), sender) in heard.into_iter().zip(senders) {
        let (heard, sent) = (thread.join().unwrap(), sender.join().unwrap());
        println!("{heard:?} of {sent}");
        assert_eq!(heard.count, heard.last - heard.first + 1, "a gap: {heard:?} of {sent}");
        // The last ones may be on their way.
        assert!(sent - heard.last < 25, "it ended: {heard:?} of {sent}");
        assert!(u128::from(heard.count) * PAUSE.as_millis() >= time.as_millis(), "{heard:?} of {sent}");
    }
    told_of(&site, &status);
    drop(others);
}

/// Status and events name the groups.
fn told_of(site: &Site, status: &Value) {
    let count = |reason: &str| {
        let reasons = status["reasons"].as_array().unwrap();
        let named =
            reasons.iter().filter(|count| count["reason"] == reason && count["direction"] == "egress");
        named.map(|count| count["packets"].as_u64().unwrap()).sum::<u64>()
    };
    assert!(count("membership_masked") > 0 && count("membership_group") > 0, "{status}");
    let warnings = status["agent"]["warnings"].to_string();
    assert!(
        warnings.contains("interface eth0") && warnings.contains("groups of no feed: 239.1.1."),
        "{warnings}"
    );
    assert!(!warnings.contains("224.0.1.129"), "{warnings}");
    let told = |report: &Value| {
        report["reason"] == "membership_group"
            && report["destination"]["address"].to_string().contains("239.1.1.")
    };
    assert!(reports(&site.journal_file()).iter().any(told), "no event names a group");
}
