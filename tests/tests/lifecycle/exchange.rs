//! An exchange interface beside an overlay: venues' lanes, named link protocols and WireGuard's
//! own transport pass, and nothing else.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::frames::{self, LLDP};
use crate::site::load;
use crate::site::{Over, Site, WEB};

const PACKETS_PER_SECOND: u64 = 2000;

/// `server` is the engine, `feed` and `other` are the venue's.
pub fn exchange_site(label: &str) -> Site {
    let site = Site::with_hosts(label, Over::Tunnel, &[WEB], &["feed", "other"]);
    let nodes: Vec<String> = ["server", "client", "stranger"]
        .map(|name| {
            let (overlay, underlay) = (site.address(name), site.underlay(name));
            format!(
                r#"{{"name": "{name}", "addresses": ["{overlay}"], "underlay": ["{underlay}"], "tags": ["tag:{name}"]}}"#
            )
        })
        .to_vec();
    site.write("inventory.json", &format!(r#"{{"nodes": [{}]}}"#, nodes.join(",")));
    let (feed, other) = (site.underlay("feed"), site.underlay("other"));
    site.write(
        "policy.hujson",
        &format!(
            r#"{{"tagOwners": {{"tag:server": [], "tag:client": [], "tag:stranger": []}},
                "acls": [{WEB}],
                "venues": {{"venue:a": {{
                    "addresses": ["{feed}", "{other}", "198.51.100.0/24"],
                    "feeds": [
                        {{"from": ["{feed}"], "to": ["tag:server"], "proto": "tcp", "ports": "9090"}},
                        {{"from": ["{feed}"], "to": ["tag:server"], "proto": "udp", "ports": "9091",
                          "maxPacketsPerSecond": {PACKETS_PER_SECOND}}}],
                    "sessions": [{{"from": ["tag:server"], "to": ["{other}"], "proto": "tcp", "ports": "443"}}]}}}}}}"#
        ),
    );
    site.write("agent.toml", &configuration(&site, ""));
    site
}

fn configuration(site: &Site, link: &str) -> String {
    let (client, stranger) = (site.underlay("client"), site.underlay("stranger"));
    site.configuration("server", "wg0")
        + &format!(
            "[[interface]]\nname = \"eth0\"\nrole = \"exchange\"\nlink = [{link}]\n\
             wireguard = {{ port = 51820, peers = [\"{client}\", \"{stranger}/32\"] }}\n\
             [[management]]\nfrom = [\"{stranger}\"]\nports = [22]\n"
        )
}

#[test]
fn an_exchange_interface_passes_its_lanes_and_nothing_else() {
    let mut site = exchange_site("lanes");
    site.start();
    for name in ["feed", "other", "client", "stranger"] {
        // Whoever is to be reached must be asked for first.
        site.namespace(name).ip("neigh flush all").unwrap();
    }
    site.namespace("server").ip("neigh flush all").unwrap();
    assert!(site.reaches_underlay("feed", "server", 9090), "the feed");
    assert!(!site.reaches_underlay("feed", "server", 9092), "another port");
    assert!(!site.reaches_underlay("other", "server", 9090), "another address of the venue");
    assert!(!site.reaches_underlay("server", "feed", 9090), "out to the venue");
    assert!(!site.reaches_underlay("server", "feed", 443), "out to the venue");
    assert!(!site.reaches_underlay("server", "other", 9090), "out to the venue");
    assert!(site.reaches_underlay("server", "other", 443), "the session");
    assert!(!site.reaches_underlay("other", "server", 443), "the session's other way");
    assert!(!site.reaches_underlay("client", "server", 8080), "a rule of the overlay");
    assert!(!site.reaches_underlay("client", "server", 9090), "no venue's address");

    // The overlay on top of it.
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("client", 8081) && site.is_denied("stranger", 8080));
    assert!(site.is_denied("client", 9090), "a lane is the venue's");

    let status = site.status();
    assert_eq!(status["state"], "enforced", "{status}");
    assert_eq!(status["links"].as_array().unwrap().len(), 4);
    assert!(status["links"].as_array().unwrap().iter().all(|link| link["generation"].is_u64()), "{status}");
    let agent = &status["agent"];
    assert_eq!(agent["exchange"][0]["interface"], "eth0");
    let exempt = agent["exemptions"].to_string();
    assert!(
        exempt.contains("management: TCP 22 from 192.0.2.3/32") && exempt.contains("UDP 51820"),
        "{exempt}"
    );
    let counters = agent["rule_counters"].as_array().unwrap();
    let packets = |part: &str| -> u64 {
        let named =
            counters.iter().filter(|rule| rule["name"].as_str().is_some_and(|name| name.contains(part)));
        named.map(|rule| rule["packets"].as_u64().unwrap()).sum()
    };
    assert!(
        packets("venue:a") > 0 && packets("web") > 0 && packets("wireguard transport") > 0,
        "{counters:?}"
    );

    // Management passes, also for who is cut off; nothing else of them does.
    assert!(site.reaches_underlay("stranger", "server", 22));
    assert!(
        !site.reaches_underlay("client", "server", 22) && !site.reaches_underlay("stranger", "server", 23)
    );
    site.done(&["quarantine", "stranger"]);
    assert!(site.reaches_underlay("stranger", "server", 22));
    site.done(&["quarantine", "client"]);
    assert!(site.is_denied("client", 8080));
    site.done(&["release", "client"]);
    assert!(site.connects("client", 8080));

    // A venue that is reached past the interface is told of.
    let server = site.namespace("server");
    server.ip("link add side type veth peer name edis").unwrap();
    server.ip("link set side up").unwrap();
    server.ip(&format!("route add {}/32 dev side", site.underlay("other"))).unwrap();
    let status = site.status();
    assert_eq!(status["state"], "degraded", "{status}");
    assert_eq!(status["problems"].as_array().unwrap().len(), 1, "{status}");
    let problem = status["problems"][0].as_str().unwrap();
    assert!(problem.contains("venue:a is reachable") && problem.contains("interface side"), "{problem}");
    server.ip(&format!("route del {}/32 dev side", site.underlay("other"))).unwrap();
    assert_eq!(site.status()["state"], "enforced");
    for route in ["198.51.100.20/32", "198.51.100.0/24", "198.0.0.0/8", "default"] {
        server.ip(&format!("route add {route} dev side")).unwrap();
        assert_eq!(site.status()["state"], "degraded", "{route}");
        server.ip(&format!("route del {route} dev side")).unwrap();
    }
    server.ip("route add 198.51.101.0/24 dev side").unwrap();
    assert_eq!(site.status()["state"], "enforced", "another network's route");
}

