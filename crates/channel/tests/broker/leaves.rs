//! Servers of sites: leaf nodes, which hosts connect to.

use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_channel::{
    Appended, Channel, Client, EVENTS, FILES, Settings, State, Upstream, append, digest, push, tell_servers,
};
use bulkhead_fleet::{Origin, Repository};
use bulkhead_http::Tls;
use bulkhead_testkit::nats::{Cluster, Place, Plan};
use bytes::Bytes;

use crate::answers::states;
use crate::enrolments::{enrol_patiently, enroller, invitation};
use crate::fleet::{Fleet, inventory, policy};
use crate::outages::large;
use crate::raw::Raw;
use crate::site::{SOON, Site};

/// The directory of a site's server.
fn made(site: &Site, name: &str) -> std::path::PathBuf {
    let directory = site.directory.path().join(name);
    let ca = site.cluster.ca().map(|ca| ca.display().to_string());
    let upstream = Upstream { servers: &site.cluster.leaf_urls(), ca: ca.as_deref() };
    site.account().leaf(name, upstream, &directory).unwrap();
    directory
}

/// The server of a site.
fn leaf(site: &Site, name: &str) -> Cluster {
    let directory = made(site, name);
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap();
    let here = format!("\"{}/leaf", directory.display());
    // What it has missed it asks for each second, as a test has no time.
    let include = read("nats-server.conf").replace("interval: \"10s\"", "interval: \"1s\"")
        + &read("leaf.conf").replace("\"./leaf", &here);
    let plan = Plan { is_tls: true, include: Some(include), place: Place::Site, ..Plan::open(1) };
    Cluster::start(plan, None).unwrap()
}

/// Settings of a host behind it.
fn behind(site: &Site, leaf: &Cluster, node: &str) -> Settings {
    let tls = Tls { ca: leaf.ca(), identity: None };
    Settings { servers: leaf.urls(), tls, ..site.agent_settings(node) }
}

async fn connected(settings: Settings) -> Client {
    let client = Client::new(settings).unwrap();
    client.connected(SOON).await.unwrap();
    client
}

