//! A path with a narrow part: its router's errors reach the sender through the filter, and nobody
//! else's do.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_engine::Reason;
use bulkhead_testkit::lab::Namespace;
use bulkhead_testkit::packets::build::{Ip, icmp, icmp_protocol, tcp};

use crate::raw;
use crate::site::account::packets;
use crate::site::{Over, Site, WEB};

/// Lets the server use a port of the client.
const BACKUP: &str =
    r#"{"name": "backup", "action": "accept", "src": ["tag:server"], "dst": ["tag:client:9000"]}"#;

/// The narrow part's MTU. IPv6 wants at least 1280.
const NARROW: u16 = 1300;

/// What is transferred.
const LENGTH: usize = 5_000_000;

/// What that may take: a stall doubles its time-out from 200 ms on.
const LIMIT: Duration = Duration::from_secs(20);

/// Keeps the router's errors back.
const SILENT: &str = "table inet silent {
    chain out {
        type filter hook output priority 0
        icmp type destination-unreachable drop
        icmpv6 type packet-too-big drop
    }
}
";

/// Sets a variable of the host's network.
fn set(host: &Namespace, name: &str, value: &str) {
    host.run(|| fs::write(format!("/proc/sys/net/{name}"), value)).unwrap().unwrap();
}

fn nft(host: &Namespace, script: &str) {
    let mut command = Command::new("nft");
    host.prepare(&mut command).unwrap();
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
}

/// Puts the client behind the router. Only the router knows that the way to it is narrow: both ends
/// think of 1500 bytes, and nobody changes the segment size that they agree on.
fn site_with_router(label: &str) -> Site {
    let site = Site::dual(label, Over::Ethernet, &[WEB, BACKUP], &["router"]);
    let [server, client, router] = ["server", "client", "router"].map(|name| site.namespace(name));
    let (gateway, to) = (site.addresses("router"), site.addresses("client"));
    let each = |host: &Namespace, commands: &[String]| {
        commands.iter().for_each(|command| drop(host.ip(command).unwrap()));
    };
    for host in [server, client] {
        set(host, "ipv4/tcp_mtu_probing", "0");
    }
    set(router, "ipv4/ip_forward", "1");
    set(router, "ipv6/conf/all/forwarding", "1");
    client.ip("link del eth0").unwrap();
    each(
        router,
        &[
            format!("link add leg type veth peer name eth0 netns {}", client.name()),
            format!("link set leg mtu {NARROW} up"),
            "addr add fe80::1/64 dev leg nodad".to_owned(),
        ],
    );
    each(client, &["link set eth0 up".to_owned(), "addr add fe80::2/64 dev eth0 nodad".to_owned()]);
    for (address, gateway) in to.iter().zip(&gateway) {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        client.ip(&format!("addr add {address}/{bits} dev eth0 nodad")).unwrap();
        router.ip(&format!("route add {address}/{bits} dev leg")).unwrap();
        server.ip(&format!("route add {address}/{bits} via {gateway}")).unwrap();
    }
    each(
        client,
        &[
            format!("route add {} dev eth0", gateway[0]),
            format!("route add default via {}", gateway[0]),
            "-6 route add default via fe80::1 dev eth0".to_owned(),
        ],
    );
    site
}

/// Sends from one end of a connection to the other; how long it took.
fn transfer(mut from: TcpStream, mut to: TcpStream) -> Duration {
    let started = Instant::now();
    let sending = std::thread::spawn(move || from.write_all(&vec![7; LENGTH]).map(|()| from));
    to.set_read_timeout(Some(LIMIT)).unwrap();
    let mut received = vec![0; LENGTH];
    to.read_exact(&mut received).unwrap();
    assert!(received.iter().all(|byte| *byte == 7));
    sending.join().unwrap().unwrap();
    started.elapsed()
}

/// A connection from one host to a listener of another: their ends.
fn connect(site: &Site, from: &str, at: SocketAddr, to: &str) -> (TcpStream, TcpStream) {
    let listener = site.namespace(to).run(|| TcpListener::bind(at)).unwrap().unwrap();
    let near = site.namespace(from).run(|| TcpStream::connect_timeout(&at, LIMIT)).unwrap().unwrap();
    (near, listener.accept().unwrap().0)
}

