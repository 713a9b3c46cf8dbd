//! An agent of another map ABI, or with tables of other sizes, is taken over from without a gap.
//! Pins of another map ABI are made by giving a dead agent's directory another version; of older ones by
//! taking away the tables that they did not have, and from flows what they did not say of them; and of layout 2 by
//! putting its flows into hash tables as well.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::MapData;
use bulkhead_abi::{
    BUCKET_SLOTS, DIRECTIONS, FLOW_ESTABLISHED, FlowBucket, FlowRecord, FlowSlot, REASONS, VERSION,
};
use bulkhead_dataplane::{FlowTable, wait_for_programs};
use bulkhead_testkit::lab::slower;
use bulkhead_testkit::measure::bpf;

use crate::site::account::{drops, lost, number};
use crate::site::load;
use crate::site::{Over, Site, WEB};

/// Layouts whose flows this agent knows: without what says how they began, with one account of drops, without what is not reported, with single
/// addresses in a hash, and with flows in hash tables.
const UNBEGUN: u32 = 8;
const LAST: u32 = 5;
const RECENT: u32 = 4;
const SINGLE: u32 = 3;
const HASHED: u32 = 2;
/// One that no agent has yet.
const UNKNOWN: u32 = VERSION + 7;

/// What [`WEB`] admits of UDP.
const WEB_UDP: &str = r#"{"name": "udp", "action": "accept", "src": ["tag:client"], "proto": "udp", "dst": ["tag:server:8080"]}"#;

/// The pins of a layout.
fn pins(site: &Site, version: u32) -> PathBuf {
    site.pins().join(format!("v{version}"))
}

fn rename(site: &Site, from: u32, to: u32) {
    fs::rename(pins(site, from), pins(site, to)).unwrap();
}

/// The pins become those of an older layout; of layout 2 with the flows of this moment in its two hash
/// tables.
fn downgrade(site: &Site, to: u32) {
    rename(site, VERSION, to);
    without_beginnings(&pins(site, to).join("state/FLOWS"));
    if to > LAST {
        return;
    }
    one_account(&pins(site, to).join("state"));
    let directories = fs::read_dir(pins(site, to)).unwrap().map(|entry| entry.unwrap().path());
    let mut unknown = vec!["REASON_COUNTERS_1", "LOST_EVENTS_1", "LOST_FLOWS"];
    if to <= RECENT {
        unknown.extend(["ANSWERS", "UNREPORTED"]);
    }
    if to < RECENT {
        unknown.push("HOST_TABLE");
    }
    let paths = directories.flat_map(|directory| unknown.iter().map(move |map| directory.join(map)));
    for path in paths.filter(|path| path.exists()) {
        fs::remove_file(path).unwrap();
    }
    if to != HASHED {
        return;
    }
    let state = pins(site, to).join("state");
    let flows: Vec<_> = FlowTable::open(&state.join("FLOWS")).unwrap().flows().collect();
    for (name, is_established) in [("UNREPLIED", false), ("ESTABLISHED", true)] {
        let map = bpf::create(bpf::LRU_HASH, 40, 32, 65_536).unwrap();
        for (key, mut flow) in flows.clone() {
            if (flow.flags & FLOW_ESTABLISHED != 0) == is_established {
                flow.flags &= !FLOW_ESTABLISHED;
                let record = FlowRecord { key, flow };
                let (key, flow) = record.as_bytes().split_at(40);
                // Before the time it was last seen there was the time it was made.
                bpf::update(&map, key, &[&flow[..8], flow].concat()).unwrap();
            }
        }
        MapData::from_fd(map).unwrap().pin(state.join(name)).unwrap();
    }
    for name in ["FLOWS", "EVICTED"] {
        fs::remove_file(state.join(name)).unwrap();
    }
}

