//! Thousands of requests a second, while packets are dropped: events are as timely as without them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_testkit::lab::slower;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Before, connect};
use crate::site::stop::Stop;
use crate::site::{Over, Site, WEB};

/// Senders, each of which has nine events a second at once and the others in summaries of the second.
const SENDERS: u8 = 24;

/// Drops that are made, and the time between two of them: 100 a second.
const DROPS: u16 = 720;
const APART: Duration = Duration::from_millis(10);

/// Requests that are sent at a time, and connections that do so.
const AT_A_TIME: usize = 32;
const CONNECTIONS: usize = 8;

/// ns since the Unix epoch.
fn now() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128
}

/// How long events took to a watcher.
struct Delays {
    /// Those of single packets, which are told of at once.
    single: Vec<Duration>,
    /// Summaries.
    summed: Vec<Duration>,
}

impl Delays {
    /// That of 99 in a hundred single ones, and the longest of all.
    fn worst(&self) -> [Duration; 2] {
        let p99 = self.single[self.single.len() * 99 / 100];
        let all = self.single.iter().chain(&self.summed);
        [p99, *all.max().unwrap()]
    }
}

/// Makes drops, each of a kind of its own, and takes the time that the event of each takes.
fn delays(site: &Site, first: u16) -> Delays {
    let mut watch = connect(site);
    watch.write_all(b"GET /v1/events HTTP/1.1\r\nhost: b\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let address = site.address("server");
    let bind = || (0..SENDERS).map(|last| UdpSocket::bind((sender(last), 0)).unwrap()).collect::<Vec<_>>();
    let sockets = site.namespace("stranger").run(bind).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (port, socket) in (first..first + DROPS).zip(sockets.iter().cycle()) {
                socket.send_to(b"x", SocketAddr::new(address, port)).unwrap();
                std::thread::sleep(APART);
            }
        });
        let mut delays = Delays { single: Vec::new(), summed: Vec::new() };
        for line in BufReader::new(watch).lines() {
            let Ok(event) = serde_json::from_str::<Value>(&line.unwrap()) else { continue };
            assert_ne!(event["kind"], "missed", "{event}");
            if event["kind"] != "drop" || event["destination_port"].as_u64() < Some(first.into()) {
                continue;
            }
            let time = OffsetDateTime::parse(event["time"].as_str().unwrap(), &Rfc3339).unwrap();
            let delay = Duration::from_nanos((now() - time.unix_timestamp_nanos()).max(0) as u64);
            let of = if event["source_port"].is_null() { &mut delays.summed } else { &mut delays.single };
            of.push(delay);
            if delays.single.len() + delays.summed.len() == usize::from(DROPS) {
                break;
            }
        }
        delays.single.sort();
        assert!(delays.single.len() > usize::from(DROPS) / 2, "{} single events", delays.single.len());
        delays
    })
}

/// The address of one of the senders.
fn sender(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 100 + last)
}

/// Asks without a pause until it is over; adds up how often it was answered.
fn ask(site: &Site, stop: &Stop, answered: &AtomicU64) {
    let request = "GET /v1/version HTTP/1.1\r\nhost: b\r\n\r\n".repeat(AT_A_TIME);
    let mut stream = connect(site);
    let mut answer = vec![0; 1 << 16];
    // All answers are of one length, but for the date.
    stream.write_all(b"GET /v1/version HTTP/1.1\r\nhost: b\r\n\r\n").unwrap();
    let length = stream.read(&mut answer).unwrap();
    while !stop.is_over() {
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_exact(&mut answer[..length * AT_A_TIME]).unwrap();
        answered.fetch_add(AT_A_TIME as u64, Ordering::Relaxed);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn thousands_of_requests_a_second_delay_no_event() {
    let mut site = Site::new("busy", Over::Ethernet, &[WEB]);
    for last in 0..SENDERS {
        site.namespace("stranger").ip(&format!("addr add {}/24 dev eth0", sender(last))).unwrap();
    }
    site.start();
    let before = Before::of(&site);
    let quiet = delays(&site, 20_000);
    let (stop, answered) = (Stop::default(), AtomicU64::new(0));
    let (loaded, took) = std::thread::scope(|scope| {
        let _stopping = stop.at_end();
        for _ in 0..CONNECTIONS {
            scope.spawn(|| ask(&site, &stop, &answered));
        }
        let began = Instant::now();
        let loaded = delays(&site, 30_000);
        (loaded, began.elapsed())
    });
    let rate = answered.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
    let [[late, latest], [quiet_late, quiet_latest]] = [loaded.worst(), quiet.worst()];
    println!(
        "{rate:.0} requests a second for {took:.1?}; single events after {late:?} (p99), all after {latest:?}; without \
         them {quiet_late:?} and {quiet_latest:?}"
    );
    assert!(rate > 1000.0, "{rate:.0} requests a second prove nothing");
    // The processors are shared with those who ask.
    assert!(
        late < quiet_late + slower(Duration::from_millis(500)),
        "{late:?}, {quiet_late:?} without requests"
    );
    assert!(
        // That of the summary of a second, if there is one.
        latest < quiet_latest + slower(Duration::from_secs(4)),
        "{latest:?}, {quiet_latest:?} without them"
    );
    before.is_still_so(&site, 16 << 10);
}