#[test]
fn a_link_protocol_passes_only_when_it_is_named() {
    let mut site = exchange_site("link");
    let heard = |site: &Site| frames::heard(site.namespace("feed"), site.namespace("server"), LLDP);
    assert!(heard(&site), "before anything filters");
    site.start();
    assert!(!heard(&site));
    site.kill();
    site.write("agent.toml", &configuration(&site, "\"lacp\""));
    site.start();
    assert!(!heard(&site), "another one is named");
    site.kill();
    site.write("agent.toml", &configuration(&site, "\"lacp\", \"lldp\""));
    let load = load::start(&site, 8080, 8081);
    site.start();
    assert!(heard(&site));
    assert_eq!(site.status()["agent"]["exchange"][0]["link"], serde_json::json!(["lacp", "lldp"]));
    load::check(load);
}

#[test]
fn the_rate_of_a_feed_holds() {
    const SECONDS: u64 = 5;
    // Between two datagrams, us: many times what the sender sleeps.
    const STALL: u64 = 10_000;
    let mut site = exchange_site("rate");
    site.start();
    let at = SocketAddr::new(site.underlay("server"), 9091);
    let receiver = site.namespace("server").run(|| UdpSocket::bind(at)).unwrap().unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    // Room for all that may pass: a reader that has to wait for a CPU loses none of it.
    sockopt::set_socket_recv_buffer_size_force(&receiver, 32 << 20).unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let sender = site.namespace("feed").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    let started = Instant::now();
    let sending = std::thread::spawn(move || {
        // How long it was kept from sending, us: what does not come cannot pass.
        let (mut sent, mut before, mut kept) = (0u64, 0, 0);
        while started.elapsed() < Duration::from_secs(SECONDS + 2) {
            // Four times the rate, in small steps.
            let due = started.elapsed().as_micros() as u64 * PACKETS_PER_SECOND * 4 / 1_000_000;
            while sent < due {
                let now = started.elapsed().as_micros() as u64;
                if sender.send_to(&now.to_be_bytes(), at).is_err() {
                    break;
                }
                sent += 1;
                kept += if now - before > STALL { now - before } else { 0 };
                before = now;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        (sent, kept)
    });
    // By the time of sending: after a second whatever may come at once has come.
    let (mut within, mut first, mut last) = (0u64, u64::MAX, 0);
    let mut bytes = [0; 8];
    while receiver.recv(&mut bytes).is_ok() {
        let time = u64::from_be_bytes(bytes);
        if (1_000_000..1_000_000 * (SECONDS + 1)).contains(&time) {
            within += 1;
            (first, last) = (first.min(time), last.max(time));
        }
    }
    let (sent, kept) = sending.join().unwrap();
    assert!(sent > 3 * PACKETS_PER_SECOND * SECONDS, "{sent} sent");
    assert!(last - first > 900_000 * SECONDS, "sent from {first} to {last} us");
    let wanted = PACKETS_PER_SECOND * (last - first) / 1_000_000;
    let kept = PACKETS_PER_SECOND * kept / 1_000_000;
    println!("{within} of {sent} packets passed, {wanted} wanted less {kept}, between {first} and {last} us");
    assert!(within <= wanted + wanted / 50, "{within} passed, {wanted} wanted");
    assert!(within + kept + wanted / 50 >= wanted, "{within} passed, {wanted} wanted less {kept}");
    // Else it says nothing.
    assert!(kept < wanted / 4, "{kept} could not be sent");
}
