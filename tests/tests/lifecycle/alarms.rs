//! Alarms on real packets: told once, with their end; and nodes that the agent cuts off by itself.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use serde_json::Value;

use crate::site::account::{records, reports};
use crate::site::{Over, Site, WEB};

/// Datagrams of a host to ports that no rule admits.
fn knock(site: &Site, from: &str, ports: std::ops::Range<u16>) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace(from).run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for port in ports {
        socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
    }
}

/// Events of a kind, in their order.
fn events(site: &Site, kind: &str) -> Vec<Value> {
    let all = reports(&site.journal_file());
    all.into_iter().filter(|event| event["kind"] == kind).collect()
}

/// Alarms of a kind that were raised, or ended.
pub fn alarms(site: &Site, alarm: &str, state: &str) -> Vec<Value> {
    let all = events(site, "alarm").into_iter();
    all.filter(|event| event["alarm"] == alarm && event["state"] == state).collect()
}

/// Waits until something holds.
pub fn until(site: &Site, what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + slower(Duration::from_secs(20));
    while !holds() {
        assert!(Instant::now() < deadline, "not so: {what}\n{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_scan_and_a_spike_are_told_once_with_names_and_their_end() {
    let mut site = Site::new("alarms", Over::Ethernet, &[WEB]);
    let text = site.configuration("server", "eth0")
        + "[alarms]\nscan_targets = 25\nscan_seconds = 3\nspike_least = 40\nspike_seconds = 1\n";
    site.write("agent.toml", &text);
    site.start();
    // A single denial, and a retry of it, are nothing to look at.
    for _ in 0..3 {
        knock(&site, "stranger", 9..10);
    }
    std::thread::sleep(slower(Duration::from_secs(4)));
    assert_eq!(events(&site, "alarm"), Vec::<Value>::new());

    knock(&site, "stranger", 1000..1400);
    until(&site, "the scan is told", || !alarms(&site, "scan", "raised").is_empty());
    let status = site.status();
    let active = status["agent"]["alarms"]["active"].as_array().unwrap();
    assert!(active.iter().any(|alarm| alarm["alarm"] == "scan"), "{status}");
    until(&site, "it ends", || !alarms(&site, "scan", "ended").is_empty());
    until(&site, "so does the spike", || !alarms(&site, "failure_spike", "ended").is_empty());
    let (raised, ended) = (alarms(&site, "scan", "raised"), alarms(&site, "scan", "ended"));
    assert_eq!((raised.len(), ended.len()), (1, 1), "{raised:#?}");
    let cause = format!("scan ingress {}", site.address("stranger"));
    assert_eq!((&raised[0]["source"]["name"], &raised[0]["cause"]), (&"stranger".into(), &cause.into()));
    assert!(raised[0]["detail"].as_str().unwrap().starts_with("stranger ("), "{}", raised[0]);
    assert_eq!((&raised[0]["cause"], &raised[0]["since"]), (&ended[0]["cause"], &ended[0]["since"]));
    let spikes = alarms(&site, "failure_spike", "raised");
    assert_eq!(spikes.len(), 1, "{spikes:#?}");
    assert_eq!(
        (&spikes[0]["source"]["name"], &spikes[0]["destination"]["name"]),
        (&"stranger".into(), &"server".into())
    );

    // Told to whoever filters, and as metrics; not again after a kill while it is on.
    let shown = site.bulkhead(&["audit", "show", "--kind", "alarm"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("ALARM scan: stranger ("), "{shown:?}");
    knock(&site, "stranger", 1000..1400);
    until(&site, "a second scan", || alarms(&site, "scan", "raised").len() == 2);
    until(&site, "it is known that it was told", || untold(&site).is_empty());
    site.kill();
    site.start();
    until(&site, "its end, by the next agent", || alarms(&site, "scan", "ended").len() == 2);
    assert_eq!(alarms(&site, "scan", "raised").len(), 2);
}

/// Causes that the agent cannot know to be in its event log.
fn untold(site: &Site) -> Vec<Value> {
    let text = std::fs::read(site.journal_file().with_file_name("alarms.json")).unwrap();
    let remembered: Value = serde_json::from_slice(&text).unwrap();
    remembered["untold"].as_array().unwrap().clone()
}

#[test]
fn an_agent_killed_as_it_tells_of_a_scan_leaves_no_scan_without_its_end() {
    let mut site = Site::new("killedscan", Over::Ethernet, &[WEB]);
    let text = site.configuration("server", "eth0") + "[alarms]\nscan_targets = 25\nscan_seconds = 3\n";
    site.write("agent.toml", &text);
    site.start();
    for round in 1..=3 {
        knock(&site, "stranger", 1000..1100);
        until(&site, "it is told", || alarms(&site, "scan", "raised").len() >= round);
        // Wherever it is with its file.
        site.kill();
        site.start();
        let is_over = || site.status()["agent"]["alarms"]["active"].as_array().unwrap().is_empty();
        until(&site, "nothing is on", is_over);
        until(&site, "its end is told", || {
            let since =
                |state| alarms(&site, "scan", state).into_iter().map(|alarm| alarm["since"].to_string());
            let ended: Vec<_> = since("ended").collect();
            since("raised").all(|raised| ended.contains(&raised))
        });
    }
}

#[test]
fn what_expires_is_told_once_over_restarts() {
    let soon = time::OffsetDateTime::now_utc() + time::Duration::hours(30);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let rule = WEB.replace(r#""name": "web","#, &format!(r#""name": "web", "expires": "{soon}","#));
    let mut site = Site::new("expiry", Over::Ethernet, &[&rule]);
    site.start();
    until(&site, "it is told", || alarms(&site, "expiry", "raised").len() == 1);
    let told = &alarms(&site, "expiry", "raised")[0];
    assert!(
        told["rule"]["name"] == "web" && told["detail"].as_str().unwrap().contains("within 30 hours"),
        "{told}"
    );
    site.kill();
    site.start();
    std::thread::sleep(slower(Duration::from_secs(2)));
    assert_eq!(alarms(&site, "expiry", "raised").len(), 1);
}

/// The levels of what was told of expiry.
fn levels(site: &Site, state: &str) -> Vec<String> {
    let told = alarms(site, "expiry", state).into_iter();
    told.map(|alarm| alarm["level"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_has_expired_is_told_over_kills_until_it_is_renewed() {
    let end = |seconds: i64| {
        let time = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        time.replace_nanosecond(0).unwrap().format(&time::format_description::well_known::Rfc3339).unwrap()
    };
    let rule =
        |end: &str| WEB.replace(r#""name": "web","#, &format!(r#""name": "web", "expires": "{end}","#));
    let mut site = Site::new("expired", Over::Ethernet, &[&rule(&end(25))]);
    site.start();
    until(&site, "it is told", || levels(&site, "raised") == ["critical"]);
    let status = site.status();
    let expiry = &status["agent"]["expiry"];
    assert_eq!(expiry["counts"]["rule"]["critical"], 1, "{expiry}");
    assert_eq!(
        (&expiry["nearest"][0]["name"], &expiry["nearest"][0]["level"]),
        (&"web".into(), &"critical".into())
    );
    until(&site, "the log has it", || untold(&site).is_empty());
    // Its end comes while no agent runs.
    site.kill();
    std::thread::sleep(Duration::from_secs(26));
    site.start();
    until(&site, "it has ended", || levels(&site, "raised") == ["critical", "expired"]);
    assert_eq!(levels(&site, "ended"), ["critical"]);
    let told = &alarms(&site, "expiry", "raised")[1];
    assert!(told["detail"].as_str().unwrap().starts_with("web has expired"), "{told}");
    until(&site, "the log has it", || untold(&site).is_empty());
    site.kill();
    site.start();
    std::thread::sleep(slower(Duration::from_secs(2)));
    assert_eq!(
        (levels(&site, "raised").len(), levels(&site, "ended").len()),
        (2, 1),
        "a restart tells nothing again"
    );
    // Renewed.
    let policy = std::fs::read_to_string(site.path("policy.hujson")).unwrap();
    let (before, rest) = policy.split_once("\"expires\": \"").unwrap();
    let renewed = format!("{before}\"expires\": \"{}{}", end(90 * 86_400), &rest[20..]);
    site.write("policy.hujson", &renewed);
    site.done(&["apply"]);
    until(&site, "it is renewed", || levels(&site, "ended") == ["critical", "expired"]);
    assert_eq!(site.status()["agent"]["expiry"]["counts"]["rule"]["ok"], 1);
}

/// A site on the tunnel whose agent cuts off whoever is denied 20 times.
fn responding(label: &str, more: &str) -> Site {
    let site = Site::with_hosts(label, Over::Tunnel, &[WEB], &["other"]);
    let nodes = ["server", "client", "stranger", "other"].map(|name| {
        let address = site.address(name);
        format!(r#"{{"name": "{name}", "addresses": ["{address}"], "tags": ["tag:{name}"]}}"#)
    });
    site.write("inventory.json", &format!(r#"{{"nodes": [{}]}}"#, nodes.join(",")));
    let text = site.configuration("server", site.interface())
        + "[alarms.quarantine]\nenabled = true\ninterfaces = [\"wg0\"]\ndenials = 20\nseconds = 10\nminutes = 1\n"
        + more;
    site.write("agent.toml", &text);
    site
}

fn quarantined(site: &Site) -> Vec<Value> {
    let list = site.bulkhead(&["quarantine", "--json"]);
    serde_json::from_slice(&list.stdout).unwrap_or_else(|error| panic!("{error}: {list:?}"))
}

#[test]
fn a_node_that_is_denied_again_and_again_is_cut_off_for_a_time_and_no_more_than_some() {
    let mut site = responding("respond", "at_once = 1\n");
    site.start();
    let mut connection = site.connect("client", 8080);
    knock(&site, "stranger", 1000..1010);
    std::thread::sleep(slower(Duration::from_millis(2500)));
    assert_eq!(quarantined(&site), Vec::<Value>::new(), "few denials are no reason");
    std::thread::sleep(Duration::from_secs(10));

    // Over the bound nobody more.
    knock(&site, "client", 2000..2060);
    until(&site, "it is cut off", || quarantined(&site).len() == 1);
    connection.is_cut();
    let list = quarantined(&site);
    assert_eq!((&list[0]["node"], &list[0]["automatic"]), (&"client".into(), &true.into()));
    let shown = site.bulkhead(&["quarantine"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("client (") && shown.contains("by the agent itself"), "{shown}");
    let by_agent = |event: &Value| event["action"] == "quarantine" && event["by"]["via"] == "agent";
    let control = events(&site, "control").into_iter().find(by_agent).unwrap();
    assert!(
        control["subject"] == "client" && control["detail"].as_str().unwrap().contains("denied"),
        "{control}"
    );
    knock(&site, "stranger", 3000..3060);
    until(&site, "the second is withheld", || !alarms(&site, "quarantine_withheld", "raised").is_empty());
    assert_eq!(quarantined(&site).len(), 1);

    // It ends by time, over a kill as well.
    site.kill();
    site.start();
    assert_eq!(quarantined(&site).len(), 1);
    let deadline = Instant::now() + slower(Duration::from_secs(90));
    while !quarantined(&site).is_empty() {
        assert!(Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(site.connects("client", 8080));
    let is_release = |event: &Value| event["action"] == "release" && event["by"]["via"] == "agent";
    assert!(events(&site, "control").iter().any(is_release));

    // The review pack says whom it cut off, until when, why, and whom not.
    site.signal(libc::SIGTERM);
    assert!(site.has_ended(), "{}", site.log());
    let pack = site.bulkhead(&["review", "--since", "1d", "--json"]);
    let pack: Value =
        serde_json::from_slice(&pack.stdout).unwrap_or_else(|error| panic!("{error}: {pack:?}"));
    let number = |is: &dyn Fn(&Value) -> bool| {
        let numbered = (0u64..).zip(records(&site.journal_file()));
        numbered.into_iter().find(|(_, record)| is(&record["event"])).map(|(number, _)| Value::from(number))
    };
    let cut = &pack["alarms"]["quarantines"][0];
    assert_eq!(pack["alarms"]["quarantines"].as_array().unwrap().len(), 1, "{pack}");
    assert_eq!((&cut["node"], Some(&cut["record"])), (&"client".into(), number(&by_agent).as_ref()));
    assert_eq!(
        (&cut["detail"], Some(&cut["ended"]["record"])),
        (&control["detail"], number(&is_release).as_ref())
    );
    let causes = pack["alarms"]["causes"].as_array().unwrap();
    assert!(causes.iter().any(|of| of["cause"] == "quarantine_withheld stranger"), "{pack}");
}

#[test]
fn who_manages_the_host_is_never_cut_off_nor_whoever_nobody_has_proven() {
    let mut site = responding("manage", "");
    let client = site.address("client");
    let text = std::fs::read_to_string(site.path("agent.toml")).unwrap();
    let exempt = format!("[[management]]\nfrom = [\"{client}\"]\nports = [22]\n");
    site.write("agent.toml", &(text + &exempt));
    site.start();
    knock(&site, "client", 2000..2100);
    until(&site, "it is withheld", || !alarms(&site, "quarantine_withheld", "raised").is_empty());
    let told = &alarms(&site, "quarantine_withheld", "raised")[0];
    assert!(told["detail"].as_str().unwrap().contains("[[management]] has"), "{told}");
    assert_eq!(quarantined(&site), Vec::<Value>::new());
    // Nobody's address on the tunnel, and whoever writes a node's address without being it: the tunnel refuses it.
    let server = site.address("server");
    site.namespace("stranger").ip(&format!("addr add {client}/32 dev lo")).unwrap();
    let spoof =
        site.namespace("stranger").run(|| UdpSocket::bind(SocketAddr::new(client, 0))).unwrap().unwrap();
    for port in 4000..4100 {
        spoof.send_to(b"?", SocketAddr::new(server, port)).unwrap();
    }
    std::thread::sleep(slower(Duration::from_secs(3)));
    assert_eq!(alarms(&site, "quarantine_withheld", "raised").len(), 1);
    assert_eq!(quarantined(&site), Vec::<Value>::new());

    // On Ethernet an address proves nothing: named there, nothing counts.
    let mut site = Site::new("proofless", Over::Ethernet, &[WEB]);
    let text = site.configuration("server", "eth0")
        + "[alarms.quarantine]\nenabled = true\ninterfaces = [\"eth0\"]\ndenials = 20\n";
    site.write("agent.toml", &text);
    site.start();
    knock(&site, "client", 2000..2100);
    until(&site, "the scan is told", || !alarms(&site, "scan", "raised").is_empty());
    std::thread::sleep(slower(Duration::from_secs(2)));
    assert_eq!(quarantined(&site), Vec::<Value>::new());
}
