//! What the policy rejects: whoever begins it hears so at once, at either end, and nothing gets through for it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;

use crate::site::{Over, Site, WEB, policy};

/// What a client waits for at most.
const PATIENCE: Duration = Duration::from_secs(3);
/// A port that a deny names which says nothing, and two that nothing is said of.
const SILENT: u16 = 22;
const CLOSED: u16 = 9999;
const NAMES: u16 = 5353;

const DENY: &str = r#"{"name": "silent", "action": "deny", "onDeny": "drop", "src": ["*"], "dst": ["*:22"]}"#;

/// How long an attempt takes, and how it ends.
fn timed<T>(attempt: impl FnOnce() -> io::Result<T>) -> (Duration, io::Result<T>) {
    let started = Instant::now();
    let ended = attempt();
    (started.elapsed(), ended)
}

/// A TCP connection of a host to an address.
fn connect(site: &Site, from: &str, to: IpAddr, port: u16) -> (Duration, ErrorKind) {
    let (time, ended) = site
        .namespace(from)
        .run(|| timed(|| TcpStream::connect_timeout(&SocketAddr::new(to, port), slower(PATIENCE))))
        .unwrap();
    (time, ended.expect_err("a port that nobody may reach").kind())
}

/// A datagram of a host to an address, and what comes back.
fn ask(site: &Site, from: &str, to: IpAddr, port: u16) -> (Duration, ErrorKind) {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let (time, ended) = site
        .namespace(from)
        .run(|| {
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(slower(PATIENCE))).unwrap();
            socket.connect(SocketAddr::new(to, port)).unwrap();
            timed(|| {
                // What leaves no further than here may be refused to the sender as it is sent.
                let _ = socket.send(b"?");
                socket.recv(&mut [0; 16])
            })
        })
        .unwrap();
    (time, ended.expect_err("a port that nobody may reach").kind())
}

/// Over each interface, of each family, whoever begins it.
fn are_told(label: &str, over: Over) {
    let mut site = Site::dual(label, over, &[WEB, DENY], &[]);
    let rejecting = policy(&[WEB, DENY]).replacen('{', r#"{"onDeny": "reject", "#, 1);
    site.write("policy.hujson", &rejecting);
    site.start();
    for (from, to) in [("client", "server"), ("stranger", "server"), ("server", "client")] {
        for address in site.addresses(to) {
            let (time, kind) = connect(&site, from, address, CLOSED);
            assert_eq!(kind, ErrorKind::ConnectionRefused, "{from} to {address} after {time:?}");
            assert!(time < slower(Duration::from_secs(1)), "{from} to {address}: {time:?}");
            let (time, kind) = ask(&site, from, address, NAMES);
            let expected =
                if address.is_ipv4() { ErrorKind::HostUnreachable } else { ErrorKind::PermissionDenied };
            assert_eq!(kind, expected, "{from} to {address} after {time:?}");
            assert!(time < slower(Duration::from_secs(1)), "{from} to {address}: {time:?}");
            let (time, kind) = connect(&site, from, address, SILENT);
            assert_eq!(kind, ErrorKind::TimedOut, "{from} to {address}: a deny that says nothing");
            assert!(time >= PATIENCE);
        }
    }
    assert!(site.connects("client", 8080), "what is admitted is");
    // Who is cut off hears nothing.
    site.done(&["quarantine", "stranger"]);
    assert_eq!(connect(&site, "stranger", site.address("server"), CLOSED).1, ErrorKind::TimedOut);
    // Without an agent there is nobody to answer; nothing passes.
    site.kill();
    for (from, to) in [("client", "server"), ("server", "client")] {
        assert_eq!(connect(&site, from, site.address(to), CLOSED).1, ErrorKind::TimedOut);
    }
    site.start();
    assert_eq!(connect(&site, "client", site.address("server"), CLOSED).1, ErrorKind::ConnectionRefused);
}

#[test]
fn who_begins_what_is_rejected_hears_so_at_once() {
    are_told("reject", Over::Ethernet);
}

#[test]
fn who_begins_what_is_rejected_hears_so_at_once_over_the_tunnel() {
    are_told("rejectt", Over::Tunnel);
}
