//! What holds at the moment at which enforcement begins: the guard before the first program, the
//! host's connections on whatever is enforced on for the first time.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab;

use crate::site::{Over, Site, WEB};

/// Waits for a file, and looks so often that what comes right after it is not missed.
fn wait_for_file(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{path:?} does not come");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Connects the client to the server past the interface that is enforced on.
fn add_side(site: &Site) {
    let client = site.namespace("client").name().to_owned();
    let server = |words: &str| site.namespace("server").ip(words).unwrap();
    server(&format!("link add side type veth peer name side netns {client}"));
    server("link set side up");
    site.namespace("client").ip("link set side up").unwrap();
    let address = site.address("server");
    site.namespace("client").ip(&format!("route add {address}/32 dev side")).unwrap();
}

#[test]
fn the_guard_is_there_before_the_first_program() {
    let mut site = Site::new("first", Over::Ethernet, &[WEB]);
    add_side(&site);
    let at = SocketAddr::new(site.address("server"), 8080);
    let server = site.namespace("server").run(|| UdpSocket::bind(at)).unwrap().unwrap();
    server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let client = site.namespace("client").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    // Packets to whom is known leave at once.
    client.send_to(b"before", at).unwrap();
    assert!(server.recv(&mut [0; 8]).is_ok(), "nothing filters yet");

    site.launch();
    wait_for_file(&site.link("eth0", "xdp-native"));
    client.send_to(b"after", at).unwrap();
    assert!(server.recv(&mut [0; 8]).is_err(), "past the interface, once a program is there");
    site.wait_for("the agent answers", |status| status["agent"]["pid"].is_u64());
    assert!(site.is_denied("client", 8080));

    // A start that fails leaves no guard where nothing is enforced.
    site.kill();
    site.done(&["detach"]);
    site.namespace("server").ip("link set eth0 xdp off").unwrap();
    assert!(site.connects("client", 8080));
    // Its frames are too long for XDP.
    for host in ["server", "client"] {
        site.namespace(host).ip("link set side mtu 9000").unwrap();
    }
    let side = "hook = \"xdp\"\n[[interface]]\nname = \"side\"\nhook = \"xdp\"\n";
    site.write("agent.toml", &(site.configuration("server", "eth0") + side));
    let output = site.bulkhead(&["run", "--config", &site.path("agent.toml")]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!site.has_guard());
    assert!(site.connects("client", 8080));
}

#[test]
fn what_number_the_kernel_gives_itself_does_not_matter() {
    for (over, ingress) in [(Over::Ethernet, "xdp-native"), (Over::Tunnel, "tcx-ingress")] {
        let mut site = Site::new("number", over, &[WEB]);
        // Made anew, then taken over.
        for _ in 0..2 {
            let pid = site.launch_on_2_6();
            let status = site.wait_for("the agent answers", |status| status["agent"]["pid"] == pid);
            assert_eq!(status["state"], "enforced");
            assert!(site.link(site.interface(), ingress).exists());
            assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
            site.done(&["apply"]);
            assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
            site.kill();
        }
    }
}

#[test]
fn a_guard_that_is_there_closes_an_interface_until_it_has_a_program() {
    let mut site = Site::new("closed", Over::Ethernet, &[WEB]);
    site.start();
    // The interface comes back while no agent runs.
    site.kill();
    site.replace_interface();
    let address = site.address("server");
    let old_link = site.link("eth0", "xdp-native");
    std::fs::remove_file(&old_link).unwrap();
    for name in ["client", "stranger"] {
        site.namespace(name).ip("neigh flush all").unwrap();
    }
    let at = SocketAddr::new(address, 8081);
    let server = site.namespace("server").run(|| UdpSocket::bind(at)).unwrap().unwrap();
    server.set_nonblocking(true).unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let stranger = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    site.launch();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !old_link.exists() {
        let _ = stranger.send_to(b"?", at);
        assert!(Instant::now() < deadline, "it is not attached");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(server.recv(&mut [0; 4]).is_err(), "before the program was there");
    site.wait_for("enforced", |status| status["agent"].is_object() && status["state"] == "enforced");
    assert!(site.connects("client", 8080), "opened once it is enforced, before anybody is told so");

    // A firewall that is reloaded flushes what is not its own.
    let mut flush = Command::new("nft");
    site.namespace("server").prepare(flush.args(["flush", "ruleset"])).unwrap();
    assert!(lab::run_within(&mut flush, Duration::from_secs(5)).unwrap().status.success());
    let deadline = Instant::now() + Duration::from_secs(10);
    // The log has it a moment after nftables.
    while !(site.has_guard() && site.log().contains("the table is gone")) {
        assert!(Instant::now() < deadline, "the guard does not come back, or nobody says so: {}", site.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(site.connects("client", 8080));

    // One that is turned off is taken away: nobody keeps its set any more.
    site.kill();
    assert!(site.has_guard());
    let config = site.configuration("server", "eth0");
    site.write("agent.toml", &config.replacen("node", "guard = false\nnode", 1));
    site.start();
    assert!(!site.has_guard());
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
}

#[test]
fn a_new_address_is_guarded_before_apply_answers() {
    let mut site = Site::new("applied", Over::Ethernet, &[WEB]);
    site.start();
    add_side(&site);
    // The client's own address is another node's, and so guarded already.
    let nobodys = "198.51.100.9";
    site.namespace("client").ip(&format!("addr add {nobodys}/32 dev side")).unwrap();
    let from = SocketAddr::new(nobodys.parse().unwrap(), 0);
    let client = site.namespace("client").run(|| UdpSocket::bind(from)).unwrap().unwrap();
    let inventory = std::fs::read_to_string(site.path("inventory.json")).unwrap();
    let address = site.address("server");
    // Often, since upkeep looks after the guard too, a moment later.
    for last in 200..203 {
        let extra = format!("192.0.2.{last}");
        site.namespace("server").ip(&format!("addr add {extra}/32 dev eth0")).unwrap();
        site.namespace("client").ip(&format!("route add {extra}/32 dev side")).unwrap();
        let at = SocketAddr::new(extra.parse().unwrap(), 8080);
        let server = site.namespace("server").run(|| UdpSocket::bind(at)).unwrap().unwrap();
        client.send_to(b"before", at).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        assert!(server.recv(&mut [0; 8]).is_ok(), "an address that is nobody's");
        let both = format!("\"{address}\", \"{extra}\"");
        site.write("inventory.json", &inventory.replace(&format!("\"{address}\""), &both));
        site.done(&["apply"]);
        client.send_to(b"after", at).unwrap();
        server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(server.recv(&mut [0; 8]).is_err(), "its own now");
    }
}

#[test]
fn connections_go_on_when_an_interface_gets_another_zone_or_role() {
    let mut site = Site::with_hosts("zones", Over::Ethernet, &[WEB], &["feed"]);
    let (server, client, feed) = (site.address("server"), site.address("client"), site.underlay("feed"));
    let overlay =
        format!(r#"{{"action": "accept", "src": ["{feed}"], "dst": ["tag:server:9090"], "proto": "tcp"}}"#);
    site.write_policy(&[WEB, &overlay]);
    site.start();
    let mut connection = site.connect("client", 8080);
    let mut lane = site.connect("feed", 9090);
    connection.goes_on();
    lane.goes_on();
    for zone in [7, 9] {
        site.kill();
        let config = site.configuration("server", "eth0");
        site.write("agent.toml", &format!("{config}zone = {zone}\n"));
        site.start();
        connection.goes_on();
        lane.goes_on();
        assert!(site.is_denied("stranger", 8080));
    }

    // The same interface carries venues' lanes now, and the overlay is elsewhere.
    site.kill();
    site.namespace("server").ip("link add eth1 type veth peer name eth2").unwrap();
    site.write(
        "inventory.json",
        &format!(
            r#"{{"nodes": [{{"name": "server", "addresses": ["100.64.0.1"], "underlay": ["{server}"], "tags": ["tag:server"]}},
                {{"name": "client", "addresses": ["100.64.0.2"], "underlay": ["{client}"], "tags": ["tag:client"]}}]}}"#
        ),
    );
    site.write(
        "policy.hujson",
        &format!(
            r#"{{"tagOwners": {{"tag:server": [], "tag:client": []}}, "acls": [{WEB}],
                "venues": {{"venue:a": {{"addresses": ["{feed}"],
                    "feeds": [{{"from": ["{feed}"], "to": ["tag:server"], "proto": "tcp", "ports": "9090"}}]}}}}}}"#
        ),
    );
    let config = site.configuration("server", "eth1");
    site.write("agent.toml", &format!("{config}[[interface]]\nname = \"eth0\"\nrole = \"exchange\"\n"));
    site.start();
    lane.goes_on();
    connection.is_cut();
}