/// Asks until it is answered: a connection between servers may be new.
async fn patiently(channel: &Channel, path: &str) -> Vec<u8> {
    let until = Instant::now() + SOON;
    loop {
        match channel.file(path, 4 << 20).await {
            Ok(Some(bytes)) => return bytes,
            other => assert!(Instant::now() < until, "{path}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Has the servers refuse a key, by those that are not the site's.
async fn revoke(site: &Site, key: &str) {
    let jwt = site.account().revoke(&[key.to_owned()]).unwrap();
    tell_servers(&site.service("system").await, &jwt).await.unwrap();
}

/// Messages that went to servers of sites for their hosts.
fn sent_to_sites(site: &Site) -> u64 {
    let seed = std::fs::read_to_string(site.directory.path().join("account/leaf.nk")).unwrap();
    let account = nkeys::KeyPair::from_seed(seed.trim()).unwrap().public_key();
    let of = |server| {
        let all: serde_json::Value =
            serde_json::from_str(&site.cluster.get(server, "/leafz").unwrap()).unwrap();
        let leaves = all["leafs"].as_array().cloned().unwrap_or_default();
        leaves
            .iter()
            .filter(|leaf| leaf["account"] == *account)
            .map(|leaf| leaf["out_msgs"].as_u64().unwrap())
            .sum::<u64>()
    };
    (0..3).map(of).sum()
}

fn key(file: &Path) -> String {
    bulkhead_channel::Credentials::read(file).unwrap().key()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_behind_a_leaf_node_have_all_that_others_have() {
    let site = Site::hub(3, true).await;
    let fleet = Fleet::new(&large(0), &inventory(3, "tag:oms"));
    let publisher = site.service("publisher").await;
    push(&publisher, fleet.path()).await.unwrap();
    let mut london = leaf(&site, "london");
    let tokyo = leaf(&site, "tokyo");

    // What is published reaches them, and what is asked for is answered, also in parts.
    let channels = [&london, &tokyo].map(|of| Channel::new(behind(&site, of, "oms-1")).unwrap());
    let timestamp = "policy/metadata/timestamp.json";
    for channel in &channels {
        patiently(channel, timestamp).await;
        channel.changed().await;
    }
    for round in 1..=2 {
        fleet.publish(Some(&large(round)), None);
        let begun = Instant::now();
        push(&publisher, fleet.path()).await.unwrap();
        let wanted = digest(fleet.bundle(Repository::Policy).as_bytes());
        for channel in &channels {
            tokio::time::timeout(SOON, channel.changed()).await.unwrap();
            let news = begun.elapsed();
            let bundle = patiently(channel, &Repository::Policy.bundle(&wanted)).await;
            assert_eq!(digest(&bundle), wanted);
            println!(
                "round {round} behind a leaf node: news after {news:?}, whole after {:?}",
                begun.elapsed()
            );
        }
    }
    assert!(
        channels.iter().all(|channel| channel.counts().heads == 1),
        "one request each; the rest was news"
    );

    // However many there are, the way between the servers carries a change once.
    let many: Vec<Channel> = (0..20)
        .map(|number| Channel::new(behind(&site, &tokyo, &format!("many-{number}"))).unwrap())
        .collect();
    for channel in &many {
        patiently(channel, timestamp).await;
        channel.changed().await;
    }
    let before = sent_to_sites(&site);
    fleet.publish(None, Some(&inventory(4, "tag:oms")));
    push(&publisher, fleet.path()).await.unwrap();
    for channel in &many {
        tokio::time::timeout(SOON, channel.changed()).await.unwrap();
    }
    let sent = sent_to_sites(&site) - before;
    println!("a change to {} hosts behind two leaf nodes: {sent} messages to these", many.len() + 2);
    assert_eq!(sent, 2);

    // Evidence is stored once.
    let agent = connected(behind(&site, &london, "oms-1")).await;
    for number in 1..=20 {
        let batch = Bytes::from(format!("batch {number}"));
        assert_eq!(
            append(&agent, "oms-1", number - 1, batch.clone()).await.unwrap(),
            Appended::Stored(number)
        );
        assert_eq!(append(&agent, "oms-1", number - 1, batch).await.unwrap(), Appended::Already(number));
    }
    assert_eq!(states(&site.service("streams").await).await[1], (20, 20));

    // They enrol.
    let (list, task) = enroller(&site).await;
    let mut one = invitation(&site, "oms-9", 600);
    one.servers = london.urls();
    one.ca = Some(std::fs::read_to_string(london.ca().unwrap()).unwrap());
    let directory = crate::fleet::below(site.directory.path(), "oms-9");
    enrol_patiently(&one, &directory).await;
    assert!(!list.is_empty());
    let own = directory.join("fleet.creds");
    let enrolled = Settings { credentials: Some(own.clone()), ..behind(&site, &london, "unused") };
    let agent = connected(enrolled.clone()).await;
    assert_eq!(append(&agent, "oms-9", 0, Bytes::from_static(b"e")).await.unwrap(), Appended::Stored(21));

    // Removed, they are cut off, where nobody but the other servers was told.
    let (mut state, begun) = (agent.state(), Instant::now());
    revoke(&site, &key(&own)).await;
    let is_out = state.wait_for(|state| matches!(state, State::Disconnected(_)));
    tokio::time::timeout(SOON, is_out).await.unwrap().unwrap();
    println!("removal to disconnection behind a leaf node: {:?}", begun.elapsed());
    assert!(Client::new(enrolled).unwrap().connected(Duration::from_secs(2)).await.is_err());

    // Also if the site's server was away meanwhile.
    let second = behind(&site, &london, "oms-2");
    london.kill(0);
    revoke(&site, &key(second.credentials.as_deref().unwrap())).await;
    london.restart_all().unwrap();
    let begun = Instant::now();
    loop {
        let refused = Client::new(second.clone()).unwrap().connected(Duration::from_secs(2)).await;
        if refused.is_err_and(|error| error.to_string().contains("does not accept")) {
            break;
        }
        assert!(begun.elapsed() < SOON, "a revocation that was missed arrives");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("a revocation that a leaf node has missed: refused {:?} after its start", begun.elapsed());

    // A site's server is taken back itself, and no other.
    let mut hosts = channels.iter().map(|channel| channel.client().clone());
    let (gone, stays) = (hosts.next().unwrap(), hosts.next().unwrap());
    gone.connected(SOON).await.unwrap();
    let system = site.service("system").await;
    for jwt in site.account().revoke_leaf("london").unwrap().unwrap() {
        tell_servers(&system, &jwt).await.unwrap();
    }
    assert!(site.account().revoke_leaf("unheard-of").unwrap().is_none());
    let ask = format!("$JS.API.DIRECT.GET.{FILES}.fleet.files.head");
    let until = Instant::now() + SOON;
    while gone.request(&ask, &[], Bytes::new()).await.is_ok() {
        assert!(Instant::now() < until, "a site's server that was taken back goes on");
    }
    stays.request(&ask, &[], Bytes::new()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    gone.request(&ask, &[], Bytes::new()).await.unwrap_err();
    task.abort();
}

/// A site's server that somebody else has taken over does what any of its hosts may do, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_node_that_means_harm_reaches_what_hosts_reach() {
    let site = Site::hub(1, false).await;
    let fleet = Fleet::new(&policy(0), &inventory(3, "tag:oms"));
    push(&site.service("publisher").await, fleet.path()).await.unwrap();
    let agent = site.agent("oms-1").await;
    append(&agent, "oms-1", 0, Bytes::from_static(b"e")).await.unwrap();
    let (_, task) = enroller(&site).await;
    let directory = made(&site, "evil");
    // Its own accounts, and all that its clients say goes over these credentials.
    let server = |file: &str| {
        let urls = site.cluster.leaf_urls().join(", ");
        let credentials = directory.join(file).display().to_string();
        let include =
            format!("leafnodes {{ remotes: [{{ urls: [\"{urls}\"], credentials: \"{credentials}\" }}] }}\n");
        let plan = Plan { include: Some(include), place: Place::Site, ..Plan::open(1) };
        Cluster::start(plan, None).unwrap()
    };
    let maker = site.service("streams").await;
    let claims = site.account().revoke(&[]).unwrap();
    for file in ["leaf.creds", "leaf-system.creds"] {
        let before = states(&maker).await;
        let evil = server(file);
        let mut raw = Raw::open(&evil.urls()[0]);
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let files = format!("$JS.API.DIRECT.GET.{FILES}.fleet.files.head");
        let targets = [
            "fleet.files.head".to_owned(),
            "fleet.head".to_owned(),
            "enrolled.node.oms-1".to_owned(),
            format!("$JS.API.STREAM.DELETE.{EVENTS}"),
            format!("$JS.API.STREAM.PURGE.{FILES}"),
            format!("fleet.api.PURGE.{FILES}"),
            "$SYS.REQ.CLAIMS.UPDATE".to_owned(),
            "$SYS.REQ.CLAIMS.DELETE".to_owned(),
            "ev.oms-1".to_owned(),
        ];
        for target in &targets {
            if !target.starts_with("ev.") {
                raw.publish(target, "nowhere", b"");
                raw.publish(target, "nowhere", claims.as_bytes());
            }
            // Nor by where an answer goes.
            for asked in [&*files, "enrol.x", "$SYS.REQ.CLAIMS.PACK"] {
                raw.publish(asked, target, b"");
            }
            raw.publish_with("Nats-Expected-Last-Subject-Sequence: 7777", "ev.oms-1", target, b"x");
        }
        raw.settle();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(before, states(&maker).await, "{file}");
        // It is connected: what a host may say, it may.
        let stored = states(&maker).await[1].0;
        raw.publish("ev.oms-7", "nowhere", b"x");
        raw.settle();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let grown = u64::from(file == "leaf.creds");
        assert_eq!(states(&maker).await[1].0, stored + grown, "{file}");
        // And nobody comes with these as a client.
        let as_client = Client::new(site.settings(Some(directory.join(file)), "")).unwrap();
        assert!(as_client.connected(Duration::from_secs(2)).await.is_err());
        if file == "leaf.creds" {
            append(&agent, "oms-1", 1, Bytes::from_static(b"f")).await.unwrap();
        }
    }
    task.abort();
}
