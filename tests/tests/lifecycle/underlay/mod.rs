//! Underlay interfaces, on the one that a WireGuard tunnel goes over: what is named passes, and replies to it.

mod addresses;
mod nat;
mod path;
mod scan;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use bulkhead_testkit::lab::slower;
use serde_json::Value;

use crate::site::{Over, Site, WEB};

/// How long a datagram may take that is to arrive.
const ARRIVES: Duration = Duration::from_millis(1500);
/// How long one is waited for that must not.
const SILENCE: Duration = Duration::from_millis(400);

/// `server` enforces on its tunnel and on eth0; `dns` and `other` are no nodes. No node has an underlay address in the
/// inventory: those of eth0 are the kernel's.
fn underlay_site(label: &str, more: &str) -> Site {
    let site = Site::with_hosts(label, Over::Tunnel, &[WEB], &["dns", "other"]);
    configure(&site, more);
    site
}

fn configure(site: &Site, more: &str) {
    let (dns, other, stranger) = (site.underlay("dns"), site.underlay("other"), site.underlay("stranger"));
    let peers = "wireguard = { port = 51820, peers = [\"192.0.2.0/24\"] }\n";
    let wireguard = if more.contains("wireguard") { "" } else { peers };
    let config = site.configuration("server", "wg0")
        + &format!(
            "[[interface]]\nname = \"eth0\"\nrole = \"underlay\"\nlink = [\"dhcp\", \"ra\"]\n{wireguard}\
             outbound = [\n  {{ proto = \"udp\", to = [\"{dns}\"], ports = [53, 123] }},\n  \
             {{ proto = \"tcp\", to = [\"{other}\"], ports = [443] }},\n]\n{more}\
             [[management]]\nfrom = [\"{stranger}\"]\nports = [22]\n"
        );
    site.write("agent.toml", &config);
}

fn udp(site: &Site, host: &str, port: u16) -> UdpSocket {
    let any = SocketAddr::from(([0, 0, 0, 0], port));
    let socket = site.namespace(host).run(|| UdpSocket::bind(any)).unwrap().unwrap();
    socket.set_read_timeout(Some(slower(ARRIVES))).unwrap();
    socket
}

/// Whether a datagram gets from one socket to an address of the other's host.
fn arrives(from: &UdpSocket, to: &UdpSocket, address: IpAddr) -> bool {
    let at = SocketAddr::new(address, to.local_addr().unwrap().port());
    let mut bytes = [0; 16];
    // What came before is of no interest.
    to.set_nonblocking(true).unwrap();
    while to.recv(&mut bytes).is_ok() {}
    to.set_nonblocking(false).unwrap();
    // Egress that is dropped may be an error of the sender's.
    let _ = from.send_to(b"ping", at);
    to.recv(&mut bytes).is_ok()
}

/// Whether one that must not arrive does.
fn leaks(from: &UdpSocket, to: &UdpSocket, address: IpAddr) -> bool {
    to.set_read_timeout(Some(SILENCE)).unwrap();
    let arrived = arrives(from, to, address);
    to.set_read_timeout(Some(slower(ARRIVES))).unwrap();
    arrived
}

