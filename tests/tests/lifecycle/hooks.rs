//! Where ingress is judged: by native XDP where the driver has it, else by TCX, where rates hold for
//! merged packets too; never by generic XDP, where they would count as one.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_dataplane::{
    Generation, Hook, Interface, Kind, Links, Pins, Specialisation, Specification, attach, default_timeouts,
};
use bulkhead_testkit::lab;
use bulkhead_testkit::packets::World;

use crate::site::{Over, Site, WEB, load, policy};

/// What native XDP on a virtual Ethernet pair does not take: frames longer than a page.
const JUMBO: u32 = 9000;

/// What the kernel answers there (ERANGE).
const REFUSAL: &str = "no native XDP: Numerical result out of range (os error 34)";

/// Gives all of a site's links another length of frames.
fn set_mtu(site: &Site, mtu: u32) {
    let core = site.core();
    for (number, host) in site.lab.hosts().iter().enumerate() {
        lab::ip(&format!("-n {core} link set p{number} mtu {mtu}")).unwrap();
        host.namespace.ip(&format!("link set eth0 mtu {mtu}")).unwrap();
    }
}

fn ingress(site: &Site) -> String {
    let status = site.status();
    let links = status["links"].as_array().unwrap();
    let of_eth0 = links.iter().filter(|link| link["interface"] == "eth0" && link["hook"] != "tcx-egress");
    let hooks: Vec<_> = of_eth0.map(|link| link["hook"].as_str().unwrap()).collect();
    hooks.join(", ")
}

