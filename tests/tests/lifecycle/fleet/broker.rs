//! A host that follows a fleet over NATS: commands, servers and the agent as they ship.

use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use bulkhead_testkit::nats::{Cluster, Plan};

use super::kit::{ALICE, BOB};
use super::{Followed, enforced, noted, policy};
use crate::site::{OTHER, WEB};

/// A site whose agent follows by a server of NATS in its own network.
struct OverNats {
    followed: Followed,
    cluster: Cluster,
    account: String,
}

impl OverNats {
    fn new(label: &str) -> Self {
        let followed = Followed::begun(label, "", "directory = \"served\"\n");
        let site = &followed.site;
        let account = site.path("account");
        site.done(&["fleet", "account", &account]);
        site.done(&[
            "fleet",
            "credentials",
            "server",
            "--account",
            &account,
            "-o",
            &site.path("fleet.creds"),
        ]);
        let include = std::fs::read_to_string(format!("{account}/nats-server.conf")).unwrap();
        let plan = Plan { is_tls: true, include: Some(include), ..Plan::open(1) };
        let cluster = Cluster::start(plan, Some(site.namespace("server"))).unwrap();
        let file = site.path("agent.toml");
        let servers = format!(
            "servers = [\"{}\"]\ncredentials = \"fleet.creds\"\nca = \"{}\"\n",
            cluster.urls()[0],
            cluster.ca().unwrap().display()
        );
        let text = std::fs::read_to_string(&file).unwrap();
        // It is told of news: how often it looks besides says nothing about how soon it has them.
        let text = text
            .replace("directory = \"served\"\n", &servers)
            .replace("every_seconds = 1\n", "every_seconds = 600\n");
        site.write("agent.toml", &text);
        Self { followed, cluster, account }
    }

    fn push(&self) {
        let ca = self.cluster.ca().unwrap();
        let fleet = self.followed.fleet.path();
        self.followed.site.done(&[
            "fleet",
            "push",
            fleet.to_str().unwrap(),
            "--server",
            &self.cluster.urls()[0],
            "--ca",
            ca.to_str().unwrap(),
            "--account",
            &self.account,
            "--copies",
            "1",
        ]);
    }
}

#[test]
fn a_signed_change_over_nats_stops_packets_within_seconds() {
    let mut over = OverNats::new("fleet-nats");
    over.push();
    over.followed.site.start();
    over.followed.takes("policy 1, inventory 1");
    assert!(over.followed.site.connects("client", 8080) && over.followed.site.is_denied("client", 8081));
    let mut times = Vec::new();
    for round in 0..3 {
        let (open, acls) = if round % 2 == 0 { (8080, [OTHER]) } else { (8081, [WEB]) };
        let mut connection = over.followed.site.connect("client", open);
        over.followed.fleet.put(&policy(&acls), &[ALICE, BOB]);
        let (begun, last) = std::thread::scope(|scope| {
            let last = scope.spawn(move || connection.last_arrival());
            let begun = Instant::now();
            over.push();
            (begun, last.join().unwrap())
        });
        times.push(last.saturating_duration_since(begun));
        over.followed.takes(&format!("policy {}, inventory 1", round + 2));
    }
    println!("`fleet push` begun to last packet that passes: {times:?}");
    assert!(times.iter().all(|time| *time < slower(Duration::from_secs(5))), "{times:?}");
}

#[test]
fn a_signed_quarantine_over_nats_stops_packets_within_seconds_and_its_release_lets_them_pass() {
    let mut over = OverNats::new("fleet-nats-cut");
    noted::keys(&over.followed.site);
    over.followed.fleet.put(&noted::policy(&over.followed.site, WEB), &[ALICE, BOB]);
    over.push();
    over.followed.site.start();
    over.followed.takes("policy 2, inventory 1");
    let place = over.followed.fleet.path().to_str().unwrap().to_owned();
    let post = |over: &OverNats, command: &str| {
        let file = over.followed.site.path(&format!("{command}.note"));
        let why = ["--fleet", &place, "--ticket", "SEC-1", "--reason", "seen scanning", "-o", &file];
        over.followed.site.done(&[&["fleet", command, "client"], &why[..]].concat());
        for name in ["bob", "carol"] {
            let key = over.followed.site.path(name);
            over.followed.site.done(&["approve", &file, "--yes", "--as", name, "--key", &key]);
        }
        over.followed.site.done(&["fleet", "post", &file, "--fleet", &place]);
    };
    let mut connection = over.followed.site.connect("client", 8080);
    post(&over, "quarantine");
    let (begun, last) = std::thread::scope(|scope| {
        let last = scope.spawn(move || connection.last_arrival());
        let begun = Instant::now();
        over.push();
        (begun, last.join().unwrap())
    });
    let time = last.saturating_duration_since(begun);
    println!("`fleet push` begun to last packet that passes: {time:?}");
    assert!(time < slower(Duration::from_secs(5)), "{time:?}");
    post(&over, "release");
    over.push();
    over.followed.site.wait_for("it is lifted", |status| status["quarantined"] == serde_json::json!([]));
    assert!(over.followed.site.connects("client", 8080));
}

#[test]
fn what_is_enforced_stays_while_the_broker_is_gone_and_follows_once_it_is_back() {
    let mut over = OverNats::new("fleet-nats-gone");
    over.push();
    over.followed.site.start();
    over.followed.takes("policy 1, inventory 1");
    over.cluster.kill(0);
    over.followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    std::thread::sleep(Duration::from_secs(3));
    assert!(over.followed.site.connects("client", 8080) && over.followed.site.is_denied("client", 8081));
    assert_eq!(enforced(&over.followed.site.status()).as_deref(), Some("policy 1, inventory 1"));
    over.cluster.restart_all().unwrap();
    over.push();
    let back = Instant::now();
    over.followed.takes("policy 2, inventory 1");
    assert!(back.elapsed() < slower(Duration::from_secs(30)), "{:?}", back.elapsed());
    assert!(over.followed.site.connects("client", 8081) && over.followed.site.is_denied("client", 8080));
}
