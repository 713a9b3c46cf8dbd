//! The review pack of a site where something of everything has happened: the JSON has exactly this, and the page says it.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use bulkhead_testkit::measure::bpf;
use serde_json::Value;

use crate::site::account::{records, reports};
use crate::site::{Over, Site};

/// The client uses one port of it.
const WIDE: &str = r#"{"name": "wide", "action": "accept", "src": ["tag:client"], "proto": "tcp", "dst": ["tag:server:8000-9000"],
    "owner": "shop <b>team</b>", "ticket": "SHOP-1", "reason": "checkout", "reviewBy": "2099-12-31"}"#;
/// Used as it is written.
const USED: &str = r#"{"name": "used", "action": "accept", "src": ["tag:stranger"], "proto": "tcp", "dst": ["tag:server:8081"]}"#;
/// Nobody uses it, and nobody has looked at it for years.
const OVERDUE: &str = r#"{"name": "overdue", "action": "accept", "src": ["tag:stranger"], "dst": ["tag:server:22"],
    "owner": "db team", "reviewBy": "2021-06-30"}"#;
/// Comes later.
const ADDED: &str = r#"{"name": "added", "action": "accept", "src": ["tag:client"], "proto": "tcp", "dst": ["tag:server:7000"]}"#;

/// Waits until the log has so many records of a kind.
fn wait_for(site: &Site, kind: &str, enough: usize) {
    let began = Instant::now();
    while reports(&site.journal_file()).iter().filter(|report| report["kind"] == kind).count() < enough {
        assert!(began.elapsed() < slower(Duration::from_secs(60)), "not {enough} of {kind}: {}", site.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn count(site: &Site, kind: &str) -> usize {
    reports(&site.journal_file()).iter().filter(|report| report["kind"] == kind).count()
}

fn names(pack: &Value, is: impl Fn(&Value) -> bool) -> Vec<&str> {
    let rules = pack["rules"]["rules"].as_array().unwrap().iter();
    rules.filter(|rule| is(rule)).map(|rule| rule["name"].as_str().unwrap()).collect()
}

#[test]
fn the_pack_has_what_happened_and_the_page_says_it() {
    let mut site = Site::new("review", Over::Ethernet, &[WIDE, USED, OVERDUE]);
    let config = site.configuration("server", site.interface());
    site.write(
        "agent.toml",
        &format!(
            "{config}[events]\nattest_seconds = 1\n[history]\nflows_seconds = 1\n[alarms]\nscan_seconds = 3\n"
        ),
    );
    site.start();
    let (mut client, mut stranger) = (site.connect("client", 8080), site.connect("stranger", 8081));
    client.goes_on();
    stranger.goes_on();
    wait_for(&site, "coverage", 1);
    // Rules are noted by then.
    std::thread::sleep(Duration::from_secs(1));
    let noted = Instant::now();
    std::thread::sleep(Duration::from_millis(1500));
    client.goes_on();
    stranger.goes_on();

    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for _ in 0..7 {
        socket.send_to(b"?", SocketAddr::new(site.address("server"), 4444)).unwrap();
    }
    wait_for(&site, "drop", 1);
    // A scan, with its end.
    for port in 1000..1100 {
        socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
    }
    wait_for(&site, "alarm", 2);
    let link = site.link("eth0", "tcx-ingress");
    bpf::detach(&if link.exists() { link } else { site.link("eth0", "xdp-native") }).unwrap();
    wait_for(&site, "unenforced", 1);
    site.write_policy(&[WIDE, USED, OVERDUE, ADDED]);
    site.done(&["apply"]);
    let (coverage, balance) = (count(&site, "coverage"), count(&site, "balance"));
    wait_for(&site, "coverage", coverage + 1);
    wait_for(&site, "balance", balance + 2);
    site.signal(libc::SIGTERM);
    assert!(site.has_ended(), "{}", site.log());

    // Of a time in which all rules but the added one were known.
    let since = format!("{}s", noted.elapsed().as_secs());
    let json = site.path("pack.json");
    site.done(&["review", "--since", &since, "--json", "--output", &json]);
    let pack: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let standing = |of: &str| names(&pack, |rule| rule["standing"] == of);
    assert_eq!((standing("wider"), standing("unused")), (vec!["wide"], vec!["overdue"]), "{pack}");
    assert_eq!((standing("as_used"), standing("not_known")), (vec!["used"], vec!["added"]), "{pack}");
    assert_eq!(names(&pack, |rule| rule["is_overdue"] == true), ["overdue"]);
    let wide = &pack["rules"]["rules"][0];
    assert!(wide["narrower"].as_str().unwrap().contains("tag:server:8080\""), "{wide}");
    assert!(wide["used"]["looks"].as_u64().unwrap() >= 2, "{wide}");

    // Drops: all that the log tells of, and no more than the kernel counted.
    let told = |report: &Value| report["count"].as_u64().unwrap_or(0);
    let all: u64 = reports(&site.journal_file()).iter().filter(|of| of["kind"] == "drop").map(told).sum();
    let drops = pack["drops"]["reasons"].as_array().unwrap();
    let sum: u64 = drops.iter().map(|of| of["dropped"].as_u64().unwrap()).sum();
    assert!((7..=all).contains(&sum), "{sum} of {all}: {pack}");
    assert_eq!(
        (&pack["losses"]["lost"], &pack["losses"]["open"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    assert_eq!(pack["losses"]["dropped"], pack["losses"]["told"], "{pack}");

    let times = pack["unenforced"]["times"].as_array().unwrap();
    assert_eq!((times.len(), &times[0]["interface"]), (1, &"eth0".into()), "{pack}");
    let shares = &pack["coverage"]["shares"];
    let share = |name: &str| shares[name].as_u64().unwrap();
    assert!(share("enforced") > 0 && share("unenforced") > 0 && share("audit") == 0, "{shares}");
    let made: u64 = ["enforced", "audit", "unenforced", "unknown"].into_iter().map(share).sum();
    assert!(made.abs_diff(noted.elapsed().as_nanos() as u64) < 5_000_000_000, "{made}");

    let changes = pack["changes"]["changes"].as_array().unwrap();
    let apply: Vec<&Value> = changes.iter().filter(|change| change["action"] == "apply").collect();
    assert_eq!((apply.len(), &apply[0]["by"]["uid"]), (1, &0.into()), "{pack}");
    let difference = apply[0]["difference"]["lines"].as_array().unwrap();
    assert!(difference.len() == 1 && difference[0].as_str().unwrap().contains("tcp:7000"), "{apply:?}");

    // The alarm, by the records that the log has of it.
    let alarms: Vec<(u64, Value)> = (0..)
        .zip(records(&site.journal_file()))
        .filter(|(_, record)| record["event"]["kind"] == "alarm")
        .map(|(number, record)| (number, record["event"].clone()))
        .collect();
    let causes = pack["alarms"]["causes"].as_array().unwrap();
    assert_eq!((alarms.len(), causes.len()), (2, 1), "{alarms:?}: {pack}");
    let (scan, time) = (&causes[0], &causes[0]["times"][0]);
    assert_eq!((&scan["alarm"], &scan["raised"]), (&"scan".into(), &1.into()), "{scan}");
    let who = format!("stranger ({})", site.address("stranger"));
    assert_eq!((&scan["source"], &scan["cause"]), (&who.clone().into(), &alarms[0].1["cause"]));
    assert_eq!((&time["record"], &time["since"]), (&alarms[0].0.into(), &alarms[0].1["since"]));
    assert_eq!((&time["ended"]["record"], &alarms[1].1["state"]), (&alarms[1].0.into(), &"ended".into()));
    assert_eq!(pack["alarms"]["quarantines"], serde_json::json!([]));

    let matrix = &pack["conversations"];
    let of = |cell: &&Value| matrix["sources"][cell["source"].as_u64().unwrap() as usize] == "client";
    let cells = matrix["cells"].as_array().unwrap();
    let cell = cells.iter().find(of).unwrap();
    assert!(cell["admitted"].as_u64().unwrap() >= 2 && cell["ports"][0] == "8080/tcp", "{matrix}");

    // What it was made at is what the log says.
    let log = &pack["head"]["log"];
    let verified = site.bulkhead(&["audit", "verify", "--json"]);
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(
        (&log["size"], &log["root"]),
        (&verified["checkpoint"]["size"], &verified["checkpoint"]["root"])
    );
    assert_eq!((&log["faults"], log["signed_by"].as_array().unwrap().len()), (&serde_json::json!([]), 1));
    assert_eq!(pack["head"]["enforced"]["policy"], pack["head"]["policy"]["sha256"]);

    let page = site.path("pack.html");
    site.done(&["review", "--since", &since, "--output", &page]);
    let html = std::fs::read_to_string(&page).unwrap();
    for words in [
        "wider than its use",
        "overdue",
        "shop &lt;b&gt;team&lt;/b&gt;",
        "SHOP-1",
        "tcp:7000",
        "1 alarm raised",
        who.as_str(),
        "Nobody.",
        "Source: event log",
    ] {
        assert!(html.contains(words), "{words}");
    }
    assert!(html.contains(log["root"].as_str().unwrap()) && !html.contains("<script"));
    // A pack that was signed is not written over.
    let output = site.bulkhead(&["review", "--output", &page]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