/// Until layout 8 a bucket was its slots alone.
fn without_beginnings(path: &Path) {
    let from = MapData::from_pin(path).unwrap();
    let (old, new) = (size_of::<FlowBucket>(), BUCKET_SLOTS as usize * size_of::<FlowSlot>());
    let entries = from.info().unwrap().max_entries();
    let from = from.fd().as_fd().try_clone_to_owned().unwrap();
    let to = bpf::create_mapped(new as u32, entries).unwrap();
    for index in (0..entries).map(u32::to_ne_bytes) {
        let mut bucket = vec![0; old];
        assert!(bpf::has(&from, &index, &mut bucket));
        bpf::update(&to, &index, &bucket[..new]).unwrap();
    }
    fs::remove_file(path).unwrap();
    MapData::from_fd(to).unwrap().pin(path).unwrap();
}

/// Until layout 5 there was one account of drops: what both have is in the first.
fn one_account(state: &Path) {
    let cpus = aya::util::nr_cpus().unwrap();
    let map = |name: &str| {
        let map = MapData::from_pin(state.join(name)).unwrap();
        map.fd().as_fd().try_clone_to_owned().unwrap()
    };
    // From here on an even turn goes on.
    let turns = map("AGGREGATE_EPOCH");
    let mut turn = [0; 4];
    assert!(bpf::has(&turns, &[0; 4], &mut turn));
    let even = u32::from_ne_bytes(turn) & !1;
    bpf::update(&turns, &[0; 4], &even.to_ne_bytes()).unwrap();
    wait_for_programs().unwrap();
    for (odd, even, entries, words) in [
        ("REASON_COUNTERS_1", "REASON_COUNTERS", DIRECTIONS * REASONS, 2),
        ("LOST_EVENTS_1", "LOST_EVENTS", 1, 1),
    ] {
        let (odd, even) = (map(odd), map(even));
        for key in 0..entries {
            let read = |map| {
                let mut value = vec![0_u8; cpus * words * 8];
                assert!(bpf::has(map, &key.to_ne_bytes(), &mut value));
                let words = value.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
                words.collect::<Vec<_>>()
            };
            let sum = read(&odd).into_iter().zip(read(&even)).flat_map(|(a, b)| (a + b).to_ne_bytes());
            bpf::update(&even, &key.to_ne_bytes(), &sum.collect::<Vec<_>>()).unwrap();
        }
    }
}

fn versions(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.pins()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn is_whole(site: &Site) {
    let status = site.status();
    assert_eq!((&status["state"], &status["problems"]), (&"enforced".into(), &serde_json::json!([])));
    assert_eq!(status["generations"].as_array().unwrap().len(), 1, "{status}");
    assert_eq!(versions(site), [format!("v{VERSION}")]);
    let states = fs::read_dir(pins(site, VERSION)).unwrap().flatten();
    let states = states.filter(|entry| entry.file_name().to_string_lossy().starts_with("state"));
    assert_eq!(states.count(), 1);
}

/// A socket at `at`. A socket closed just before may live on in a child that another test forked and that has not
/// become its program yet.
fn bound(at: SocketAddr) -> UdpSocket {
    let deadline = Instant::now() + slower(Duration::from_secs(2));
    loop {
        match UdpSocket::bind(at) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            socket => return socket.unwrap(),
        }
    }
}

/// A question over UDP that has not been answered yet: only a tracked flow lets the answer pass.
struct Asked {
    client: UdpSocket,
    server: UdpSocket,
}

impl Asked {
    fn new(site: &Site) -> Self {
        let at = SocketAddr::new(site.address("server"), 8080);
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let server = site.namespace("server").run(|| bound(at)).unwrap();
        let client = site.namespace("client").run(|| UdpSocket::bind(any)).unwrap().unwrap();
        client.send_to(b"?", at).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let (_, from) = server.recv_from(&mut [0; 4]).unwrap();
        server.connect(from).unwrap();
        Self { client, server }
    }

    fn is_answered(&self) -> bool {
        self.client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        // Egress says no by a lost packet or, on some hooks, by an error.
        let _ = self.server.send(b"!");
        self.client.recv(&mut [0; 4]).is_ok()
    }
}