/// The addresses of eth0 in a status.
fn shown(status: &Value) -> Vec<String> {
    let addresses = status["agent"]["underlay"][0]["addresses"].as_array();
    addresses.into_iter().flatten().map(|address| address.as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_underlay_interface_passes_what_is_named_and_replies_to_it() {
    let mut site = underlay_site("under", "");
    site.start();
    let (server, dns, other) = (site.underlay("server"), site.underlay("dns"), site.underlay("other"));
    // The overlay on top of it, with its own rules.
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("client", 8081) && site.is_denied("stranger", 8080));

    // DNS and NTP: only where they are named, and only answers to what was asked.
    for port in [53, 123] {
        let (asks, serves, elsewhere) =
            (udp(&site, "server", 0), udp(&site, "dns", port), udp(&site, "other", port));
        assert!(!leaks(&serves, &asks, server), "an answer that nobody asked for");
        assert!(arrives(&asks, &serves, dns), "the question");
        assert!(!leaks(&elsewhere, &asks, server), "an answer from elsewhere");
        assert!(arrives(&serves, &asks, server), "the answer");
        assert!(!leaks(&asks, &elsewhere, other), "a question to somebody else");
    }
    let (asks, serves) = (udp(&site, "server", 0), udp(&site, "dns", 54));
    assert!(!leaks(&asks, &serves, dns), "another port");
    let (asks, serves) = (udp(&site, "dns", 53), udp(&site, "server", 53));
    assert!(!leaks(&asks, &serves, server), "its own port of that number");
    assert!(site.reaches_underlay("server", "other", 443) && !site.reaches_underlay("server", "other", 444));
    assert!(!site.reaches_underlay("server", "dns", 443) && !site.reaches_underlay("other", "server", 443));
    assert!(!site.reaches_underlay("client", "server", 8080), "a rule of the overlay");

    // Management, also for who is quarantined; the tunnel goes on for the others.
    assert!(site.reaches_underlay("stranger", "server", 22));
    assert!(
        !site.reaches_underlay("client", "server", 22) && !site.reaches_underlay("stranger", "server", 23)
    );
    site.done(&["quarantine", "stranger"]);
    assert!(site.reaches_underlay("stranger", "server", 22) && site.connects("client", 8080));
    site.done(&["release", "stranger"]);
    // Of this host itself, at the addresses that the kernel has for it, nothing is left but management.
    site.done(&["quarantine", "server"]);
    assert!(!site.reaches_underlay("server", "other", 443) && site.is_denied("client", 8080));
    assert!(site.reaches_underlay("stranger", "server", 22));
    site.done(&["release", "server"]);
    assert!(site.reaches_underlay("server", "other", 443));
    assert!(site.connects("client", 8080));

    let status = site.status();
    assert_eq!(status["state"], "enforced", "{status}");
    assert!(shown(&status).contains(&server.to_string()), "{status}");
    let exempt = status["agent"]["exemptions"].to_string();
    for line in [
        "WireGuard on underlay interfaces: UDP 51820 with 192.0.2.0/24".to_owned(),
        format!("outbound on underlay interfaces: UDP 53, 123 to {dns}/32"),
    ] {
        assert!(exempt.contains(&line), "{exempt}");
    }
    let counters = status["agent"]["rule_counters"].as_array().unwrap();
    let packets = |name: &str| {
        let rule = counters.iter().find(|rule| rule["name"] == name);
        rule.map_or(0, |rule| rule["packets"].as_u64().unwrap())
    };
    for name in ["management exemption 1", "underlay wireguard transport 1", "outbound 1", "outbound 2"] {
        assert!(packets(name) > 0, "{name}: {counters:?}");
    }

    // Overlay addresses beside the tunnel: neither as who sends nor as where to.
    let overlay = site.address("server");
    let peer = site.address("client");
    let listens = udp(&site, "server", 51820 + 1);
    site.namespace("dns").ip(&format!("route replace {overlay}/32 dev eth0")).unwrap();
    site.namespace("dns").ip(&format!("addr add {peer}/32 dev eth0")).unwrap();
    site.namespace("server").ip(&format!("neigh replace {peer} lladdr 02:00:00:00:00:09 dev eth0")).unwrap();
    let sends = site.namespace("dns").run(|| UdpSocket::bind((peer, 0))).unwrap().unwrap();
    assert!(!leaks(&sends, &listens, server), "an overlay address as the sender's");
    assert!(!leaks(&sends, &listens, overlay), "the node's own overlay address");
    assert!(site.connects("client", 8080), "the tunnel's own way");

    // `exposed` knows that a wildcard is reached by those alone who are let in.
    let (tcp, wildcard) = (udp(&site, "server", 51820 + 2), "0.0.0.0");
    let report = site.bulkhead(&["exposed", "--all", "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let is_ours =
        |socket: &&Value| socket["port"] == tcp.local_addr().unwrap().port() && socket["address"] == wildcard;
    let found = report["sockets"].as_array().unwrap().iter().find(is_ours).unwrap();
    assert!(found["exposed"] == false, "{found}");
    let ways = found["ways"].as_array().unwrap();
    assert!(
        ways.iter().any(|way| way["interface"] == "eth0" && way["enforced"] == true && way["by"] == "nobody"),
        "{found}"
    );
}

#[test]
fn explain_and_check_know_what_passes_on_underlay_interfaces() {
    let site = underlay_site("tells", "presets = [\"tailscale\"]\n");
    let (server, dns) = (site.underlay("server"), site.underlay("dns"));
    let config = site.path("agent.toml");
    let explain = |from: &str, to: &str| {
        let (policy, inventory) = (site.path("policy.hujson"), site.path("inventory.json"));
        let words = [
            "explain",
            &policy,
            "--inventory",
            &inventory,
            "--config",
            &config,
            "--network",
            "underlay",
            "--from",
            from,
            "--to",
            to,
        ];
        let answer = site.bulkhead(&words);
        (
            answer.status.code(),
            String::from_utf8(answer.stdout).unwrap() + &String::from_utf8(answer.stderr).unwrap(),
        )
    };
    let (code, text) = explain(&server.to_string(), &format!("{dns}:53/udp"));
    assert!(code == Some(0) && text.contains("outbound 1") && text.contains("agent.toml:12:3"), "{text}");
    let (code, text) = explain("198.51.100.1", &format!("{server}:41641/udp"));
    assert!(code == Some(0) && text.contains("tailscale preset"), "{text}");
    let (code, text) = explain("198.51.100.1", &format!("{server}:22"));
    assert!(code == Some(1) && text.contains("the default is deny"), "{text}");
    let (code, text) = explain(&server.to_string(), &format!("{}:443", site.address("client")));
    assert!(code == Some(1) && text.contains("overlay addresses"), "{text}");
    let answer = site.bulkhead(&[
        "check",
        &site.path("policy.hujson"),
        "--inventory",
        &site.path("inventory.json"),
        "--config",
        &config,
    ]);
    assert_eq!(answer.status.code(), Some(0), "{}", String::from_utf8_lossy(&answer.stderr));
}