/// What `bulkhead status` shows of the first interface's ingress.
fn shown(site: &Site) -> String {
    let text = String::from_utf8(site.bulkhead(&["status"]).stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("attached: eth0") && !line.contains("egress"));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// Lets every write become datagrams of so many bytes, merged until a device parts them (UDP_SEGMENT).
fn part(socket: &UdpSocket, bytes: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: a value of the length that is given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const bytes).cast(),
            length,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends datagrams in bundles of 40 from the client; how many were sent, how many came, and in which time.
fn flood(site: &Site, within: Duration) -> (usize, usize, Duration) {
    const BUNDLE: usize = 40;
    let at = SocketAddr::new(site.address("server"), 8080);
    let receiver = site.namespace("server").run(|| UdpSocket::bind(at)).unwrap().unwrap();
    receiver.set_nonblocking(true).unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let sender = site.namespace("client").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    part(&sender, 1000).unwrap();
    sender.connect(at).unwrap();
    let bundle = [b'z'; 1000 * BUNDLE];
    let (mut sent, mut came) = (0, 0);
    let mut byte = [0; 1];
    let started = Instant::now();
    while started.elapsed() < within {
        sent += sender.send(&bundle).map_or(0, |bytes| bytes / 1000);
        std::thread::sleep(Duration::from_millis(2));
        while receiver.recv(&mut byte).is_ok() {
            came += 1;
        }
    }
    std::thread::sleep(Duration::from_millis(100));
    while receiver.recv(&mut byte).is_ok() {
        came += 1;
    }
    (sent, came, started.elapsed())
}

#[test]
fn a_rate_holds_for_merged_packets_at_every_length_of_frames() {
    const RATE: usize = 200;
    let rule = WEB.replace('}', &format!(r#", "maxPacketsPerSecond": {RATE}}}"#));
    for (mtu, hook) in [(1500, "xdp-native"), (JUMBO, "tcx-ingress")] {
        let mut site = Site::new("merged", Over::Ethernet, &[&rule]);
        set_mtu(&site, mtu);
        site.start();
        assert_eq!(ingress(&site), hook);
        let (sent, came, took) = flood(&site, Duration::from_secs(3));
        println!(
            "frames of {mtu}: {sent} datagrams sent, {came} came in {took:?}; the rule admits {RATE} a second"
        );
        assert!(sent > 10 * RATE, "{sent} sent");
        // The rule's burst, and what has become due since.
        let due = RATE + (took.as_secs_f64() * RATE as f64) as usize;
        assert!(came <= due + due / 10 && came >= RATE, "{came} came at {mtu}, {due} were due");
    }
}

#[test]
fn a_driver_without_native_xdp_gets_tcx_and_is_told_of() {
    let mut site = Site::new("nonative", Over::Ethernet, &[WEB]);
    set_mtu(&site, JUMBO);
    site.start();
    assert_eq!(ingress(&site), "tcx-ingress");
    assert!(site.log().contains(REFUSAL), "{}", site.log());
    assert!(shown(&site).starts_with("attached: eth0 tcx-ingress, "), "{}", shown(&site));
    assert!(shown(&site).ends_with(&format!("({REFUSAL})")), "{}", shown(&site));
    assert_eq!(site.loaded_programs(), 4, "what was tried, both of TC, and the one that stores flows");

    // It stays so without asking the driver again, and the reason stays known.
    site.done(&["apply"]);
    assert_eq!(site.loaded_programs(), 2, "TC's alone");
    assert!(shown(&site).ends_with(&format!("({REFUSAL})")), "{}", shown(&site));
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));

    // Another start asks again: what is in use goes over without a gap.
    let mut connection = site.connect("client", 8080);
    connection.goes_on();
    site.kill();
    set_mtu(&site, 1500);
    site.start();
    assert_eq!(ingress(&site), "xdp-native");
    assert!(!shown(&site).contains('('), "{}", shown(&site));
    connection.goes_on();

    // Who asks for TCX gets it, and who asks for XDP gets it or is refused.
    site.kill();
    site.write("agent.toml", &(site.configuration("server", "eth0") + "hook = \"tcx\"\n"));
    site.start();
    assert_eq!(ingress(&site), "tcx-ingress");
    assert!(!shown(&site).contains('('), "{}", shown(&site));
    connection.goes_on();
    site.kill();
    set_mtu(&site, JUMBO);
    site.write("agent.toml", &(site.configuration("server", "eth0") + "hook = \"xdp\"\n"));
    site.launch();
    assert!(site.has_ended(), "{}", site.log());
    assert!(site.log().contains("eth0: xdp-native"), "{}", site.log());
    assert_eq!(ingress(&site), "tcx-ingress", "what enforced still does");
    connection.goes_on();
    assert!(site.is_denied("stranger", 8080));
}

/// Enforces as earlier agents did: by generic XDP.
fn enforce_by_generic_xdp(site: &Site) {
    let inventory = std::fs::read_to_string(site.path("inventory.json")).unwrap();
    let world = World::new(policy(&[WEB]), inventory, "server");
    let pins = Pins::new(Path::new("/sys/fs/bpf/bulkhead"), site.instance());
    let attached = site.namespace("server").run(|| {
        pins.create().unwrap();
        let specification = Specification::new(1, &world.program.tables, default_timeouts());
        let wanted = (Specialisation::new(Kind::Ethernet, 2), vec![Hook::XdpGeneric, Hook::TcxEgress]);
        let mut generation = Generation::build(&specification, &[wanted], Some(&pins)).unwrap();
        let interface = Interface::find("eth0").unwrap();
        attach(
            generation.only_group().unwrap(),
            &interface,
            &[Hook::XdpGeneric],
            &pins,
            &mut Links::default(),
        )
        .unwrap()
    });
    assert_eq!(attached.unwrap().hooks, [Hook::XdpGeneric, Hook::TcxEgress]);
}

#[test]
fn generic_xdp_of_an_earlier_agent_is_left_without_a_gap() {
    for (mtu, hook) in [(1500, "xdp-native"), (JUMBO, "tcx-ingress")] {
        let mut site = Site::new("generic", Over::Ethernet, &[WEB]);
        set_mtu(&site, mtu);
        enforce_by_generic_xdp(&site);
        assert_eq!(ingress(&site), "xdp-generic");
        let load = load::start(&site, 8080, 8081);
        std::thread::sleep(Duration::from_millis(300));
        site.start();
        std::thread::sleep(Duration::from_millis(300));
        let counts = load.stop().unwrap();
        assert_eq!((counts.denied_answered, counts.denied_through), (0, 0), "{counts:?}");
        // A device that gets native XDP stops for a moment.
        assert!(counts.sent > 100 && (mtu != JUMBO || counts.unanswered == 0), "{counts:?}");
        assert_eq!(ingress(&site), hook);
        assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
        let shown = shown(&site);
        assert_eq!(shown.contains(REFUSAL), mtu == JUMBO, "{shown}");
        // Nothing but what is pinned runs there.
        let links = Command::new("ip")
            .args(["-n", site.namespace("server").name(), "-details", "link", "show", "eth0"])
            .output()
            .unwrap();
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        assert!(!links.contains("xdpgeneric"), "{links}");
    }
}