#[test]
fn another_layout_is_taken_over_without_a_gap() {
    let layouts = [
        (Over::Ethernet, HASHED),
        (Over::Tunnel, HASHED),
        (Over::Ethernet, SINGLE),
        (Over::Tunnel, RECENT),
        (Over::Tunnel, UNBEGUN),
    ];
    for (over, layout) in layouts {
        let mut site = Site::new("layout", over, &[WEB]);
        site.start();
        let mut connection = site.connect("client", 8080);
        connection.goes_on();
        let asked = Asked::new(&site);
        let packets = |site: &Site| site.status()["agent"]["rule_counters"][0]["packets"].as_u64().unwrap();
        let before = packets(&site);
        site.kill();
        downgrade(&site, layout);
        let status = site.status();
        assert_eq!(status["state"], "enforced", "{status}");
        assert!(status["problems"][0].as_str().unwrap().contains("layout"), "{status}");
        connection.goes_on();
        assert!(site.is_denied("client", 8081), "without an agent");

        site.start();
        is_whole(&site);
        assert!(packets(&site) >= before, "counters follow the rule");
        assert!(asked.is_answered(), "its flow is known");
        let begun_anew = "tables of an unknown map ABI";
        assert!(!site.log().contains(begun_anew), "{layout}: {}", site.log());
        connection.goes_on();
        assert!(site.connects("client", 8080));
        assert!(site.is_denied("client", 8081) && site.is_denied("stranger", 8080));
    }
}

#[test]
fn flows_that_do_not_say_how_they_began_go_on_unverified() {
    for tls in ["observe", "required"] {
        let asks = WEB.replace(r#""dst""#, &format!(r#""proto": "tcp", "tls": "{tls}", "dst""#));
        let mut site = Site::new("unbegun", Over::Ethernet, &[WEB]);
        site.start();
        let mut connection = site.connect("client", 8080);
        connection.goes_on();
        let asked = Asked::new(&site);
        site.kill();
        downgrade(&site, UNBEGUN);
        connection.goes_on();
        assert!(site.is_denied("client", 8081), "without an agent");

        site.write_policy(&[&asks, WEB_UDP]);
        site.start();
        is_whole(&site);
        assert!(asked.is_answered(), "its flow is known");
        connection.goes_on();
        assert!(!site.log().contains("tables of an unknown map ABI"), "{}", site.log());
        let counts = site.status()["agent"]["rule_counters"][0]["tls"].clone();
        let counted = ["began", "plaintext", "unverified"].map(|word| number(&counts[word]));
        assert_eq!(counted, [0, 0, 1], "{tls}: {counts}");
        // Another one that speaks plaintext is known from its beginning.
        let mut other = site.connect("client", 8080);
        if tls == "required" { other.is_cut() } else { other.goes_on() }
    }
}

#[test]
fn a_table_that_an_agent_of_this_layout_did_not_have_is_made() {
    let mut site = Site::new("added", Over::Ethernet, &[WEB]);
    site.start();
    let mut connection = site.connect("client", 8080);
    connection.goes_on();
    let asked = Asked::new(&site);
    site.kill();
    let added = site.layout().join("state/ANSWERS");
    fs::remove_file(&added).unwrap();
    assert_eq!(site.status()["state"], "enforced");
    site.start();
    is_whole(&site);
    assert!(added.exists() && asked.is_answered());
    connection.goes_on();
}

/// One datagram to each of these ports, which nobody may reach: a kind of drop of its own, thrice.
fn refused(site: &Site, ports: std::ops::Range<u16>) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for _ in 0..3 {
        for port in ports.clone() {
            socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
        }
    }
}

