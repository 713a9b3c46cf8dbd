//! First contact: `bulkhead init` looks at a host, and the agent reports by what it wrote. And what an overlay
//! serves on the host itself.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, open_tun, slower};
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{Over, Site};

const LIMIT: Duration = Duration::from_secs(30);

/// Answers wg(8) as a WireGuard in user space does: an interface with the client and the stranger as peers.
fn serve_wg(site: &Site) {
    let directory = site.path("wireguard");
    std::fs::create_dir_all(&directory).unwrap();
    let peers = ["client", "stranger"].map(|name| {
        let host = site.lab.host(name).unwrap();
        // Those that route them: the agent holds what `init` writes to them.
        format!("public_key={}\nallowed_ip={}/32\n", lab::digits(&host.keys.public).unwrap(), host.overlay[0])
    });
    let answer = format!("listen_port={}\n{}errno=0\n\n", lab::WIREGUARD_PORT, peers.concat());
    let listener = UnixListener::bind(format!("{directory}/{}.sock", lab::INTERFACE)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = [0; 64];
            // wg looks whether somebody is there, and asks by a second connection.
            if stream.read(&mut question).is_ok_and(|bytes| bytes > 0) {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
}

/// Runs `init` on the server, where wg finds that socket, in an SSH session of the client's.
fn init(site: &Site, words: &[&str]) -> Output {
    let (client, server) = (site.address("client"), site.address("server"));
    let within = "mkdir -p /run/wireguard && mount --bind \"$0\" /run/wireguard && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", within, &site.path("wireguard")]);
    command.arg(site.command().get_program());
    command.args(["--instance", site.instance(), "init", "--directory", &site.path("")]).args(words);
    command.env("SSH_CONNECTION", format!("{client} 50122 {server} 22"));
    site.namespace("server").prepare(&mut command).unwrap();
    lab::run_within(&mut command, slower(LIMIT)).unwrap()
}

#[test]
fn a_host_that_is_looked_at_reports_what_its_first_policy_has_not() {
    let mut site = Site::new("init", Over::Tunnel, &[]);
    serve_wg(&site);
    let at = SocketAddr::new(site.address("server"), 8080);
    let service = site.namespace("server").run(|| TcpListener::bind(at)).unwrap().unwrap();

    let refused = init(&site, &[]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("already there: "), "{refused:?}");
    let done = init(&site, &["--force", "--json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(answer["interfaces"], serde_json::json!([lab::INTERFACE]), "{answer}");
    assert_eq!(answer["nodes"], 3, "{answer}");
    assert_eq!(answer["services"][0]["ports"], serde_json::json!([8080]), "{answer}");
    assert_eq!(
        answer["management"]["22"],
        serde_json::json!([site.address("client").to_string()]),
        "{answer}"
    );
    assert_eq!(answer["warnings"], serde_json::json!([]), "{answer}");
    assert_eq!(answer["next"].as_array().unwrap().len(), 3, "{answer}");
    let written = std::fs::read_to_string(site.path("inventory.json")).unwrap();
    assert!(
        written.contains(&format!("peer-{}", site.address("stranger").to_string().replace('.', "-"))),
        "{written}"
    );
    drop(service);

    // The first of the three commands, and then the agent as the second would start it.
    let files = ["policy.hujson", "inventory.json", "agent.toml"].map(|name| site.path(name));
    site.done(&["check", &files[0], "--inventory", &files[1], "--config", &files[2]]);
    site.start();
    let status = site.status();
    assert_eq!(status["state"], "audit", "{status}");
    assert!(status["agent"]["exemptions"][0].as_str().unwrap().contains("TCP 22 from "), "{status}");

    // What was seen passes by its rule; what was not passes, and is reported.
    assert!(site.connects("stranger", 8080) && site.connects("stranger", 8081));
    let journal = site.journal_file();
    let ports = || -> Vec<u64> {
        reports(&journal).iter().filter_map(|report| report["destination_port"].as_u64()).collect()
    };
    let deadline = Instant::now() + slower(LIMIT);
    while !ports().contains(&8081) {
        assert!(Instant::now() < deadline, "never reported: {:?}", reports(&journal));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!ports().contains(&8080), "{:?}", reports(&journal));
}

/// Ports that somebody sends to through a TUN device, with the protocol.
type Seen = Arc<Mutex<Vec<(u8, u16)>>>;

/// Answers datagrams as the program of an overlay does: back through the device. Its own clone is for packets
/// that nobody has asked for.
fn serve_overlay(device: File) -> (Seen, File) {
    let (seen, clone) = (Seen::default(), device.try_clone().unwrap());
    let (shared, mut device) = (Arc::clone(&seen), device);
    std::thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok(bytes) = device.read(&mut packet) {
            // A header of four bytes, then IP: these have no options.
            let (start, protocol) = if packet[4] >> 4 == 4 { (24, packet[13]) } else { (44, packet[10]) };
            if bytes < start + 8 || !matches!(protocol, 6 | 17) {
                continue;
            }
            shared
                .lock()
                .unwrap()
                .push((protocol, u16::from_be_bytes([packet[start + 2], packet[start + 3]])));
            if protocol == 17 {
                // Who swaps both ends changes no checksum.
                let (from, to) = if start == 24 { (16..20, 20..24) } else { (12..28, 28..44) };
                let source = packet[from.clone()].to_vec();
                packet.copy_within(to.clone(), from.start);
                packet[to].copy_from_slice(&source);
                packet[start..start + 4].rotate_left(2);
                device.write_all(&packet[..bytes]).unwrap();
            }
        }
    });
    (seen, clone)
}