/// What the router says of a segment from the server to the client.
fn too_long(router: IpAddr, from: SocketAddr, to: SocketAddr) -> Ip {
    let segment = Ip::new(from.ip(), to.ip(), 6, tcp((from.port(), to.port()), 0x10, &[0; 100])).bytes();
    let [high, low] = NARROW.to_be_bytes();
    let (kind, code) = if router.is_ipv4() { (3, 4) } else { (2, 0) };
    let error = icmp(kind, code, [0, 0, high, low], &segment);
    Ip::new(router, from.ip(), icmp_protocol(router.is_ipv4()), error)
}

#[test]
fn a_transfer_finds_the_narrow_part_of_its_path() {
    let mut site = site_with_router("path");
    site.start();
    let count = |site: &Site, reason| packets(&site.status(), reason);
    for (index, router) in site.addresses("router").into_iter().enumerate() {
        let [server, client] = ["server", "client"].map(|name| site.addresses(name)[index]);
        // The client fetches: the packets that are too long are replies. The server sends: they are not.
        for (by, to, port) in [("client", "server", 8080), ("server", "client", 9000)] {
            forget_path(&site, client, router);
            let at = SocketAddr::new(site.addresses(to)[index], port);
            let (near, far) = connect(&site, by, at, to);
            let (from, into) = if by == "client" { (far, near) } else { (near, far) };
            let (source, destination) = (from.local_addr().unwrap(), from.peer_addr().unwrap());
            let before = count(&site, Reason::IcmpError);
            // Without the router's errors nothing longer than the narrow part arrives.
            nft(site.namespace("router"), SILENT);
            from.set_nonblocking(true).unwrap();
            (&from).write_all(&[7; 10_000]).unwrap();
            into.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
            let stalled = (&into).read_exact(&mut [0; 10_000]);
            assert!(stalled.is_err(), "{at}: the path is not narrow");
            assert_eq!(count(&site, Reason::IcmpError), before);
            nft(site.namespace("router"), "delete table inet silent\n");
            from.set_nonblocking(false).unwrap();
            into.set_read_timeout(Some(LIMIT)).unwrap();
            (&into).read_exact(&mut [0; 10_000]).unwrap();
            let took = transfer(from.try_clone().unwrap(), into.try_clone().unwrap());
            println!("{by} to {at}: {LENGTH} bytes in {took:?}");
            let after = count(&site, Reason::IcmpError);
            assert!(after > before, "{at}: no error passed");
            let route = site.namespace("server").ip(&format!("route get {client}")).unwrap();
            assert!(route.contains(&format!("mtu {NARROW}")), "{route}");

            // The same error about the flow passes, and about any other does not.
            let unrelated = count(&site, Reason::IcmpErrorUnrelated);
            raw::send(site.namespace("router"), &too_long(router, source, destination));
            site.wait_for("one error more", |status| packets(status, Reason::IcmpError) == after + 1);
            let mut other = destination;
            other.set_port(destination.port() ^ 1);
            raw::send(site.namespace("router"), &too_long(router, source, other));
            site.wait_for("it is dropped", |status| {
                packets(status, Reason::IcmpErrorUnrelated) == unrelated + 1
            });
            assert_eq!(count(&site, Reason::IcmpError), after + 1);
            assert_eq!(source.ip(), server);
            drop((from, into));
        }
    }
}

/// The server's route without what it has learnt of it.
fn forget_path(site: &Site, client: IpAddr, router: IpAddr) {
    let bits = if client.is_ipv4() { 32 } else { 128 };
    let server = site.namespace("server");
    server.ip(&format!("route del {client}/{bits}")).unwrap();
    server.ip(&format!("route add {client}/{bits} via {router}")).unwrap();
    let route = server.ip(&format!("route get {client}")).unwrap();
    assert!(!route.contains("mtu"), "{route}");
}