#[test]
fn totals_go_on_over_another_layout_and_what_is_lost_is_counted() {
    let mut site = Site::new("totals", Over::Ethernet, &[WEB]);
    let small = site.configuration("server", "eth0") + "[events]\nring_bytes = 4096\naggregates = 64\n";
    site.write("agent.toml", &small);
    site.start();
    refused(&site, 2000..2010);
    let before = site.wait_for_balance();
    assert!(drops(&before) >= 30 && before["counted"]["since_time"].is_string(), "{before}");

    // Nobody reads these, until an agent comes that knows the layout.
    site.kill();
    refused(&site, 3000..3010);
    downgrade(&site, RECENT);
    site.start();
    is_whole(&site);
    let recent = site.wait_for_balance();
    assert!(drops(&recent) >= drops(&before) + 30, "totals go on: {before}, then {recent}");
    assert_eq!((number(&recent["counted"]["unread"]), lost(&recent)), (0, 0), "{recent}");

    site.kill();
    refused(&site, 3000..3010);
    downgrade(&site, HASHED);
    site.start();
    is_whole(&site);
    let known = site.wait_for_balance();
    assert!(drops(&known) >= drops(&before) + 30, "totals go on: {before}, then {known}");
    assert_eq!((number(&known["counted"]["unread"]), lost(&known)), (0, 0), "{known}");

    // Of layout 1 the totals are known and the reports are not: 10 events, 20 drops counted together.
    site.kill();
    refused(&site, 3000..3010);
    downgrade(&site, 1);
    site.start();
    is_whole(&site);
    let after = site.wait_for_balance();
    assert!(drops(&after) >= drops(&known) + 30, "totals go on: {known}, then {after}");
    assert!(number(&after["counted"]["unread"]) >= 30, "{after}");
    assert_eq!(after["counted"]["since"], before["counted"]["since"]);
    assert!(site.log().contains("lost with another map ABI's tables: "), "{}", site.log());

    // Whatever is of an unknown map ABI begins anew, and that is said.
    site.kill();
    refused(&site, 4000..4010);
    rename(&site, VERSION, UNKNOWN);
    site.start();
    is_whole(&site);
    assert!(site.log().contains("events that nobody had read"), "{}", site.log());
    let anew = site.status();
    assert!(drops(&anew) < drops(&after), "{anew}");
    assert_eq!(anew["counted"]["anew"], serde_json::json!(["REASON_COUNTERS", "UNREPORTED", "LOST_EVENTS"]));
    assert!(anew["counted"]["since"].as_u64() > after["counted"]["since"].as_u64(), "{anew}");
    let shown = String::from_utf8(site.bulkhead(&["status"]).stdout).unwrap();
    assert!(
        shown.contains("another map ABI was taken over whose REASON_COUNTERS, UNREPORTED, LOST_EVENTS are"),
        "{shown}"
    );
}

#[test]
fn no_packet_is_lost_or_let_through_while_another_layout_is_taken_over() {
    let mut site = Site::new("gapless", Over::Ethernet, &[WEB]);
    site.start();
    let load = load::start(&site, 8080, 8081);
    std::thread::sleep(Duration::from_millis(300));
    for layout in [UNBEGUN, LAST, RECENT, HASHED, SINGLE] {
        site.kill();
        downgrade(&site, layout);
        std::thread::sleep(Duration::from_millis(100));
        site.start();
        is_whole(&site);
    }
    std::thread::sleep(Duration::from_millis(300));
    let counts = load::check(load);
    assert!(counts.sent > 200, "{counts:?}");
}

