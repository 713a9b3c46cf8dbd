//! Open connections that the host forwards: their sockets are elsewhere, and the first attach cuts none.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_engine::Reason;
use bulkhead_testkit::lab::{Namespace, slower};

use super::pairs::{AT_ONCE, forget};
use super::{BACKUP, empty_the_table, reasons};
use crate::site::{Over, Site};

/// Lets the client use port 8080 of what is behind the server.
const BEHIND: &str = r#"{"action": "accept", "src": ["tag:client"], "dst": ["10.20.0.0/24:8080"]}"#;
const LIMIT: Duration = Duration::from_secs(5);

/// What is behind the server goes out with the server's address.
const TRANSLATED: &str = "table ip translated {
    chain out {
        type nat hook postrouting priority srcnat
        oifname \"eth0\" ip saddr 10.20.0.0/24 masquerade
    }
}
";

/// The server routes to a host behind it, as its inventory says.
fn site(label: &str) -> Site {
    let site = Site::with_hosts(label, Over::Ethernet, &[BEHIND, BACKUP], &["behind"]);
    let [server, client, behind] = ["server", "client", "behind"].map(|name| site.namespace(name));
    let forward = "/proc/sys/net/ipv4/ip_forward";
    server.run(|| std::fs::write(forward, "1")).unwrap().unwrap();
    behind.ip("link del eth0").unwrap();
    server.ip(&format!("link add leg type veth peer name leg netns {}", behind.name())).unwrap();
    for (host, address) in [(server, "10.20.0.1/24"), (behind, "10.20.0.5/24")] {
        host.ip("link set leg up").unwrap();
        host.ip(&format!("addr add {address} dev leg")).unwrap();
    }
    behind.ip("route add default via 10.20.0.1").unwrap();
    client.ip(&format!("route add 10.20.0.0/24 via {}", site.address("server"))).unwrap();
    let path = site.path("inventory.json");
    let inventory = std::fs::read_to_string(&path).unwrap();
    let tags = r#""tags": ["tag:server"]"#;
    assert!(inventory.contains(tags));
    std::fs::write(&path, inventory.replace(tags, &format!(r#"{tags}, "routes": ["10.20.0.0/24"]"#)))
        .unwrap();
    site
}

/// A connection from one host to a listener of another: their ends.
fn connect(from: &Namespace, to: &Namespace, at: SocketAddr) -> [TcpStream; 2] {
    let listener = to.run(|| TcpListener::bind(at)).unwrap().unwrap();
    let begun = from.run(|| TcpStream::connect_timeout(&at, slower(LIMIT))).unwrap().unwrap();
    [begun, listener.accept().unwrap().0]
}

fn goes_on(ends: &[TcpStream; 2]) -> bool {
    let [begun, accepted] = ends;
    [[begun, accepted], [accepted, begun]].into_iter().all(|[mut from, mut to]| {
        to.set_read_timeout(Some(slower(LIMIT))).unwrap();
        from.write_all(b"?").unwrap();
        to.read_exact(&mut [0]).is_ok()
    })
}

#[test]
fn a_first_attach_cuts_no_connection_that_is_routed() {
    let mut site = site("convf");
    let at = SocketAddr::from(([10, 20, 0, 5], 8080));
    let ends = connect(site.namespace("client"), site.namespace("behind"), at);
    assert!(goes_on(&ends));
    site.start();
    assert!(goes_on(&ends));
    assert_ne!(reasons(&site, Reason::Resumed), 0, "no other way is known to this kernel");
    // It is the beginning alone that lets it: the service that no rule names does not go on.
    let other = connect_past(&site, SocketAddr::from(([10, 20, 0, 5], 8081)));
    assert!(other.is_none());
}

/// A connection to what is behind, if it can be made.
fn connect_past(site: &Site, at: SocketAddr) -> Option<TcpStream> {
    let _listener = site.namespace("behind").run(|| TcpListener::bind(at)).unwrap().unwrap();
    site.namespace("client").run(|| TcpStream::connect_timeout(&at, Duration::from_millis(500))).unwrap().ok()
}

/// A connection from behind the server to the client, which knows it by the server's address.
fn translated(site: &Site) -> [TcpStream; 2] {
    let mut command = Command::new("nft");
    site.namespace("server").prepare(&mut command).unwrap();
    let mut nft = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(TRANSLATED.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
    let at = SocketAddr::new(site.address("client"), 9000);
    let ends = connect(site.namespace("behind"), site.namespace("client"), at);
    assert_eq!(ends[1].peer_addr().unwrap().ip(), site.address("server"), "its address is translated");
    assert!(goes_on(&ends));
    ends
}

#[test]
fn a_first_attach_cuts_no_connection_whose_address_is_translated() {
    let mut site = site("convn");
    let ends = translated(&site);
    site.start();
    assert!(goes_on(&ends));
    assert_eq!(reasons(&site, Reason::Resumed), 0, "the kernel's connection tracking knew it");
}

#[test]
fn a_forgotten_conversation_is_reset_unless_it_is_one_whose_address_is_translated() {
    let mut site = site("convd");
    let [_begun, from_behind] = translated(&site);
    let (server, client) = (site.namespace("server"), site.namespace("client"));
    let [begun, own] = connect(server, client, SocketAddr::new(site.address("client"), 9000));
    site.start();
    forget(begun);
    empty_the_table(&mut site);
    let is_reset = |mut end: TcpStream| {
        end.set_read_timeout(Some(slower(AT_ONCE))).unwrap();
        end.write_all(b"?").unwrap();
        end.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    };
    assert!(!is_reset(from_behind), "its socket is behind the server");
    assert_ne!(reasons(&site, Reason::NoFlow), 0, "and what it sent was dropped");
    assert!(is_reset(own), "the kernel's connection tracking knows it, too, and it is nobody else's");
}
