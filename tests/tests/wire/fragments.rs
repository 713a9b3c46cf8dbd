//! A datagram that is longer than the path: in fragments it arrives whole where it may, and where it
//! may not, none of them does.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use bulkhead_engine::Reason;
use bulkhead_testkit::lab::{EchoServers, Namespace};

use crate::site::account::packets;
use crate::site::{Over, Site, WEB};

/// Fourteen fragments of 1500 bytes, or one more.
const LENGTH: usize = 20_000;

/// Fragments that a host's IP has been given to reassemble, of one family.
fn fragments(host: &Namespace, is_v4: bool) -> u64 {
    let read = |name| {
        host.run(|| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"))).unwrap().unwrap()
    };
    if !is_v4 {
        let text = read("snmp6");
        let line = text.lines().find_map(|line| line.strip_prefix("Ip6ReasmReqds")).unwrap();
        return line.trim().parse().unwrap();
    }
    let text = read("snmp");
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut columns = names.split(' ').zip(values.split(' '));
    columns.find(|(name, _)| *name == "ReasmReqds").unwrap().1.parse().unwrap()
}

fn socket(site: &Site, host: &str, at: SocketAddr) -> UdpSocket {
    let socket = site.namespace(host).run(|| UdpSocket::bind(at)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn check(site: &Site, server: IpAddr, client: IpAddr) {
    let reassembled = || fragments(site.namespace("server"), server.is_ipv4());
    let count = |reason| packets(&site.status(), reason);
    let denied = socket(site, "server", SocketAddr::new(server, 8081));
    let sender = socket(site, "client", SocketAddr::new(client, 0));
    let datagram: Vec<u8> = (0..LENGTH).map(|index| (index * 7 % 251) as u8).collect();

    let (before, behind_first) = (reassembled(), count(Reason::Fragment));
    sender.send_to(&datagram, SocketAddr::new(server, 8080)).unwrap();
    let mut answer = vec![0; LENGTH + 1];
    let length = sender.recv(&mut answer).unwrap();
    assert!(answer[..length] == datagram, "{server}: it came back otherwise");
    let parts = reassembled() - before;
    assert!((14..=16).contains(&parts), "{server}: {parts} fragments");
    // There and back, all but the first.
    assert_eq!(count(Reason::Fragment) - behind_first, 2 * (parts - 1), "{server}");

    let (before, orphans, refused) = (reassembled(), count(Reason::FragmentOrphan), count(Reason::NoRule));
    sender.send_to(&datagram, SocketAddr::new(server, 8081)).unwrap();
    denied.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(denied.recv(&mut answer).is_err(), "{server}");
    assert_eq!(reassembled() - before, 0, "{server}: behind the filter");
    // All of them were there.
    assert_eq!((count(Reason::NoRule) - refused, count(Reason::FragmentOrphan) - orphans), (1, parts - 1));
}

#[test]
fn a_long_datagram_arrives_whole_or_not_at_all() {
    for over in [Over::Ethernet, Over::Tunnel] {
        let mut site = Site::dual("long", over, &[WEB], &[]);
        site.start();
        let _echo = EchoServers::start(site.namespace("server"), &[], &[8080]).unwrap();
        for (server, client) in site.addresses("server").into_iter().zip(site.addresses("client")) {
            check(&site, server, client);
        }
    }
}