#[test]
fn flows_of_a_layout_that_is_not_known_are_not_used_and_connections_go_on() {
    let mut site = Site::new("unknown", Over::Ethernet, &[WEB]);
    site.start();
    let mut connection = site.connect("client", 8080);
    let asked = Asked::new(&site);
    site.kill();
    rename(&site, VERSION, UNKNOWN);
    let load = load::start(&site, 8082, 8081);
    site.start();
    is_whole(&site);
    assert!(site.log().contains("tables of an unknown map ABI start empty: FLOWS"), "{}", site.log());
    assert!(!asked.is_answered(), "a flow of which nothing is known");
    connection.goes_on();
    assert!(site.is_denied("stranger", 8080));
    assert_eq!(load.stop().unwrap().denied_through, 0);

    // A hook that this agent does not know could be neither taken over nor replaced.
    site.kill();
    rename(&site, VERSION, UNKNOWN);
    let links = pins(&site, UNKNOWN).join("links/eth0");
    fs::rename(links.join("tcx-egress"), links.join("netkit-peer")).unwrap();
    let output = site.bulkhead(&["run", "--config", &site.path("agent.toml")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("netkit-peer"), "{said}");
    connection.goes_on();
    assert!(site.is_denied("stranger", 8080), "what was enforced still is");
    fs::rename(links.join("netkit-peer"), links.join("tcx-egress")).unwrap();
    site.start();
    is_whole(&site);
    connection.goes_on();
}

#[test]
fn tables_of_another_size_take_the_flows_along() {
    let mut site = Site::new("size", Over::Ethernet, &[WEB]);
    site.start();
    let mut connection = site.connect("client", 8080);
    let flows = "[flows]\ncapacity = 4096\n[events]\nring_bytes = 65536\naggregates = 128\n";
    for more in [flows, ""] {
        let asked = Asked::new(&site);
        assert!(site.is_denied("stranger", 8080));
        site.kill();
        // Told of by the old ring and aggregates, which nobody reads any more.
        let before = drops(&site.status());
        refused(&site, 2000..2010);
        site.write("agent.toml", &(site.configuration("server", "eth0") + more));
        site.start();
        is_whole(&site);
        assert!(site.log().contains("the new one takes them along"), "{}", site.log());
        assert!(asked.is_answered(), "its flow was taken along");
        connection.goes_on();
        let after = site.wait_for_balance();
        assert!(drops(&after) >= before + 30, "drops while no agent ran are told of: {after}");
        assert!(site.is_denied("stranger", 8080));
        site.done(&["apply"]);
        is_whole(&site);
        connection.goes_on();
    }
}

#[test]
fn a_takeover_that_was_cut_short_is_completed() {
    let mut site = Site::new("cut", Over::Ethernet, &[WEB]);
    site.start();
    let mut connection = site.connect("client", 8080);
    let load = load::start(&site, 8080, 8081);
    let is_taken_over = |site: &mut Site, connection: &mut crate::site::connection::Connection| {
        site.start();
        is_whole(site);
        connection.goes_on();
        assert!(site.is_denied("stranger", 8080));
    };

    // One link here, one still there, and tables in both.
    site.kill();
    downgrade(&site, HASHED);
    let (old, new) = (pins(&site, HASHED), pins(&site, VERSION));
    fs::create_dir_all(new.join("links/eth0")).unwrap();
    fs::create_dir_all(new.join("state")).unwrap();
    fs::rename(old.join("links/eth0/tcx-egress"), new.join("links/eth0/tcx-egress")).unwrap();
    fs::rename(old.join("state/FRAGMENTS"), new.join("state/FRAGMENTS")).unwrap();
    assert_eq!(site.status()["links"].as_array().unwrap().len(), 2);
    is_taken_over(&mut site, &mut connection);

    // Tables whose place is still held by the ones before them.
    site.kill();
    let new = pins(&site, VERSION);
    fs::create_dir_all(new.join("state-7")).unwrap();
    fs::rename(new.join("state/FLOWS"), new.join("state-7/FLOWS")).unwrap();
    is_taken_over(&mut site, &mut connection);

    // Wherever it happens to be.
    let small = site.configuration("server", "eth0") + "[flows]\ncapacity = 4096\n";
    for (round, delay) in (0..).zip([30u64, 60, 90, 120, 150, 180, 220, 260]) {
        site.kill();
        downgrade(&site, if round % 3 == 0 { RECENT } else { HASHED });
        let config = if round % 2 == 0 { small.clone() } else { site.configuration("server", "eth0") };
        site.write("agent.toml", &config);
        site.launch();
        std::thread::sleep(Duration::from_millis(delay));
        site.kill();
        assert!(site.is_denied("stranger", 8080));
        is_taken_over(&mut site, &mut connection);
    }
    load::check(load);
}
