//! Many interfaces: they share programs by what specialises these, and each is judged and named as itself.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::open_tun;
use bulkhead_testkit::packets::build::{Ip, udp};

use crate::site::account::reports;
use crate::site::{OTHER, Over, Site, WEB, policy};

/// As many interfaces, half of them Ethernet.
const INTERFACES: usize = 64;
/// Programs of two kinds of interfaces: one at ingress and one at egress each; and the one that
/// stores flows, which a first start uses.
const PROGRAMS: usize = 2 * 2 + 1;
/// Descriptors for each interface, whatever the agent has open besides included.
const DESCRIPTORS: usize = 6;
/// On an idle machine a start takes 3 s at most, and an apply 2 s; this one may be busy.
const START: Duration = Duration::from_secs(20);
const APPLY: Duration = Duration::from_secs(15);

/// Writes a datagram from one address to a port of the other to a TUN device, as if it had come there.
fn arrive(tun: &mut File, from: IpAddr, to: IpAddr, port: u16) {
    let mut bytes = Ip::new(from, to, 17, udp((40_000, port), b"by tun")).bytes();
    // The header's checksum (RFC 1071): the stack looks at it. A datagram needs none.
    let words = bytes[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    tun.write_all(&[&[0, 0, 8, 0], &bytes[..]].concat()).unwrap();
}

/// A namespace's 64 interfaces: eth0, veth and TUN. The last one is what the test writes to.
fn make_interfaces(site: &Site) -> (String, File) {
    let server = site.namespace("server");
    let mut config = site.configuration("server", "eth0");
    let mut name = |name: &str| {
        write!(config, "[[interface]]\nname = \"{name}\"\n").unwrap();
        server.ip(&format!("link set {name} up")).unwrap();
    };
    for index in 1..INTERFACES / 2 {
        server.ip(&format!("link add v{index} type veth peer name p{index}")).unwrap();
        name(&format!("v{index}"));
    }
    for index in INTERFACES / 2..INTERFACES - 1 {
        server.ip(&format!("tuntap add dev t{index} mode tun")).unwrap();
        name(&format!("t{index}"));
    }
    let last = server.run(|| open_tun("last")).unwrap().unwrap();
    name("last");
    (config, last)
}

/// The interfaces that the reports of a port's drops name.
fn named(site: &Site, port: u16) -> Vec<String> {
    let reports = reports(&site.journal_file());
    let of_port = reports.iter().filter(|report| report["destination_port"] == port);
    of_port.map(|report| report["interface"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn many_interfaces_share_programs_and_are_told_apart() {
    let mut site = Site::new("many", Over::Ethernet, &[WEB]);
    let (config, mut last) = make_interfaces(&site);
    let late = "[[interface]]\nname = \"late\"\noptional = true\n[[interface]]\nname = \"other\"\n\
                optional = true\nzone = 9\n";
    site.write("agent.toml", &(config + late));
    let started = Instant::now();
    site.start();
    let start = started.elapsed();
    let programs = site.loaded_programs();
    assert!(programs <= PROGRAMS, "{programs} programs loaded");
    let links = site.status()["links"].as_array().unwrap().len();
    assert_eq!(links, 2 * INTERFACES);
    let files = site.open_files();
    assert!(files <= DESCRIPTORS * INTERFACES, "{files} descriptors");

    let (server, client) = (site.address("server"), site.address("client"));
    let receive = |port| {
        let socket = site.namespace("server").run(|| UdpSocket::bind(SocketAddr::new(server, port)));
        let socket = socket.unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    };
    let (admitted, denied) = (receive(8080), receive(8081));
    let judged = |last: &mut File, denied_port: u16| {
        assert!(site.connects("client", 8080) && site.is_denied("client", denied_port), "on the first");
        arrive(last, client, server, 8080);
        assert_eq!(admitted.recv(&mut [0; 16]).expect("what is admitted on the last"), 6);
        arrive(last, client, server, 8081);
        assert!(denied.recv(&mut [0; 16]).is_err(), "what is denied on the last");
    };
    judged(&mut last, 8082);
    let deadline = Instant::now() + Duration::from_secs(5);
    while (named(&site, 8081).is_empty() || named(&site, 8082).is_empty()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(named(&site, 8081).iter().all(|interface| interface == "last"), "{:?}", named(&site, 8081));
    assert!(named(&site, 8082).iter().all(|interface| interface == "eth0"), "{:?}", named(&site, 8082));
    assert!(!named(&site, 8081).is_empty() && !named(&site, 8082).is_empty());

    let began = Instant::now();
    site.done(&["apply"]);
    let apply = began.elapsed();
    println!(
        "{INTERFACES} interfaces: start {start:?}, apply {apply:?}, {files} descriptors, {programs} programs"
    );
    judged(&mut last, 8083);
    assert!(site.loaded_programs() <= PROGRAMS, "{} programs loaded", site.loaded_programs());
    assert!(site.open_files() <= DESCRIPTORS * INTERFACES, "{} descriptors", site.open_files());
    assert!(start < START && apply < APPLY, "start {start:?}, apply {apply:?}");

    // One like others gets their programs; one that is like none gets a generation.
    let generation = |site: &Site| site.status()["agent"]["generation"].as_u64().unwrap();
    let before = generation(&site);
    let came = |name: &str| {
        site.namespace("server").ip(&format!("link add {name} type veth peer name p-{name}")).unwrap();
        site.done(&["attach", name, "--wait=15"]);
    };
    came("late");
    assert_eq!(generation(&site), before);
    came("other");
    assert_eq!(generation(&site), before + 1);
    let status = site.status();
    assert_eq!(status["links"].as_array().unwrap().len(), 2 * (INTERFACES + 2), "{status}");
    assert_eq!(status["state"], "enforced", "{status}");
    assert!(site.loaded_programs() <= PROGRAMS + 2, "{} programs loaded", site.loaded_programs());
}

#[test]
fn a_candidate_observes_on_interfaces_of_every_group() {
    let mut site = Site::new("groups", Over::Ethernet, &[WEB]);
    let mut tun = site.namespace("server").run(|| open_tun("t0")).unwrap().unwrap();
    site.namespace("server").ip("link set t0 up").unwrap();
    let more = "[[interface]]\nname = \"t0\"\n[[interface]]\nname = \"late\"\noptional = true\n";
    site.write("agent.toml", &(site.configuration("server", "eth0") + more));
    site.start();
    site.write("candidate.hujson", &policy(&[OTHER]));
    site.done(&["stage", &site.path("candidate.hujson")]);
    let (server, client) = (site.address("server"), site.address("client"));
    let at = SocketAddr::new(server, 8080);
    let socket = site.namespace("server").run(|| UdpSocket::bind(at)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let is_enforced = |site: &Site, tun: &mut File| {
        assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
        arrive(tun, client, server, 8080);
        assert_eq!(socket.recv(&mut [0; 16]).expect("what the enforced policy admits"), 6);
    };
    is_enforced(&site, &mut tun);
    // Nobody but the pins holds what leads from the staged program to the enforced ones.
    site.kill();
    is_enforced(&site, &mut tun);
    site.start();
    let generation = |site: &Site| site.status()["agent"]["generation"].as_u64().unwrap();
    let before = generation(&site);
    site.namespace("server").ip("link add late type veth peer name p-late").unwrap();
    site.done(&["attach", "late", "--wait=15"]);
    assert_eq!(generation(&site), before, "the programs of eth0 are for it, too");
    is_enforced(&site, &mut tun);
    let status = site.status();
    assert!(status["agent"]["staged"]["would_drop"].as_u64() >= Some(2), "{status}");
    // Both observers, both enforced programs of two groups; and the one that stores flows.
    assert!(site.loaded_programs() <= 9, "{} programs loaded", site.loaded_programs());
}
