//! Containers behind a bridge that nobody manages, as Docker has them: published ports, masquerading, and
//! what the guard keeps from the bridge.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use bulkhead_testkit::lab::{self, Namespace, slower};

use crate::site::{Over, Site};

const INWARD: &str =
    r#"{"action": "accept", "src": ["tag:client"], "dst": ["tag:server:8080"], "proto": "tcp"}"#;
const OUTWARD: &str =
    r#"{"action": "accept", "src": ["tag:server"], "dst": ["tag:client:9090"], "proto": "tcp"}"#;

/// What Docker's rules come to: ports 8080 and 8081 are published, and what leaves is masqueraded.
const RULES: &str = "add table ip nat
    add chain ip nat pre { type nat hook prerouting priority dstnat; }
    add rule ip nat pre iifname wg0 tcp dport { 8080, 8081 } dnat to 172.17.0.2:80
    add chain ip nat post { type nat hook postrouting priority srcnat; }
    add rule ip nat post ip saddr 172.17.0.0/16 oifname != docker0 masquerade";

fn within(place: &Namespace, program: &str, words: &[&str]) {
    let mut command = Command::new(program);
    command.args(words);
    place.prepare(&mut command).unwrap();
    let output = lab::run_within(&mut command, Duration::from_secs(10)).unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

/// A container on the server's bridge.
fn container(site: &Site) -> Namespace {
    let (server, container) = (site.namespace("server"), Namespace::create("docked").unwrap());
    server.ip("link add docker0 type bridge").unwrap();
    server.ip("addr add 172.17.0.1/16 dev docker0").unwrap();
    server.ip(&format!("link add veth0 type veth peer name eth0 netns {}", container.name())).unwrap();
    for words in ["link set veth0 master docker0", "link set veth0 up", "link set docker0 up"] {
        server.ip(words).unwrap();
    }
    for words in [
        "link set lo up",
        "addr add 172.17.0.2/16 dev eth0",
        "link set eth0 up",
        "route add default via 172.17.0.1",
    ] {
        container.ip(words).unwrap();
    }
    within(server, "sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"]);
    within(server, "nft", &[RULES]);
    container
}

fn reaches(from: &Namespace, to: SocketAddr, limit: Duration) -> bool {
    from.run(|| TcpStream::connect_timeout(&to, limit)).unwrap().is_ok()
}

#[test]
fn containers_are_this_node_to_the_policy() {
    let mut site = Site::new("docker", Over::Tunnel, &[INWARD, OUTWARD]);
    let container = container(&site);
    let web = container.run(|| TcpListener::bind("172.17.0.2:80")).unwrap().unwrap();
    let [server, client] = ["server", "client"].map(|name| site.address(name));
    let at = |port| SocketAddr::new(client, port);
    let theirs =
        [9090, 9091].map(|port| site.namespace("client").run(|| TcpListener::bind(at(port))).unwrap());
    assert!(theirs.iter().all(Result::is_ok));
    let (enough, silence) = (slower(Duration::from_secs(5)), Duration::from_millis(1200));
    let published = |from: &str, port| reaches(site.namespace(from), SocketAddr::new(server, port), silence);
    assert!(published("client", 8080) && published("client", 8081), "before an agent is there");
    assert!(reaches(&container, at(9090), enough) && reaches(&container, at(9091), enough));

    site.start();
    let published = |from: &str, port| reaches(site.namespace(from), SocketAddr::new(server, port), silence);
    assert!(published("client", 8080), "the rule is about this node and the published port");
    assert!(!published("client", 8081) && !published("stranger", 8080));
    assert!(reaches(&container, at(9090), enough), "what leaves is this node's");
    assert!(!reaches(&container, at(9091), silence));
    // The node's own overlay address is not to be had from a bridge that nobody manages.
    let own = site.namespace("server").run(|| TcpListener::bind((server, 7070))).unwrap().unwrap();
    assert!(!reaches(&container, (server, 7070).into(), silence));
    site.done(&["detach"]);
    assert!(reaches(&container, (server, 7070).into(), enough));
    drop((web, own));
}