/// Whether a question by UDP is answered.
fn asks(site: &Site, to: SocketAddr) -> bool {
    let ask = || {
        let own = if to.is_ipv4() { "100.64.0.1:0" } else { "[fd7a:115c:a1e0::1]:0" };
        let socket = UdpSocket::bind(own).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        // A refusal is one by the programs: TCX drops are errors to who sends.
        socket.send_to(b"?", to).is_ok() && socket.recv(&mut [0; 8]).is_ok()
    };
    site.namespace("server").run(ask).unwrap()
}

#[test]
fn an_overlays_resolver_answers_this_host_and_no_more_than_that() {
    let mut site = Site::new("magicdns", Over::Ethernet, &[]);
    let server = site.namespace("server");
    let device = server.run(|| open_tun("tailscale0")).unwrap().unwrap();
    for words in [
        "addr add 100.64.0.1/32 dev tailscale0",
        "addr add fd7a:115c:a1e0::1/128 dev tailscale0 nodad",
        "link set tailscale0 up",
        "route add 100.64.0.0/10 dev tailscale0",
        "route add fd7a:115c:a1e0::/48 dev tailscale0",
    ] {
        server.ip(words).unwrap();
    }
    let (seen, mut inject) = serve_overlay(device);
    let [v4, v6]: [IpAddr; 2] =
        ["100.100.100.100", "fd7a:115c:a1e0::53"].map(|address| address.parse().unwrap());
    assert!(asks(&site, (v4, 53).into()) && asks(&site, (v6, 53).into()), "before an agent is there");

    site.write(
        "inventory.json",
        r#"{"nodes": [
        {"name": "server", "addresses": ["100.64.0.1", "fd7a:115c:a1e0::1"], "tags": ["tag:server"]},
        {"name": "client", "addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "tags": ["tag:client"]}]}"#,
    );
    let config = site.configuration("server", "tailscale0");
    site.write("agent.toml", &config);
    site.start();
    assert!(!asks(&site, (v4, 53).into()) && !asks(&site, (v6, 53).into()), "nothing names it");
    site.kill();

    site.write("agent.toml", &format!("{config}overlay = \"tailscale\"\n"));
    site.start();
    let status = site.status();
    assert_eq!(
        status["agent"]["exemptions"][0], "tailscale on this host: UDP 53 to 100.100.100.100",
        "{status}"
    );
    seen.lock().unwrap().clear();
    assert!(asks(&site, (v4, 53).into()) && asks(&site, (v6, 53).into()), "{:?}", site.log());
    for (address, port) in [(v4, 54), (v6, 5353), ("100.64.0.2".parse().unwrap(), 53)] {
        assert!(!asks(&site, (address, port).into()), "{address} {port}");
    }
    let connect = |to: SocketAddr| {
        let wait = Duration::from_millis(300);
        site.namespace("server").run(|| TcpStream::connect_timeout(&to, wait)).unwrap().is_ok()
    };
    for (address, port) in [(v4, 53), (v4, 80), (v4, 8080), (v4, 443), (v6, 80), (v6, 22)] {
        assert!(!connect((address, port).into()), "nobody answers TCP here");
    }
    let mut reached = seen.lock().unwrap().clone();
    reached.sort_unstable();
    reached.dedup();
    assert_eq!(reached, [(6, 53), (6, 80), (6, 8080), (17, 53)]);

    // From that address, unasked, nothing comes in.
    let waits = site.namespace("server").run(|| UdpSocket::bind("100.64.0.1:9999")).unwrap().unwrap();
    waits.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    inject.write_all(&unasked()).unwrap();
    assert!(waits.recv(&mut [0; 8]).is_err(), "{}", site.status());
    site.done(&["detach"]);
    inject.write_all(&unasked()).unwrap();
    assert!(waits.recv(&mut [0; 8]).is_ok(), "the packet is whole, and the program was what kept it");

    // As who asks is told.
    let [policy, inventory, config] =
        ["policy.hujson", "inventory.json", "agent.toml"].map(|name| site.path(name));
    for (to, code) in [("100.100.100.100:53/udp", 0), ("100.100.100.100:54/udp", 1)] {
        let words = ["explain", &*policy, "--inventory", &inventory, "--config", &config];
        let output = site.bulkhead(&[&words[..], &["--from", "server", "--to", to]].concat());
        assert_eq!(output.status.code(), Some(code), "{to}: {output:?}");
    }
}

/// A datagram from the resolver's port to 100.64.0.1:9999, without a UDP checksum.
fn unasked() -> Vec<u8> {
    let mut packet =
        vec![0, 0, 8, 0, 0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 100, 100, 100, 100, 100, 64, 0, 1];
    let words = packet[4..24].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[14..16].copy_from_slice(&sum.to_be_bytes());
    packet.extend([0, 53, 0x27, 0x0f, 0, 9, 0, 0, b'!']);
    packet
}
