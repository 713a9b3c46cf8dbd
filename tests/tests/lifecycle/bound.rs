//! Identities are who their keys are: an address that another key routes is nobody's, and a change of keys loses
//! nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Address, UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, INTERFACE, Keys, Process, WIREGUARD_PORT, slower};
use serde_json::Value;

use crate::alarms::until;
use crate::site::account::reports;
use crate::site::{OTHER, Over, Site, WEB};

/// What must hold within this time of a change.
const WITHIN: Duration = Duration::from_secs(1);

/// A site on the tunnel whose inventory has every host's key.
fn site(label: &str, acls: &[&str], more: &str) -> Site {
    let site = Site::new(label, Over::Tunnel, acls);
    write_inventory(&site, &[]);
    site.write("agent.toml", &(site.configuration("server", site.interface()) + more));
    site
}

/// Everybody with his key; the client with these as well.
fn write_inventory(site: &Site, more: &[&str]) {
    let nodes = ["server", "client", "stranger"].map(|name| {
        let (key, address) = (key(site, name), site.address(name));
        let keys = if name == "client" { more } else { &[] };
        format!(
            r#"{{"name": "{name}", "key": "{key}", "keys": {keys:?}, "addresses": ["{address}"], "tags": ["tag:{name}"]}}"#
        )
    });
    site.write("inventory.json", &format!(r#"{{"nodes": [{}]}}"#, nodes.join(",")));
}

fn key(site: &Site, name: &str) -> String {
    site.lab.host(name).unwrap().keys.public.clone()
}

/// Has the server's tunnel route an address to a key, as an operator would by hand.
fn give(site: &Site, address: &str, key: &str) {
    let server = site.namespace("server");
    if std::env::var("BULKHEAD_WIREGUARD").is_ok_and(|value| value == "kernel") {
        let wg = format!("netns exec {} wg", server.name());
        let all = lab::ip(&format!("{wg} show {INTERFACE} allowed-ips")).unwrap();
        let known = all.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let known = known.split_whitespace().filter(|prefix| prefix.contains('/'));
        let allowed: Vec<_> = known.chain([address]).collect();
        lab::ip(&format!("{wg} set {INTERFACE} peer {key} allowed-ips {}", allowed.join(","))).unwrap();
        return;
    }
    let hex = lab::digits(key).unwrap();
    let answer = server.run(|| {
        let name = Address::from_abstract_name(format!("bulkhead-tunnel/{INTERFACE}")).unwrap();
        let mut stream = UnixStream::connect_addr(&name).unwrap();
        let request = format!("set=1\npublic_key={hex}\nupdate_only=true\nallowed_ip={address}/32\n\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert_eq!(answer.unwrap(), "errno=0\n\n");
}

/// Datagrams from one host to another.
struct Datagrams {
    at: SocketAddr,
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl Datagrams {
    fn between(site: &Site, (from, source): (&str, &str), to: &str) -> Self {
        let at = SocketAddr::new(site.address(to), 8080);
        let receiver = site.namespace(to).run(|| UdpSocket::bind(at).unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let any = SocketAddr::new(source.parse().unwrap(), 0);
        let sender = site.namespace(from).run(|| UdpSocket::bind(any).unwrap()).unwrap();
        Self { at, sender, receiver }
    }

    /// One every 2 ms while something is done, each with its number: the numbers that were heard, each with the
    /// time; and how many were sent.
    fn during<T>(&self, work: impl FnOnce() -> T) -> (Vec<(u64, Instant)>, u64, T) {
        let Self { at, sender, receiver } = self;
        let (is_over, is_deaf) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut number = 0u64;
                while !is_over.load(Ordering::Relaxed) {
                    sender.send_to(&number.to_be_bytes(), at).unwrap();
                    number += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
                number
            });
            let hearing = scope.spawn(|| {
                let (mut heard, mut bytes) = (Vec::new(), [0; 8]);
                loop {
                    match receiver.recv(&mut bytes) {
                        Ok(8) => heard.push((u64::from_be_bytes(bytes), Instant::now())),
                        _ if is_deaf.load(Ordering::Relaxed) => return heard,
                        _ => {}
                    }
                }
            });
            let done = work();
            is_over.store(true, Ordering::Relaxed);
            let sent = sending.join().unwrap();
            is_deaf.store(true, Ordering::Relaxed);
            (hearing.join().unwrap(), sent, done)
        })
    }
}

/// The same at once.
fn stream<T>(
    site: &Site,
    from: (&str, &str),
    to: &str,
    work: impl FnOnce() -> T,
) -> (Vec<(u64, Instant)>, u64, T) {
    Datagrams::between(site, from, to).during(work)
}

/// Events of bindings.
fn events(site: &Site) -> Vec<Value> {
    reports(&site.journal_file()).into_iter().filter(|event| event["kind"] == "binding").collect()
}

fn count(status: &Value, state: &str) -> u64 {
    status["agent"]["identities"]["count"][state].as_u64().unwrap()
}

#[test]
fn an_address_that_moves_to_another_key_is_nobodys_within_a_second() {
    let mut site = site("moved", &[WEB], "");
    let (client, stranger) = (site.address("client").to_string(), site.address("stranger").to_string());
    let [clients, strangers] = ["client", "stranger"].map(|name| key(&site, name));
    site.start();
    let status = site.wait_for("all are bound", |status| count(status, "bound") == 2);
    assert_eq!(count(&status, "conflicting") + count(&status, "unbound"), 0, "{status}");
    assert!(site.connects("client", 8080));

    // The stranger calls itself by the client's address.
    site.namespace("stranger").ip(&format!("addr add {client}/32 dev {INTERFACE}")).unwrap();
    let spoofed = ("stranger", &*client);
    let (heard, _, moved) = stream(&site, spoofed, "server", || {
        std::thread::sleep(Duration::from_millis(300));
        let moved = Instant::now();
        give(&site, &client, &strangers);
        std::thread::sleep(slower(Duration::from_secs(3)));
        moved
    });
    assert!(heard.iter().all(|(_, at)| *at > moved), "the tunnel refuses what is not the stranger's");
    let late = heard.iter().filter(|(_, at)| *at > moved + slower(WITHIN)).count();
    assert_eq!(late, 0, "of {} datagrams", heard.len());
    until(&site, "it is told", || !events(&site).is_empty());
    let told = events(&site).remove(0);
    assert_eq!((&told["identity"], &told["state"]), (&"client".into(), &"conflicting".into()), "{told}");
    assert_eq!(
        (&told["expected"][0], &told["found"]),
        (&clients.clone().into(), &strangers.clone().into()),
        "{told}"
    );
    assert_eq!((&told["holder"], &told["interface"]), (&"stranger".into(), &INTERFACE.into()), "{told}");
    assert_eq!((&told["address"], &told["enforced"]), (&client.clone().into(), &true.into()), "{told}");
    let shown = site.bulkhead(&["status"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        text.contains(&format!("conflicting: client ({client}), routed by key {strangers} of stranger")),
        "{text}"
    );
    let watched = site.bulkhead(&["audit", "show", "--kind", "binding"]);
    assert!(String::from_utf8_lossy(&watched.stdout).contains(&clients), "{watched:?}");

    // Not by another policy, nor by the end of the agent; and what the kernel holds is what should be.
    let is_cut = |site: &Site| {
        let (heard, sent, ()) =
            stream(site, spoofed, "server", || std::thread::sleep(Duration::from_millis(500)));
        assert!(sent > 50 && heard.is_empty(), "{} of {sent} datagrams came through", heard.len());
    };
    site.write_policy(&[OTHER, WEB]);
    site.done(&["apply"]);
    is_cut(&site);
    site.done(&["audit", "live"]);
    site.kill();
    is_cut(&site);
    site.done(&["audit", "live"]);
    give(&site, &client, &clients);
    assert!(site.is_denied("client", 8080), "nobody looks");
    give(&site, &client, &strangers);
    let datagrams = Datagrams::between(&site, spoofed, "server");
    let (heard, ..) = datagrams.during(|| site.start());
    drop(datagrams);
    assert_eq!(heard.len(), 0, "its first generation has it");

    // Moved back, it is who it was.
    give(&site, &client, &clients);
    site.wait_for("it is bound", |status| count(status, "bound") == 2);
    assert!(site.connects("client", 8080));
    assert_eq!(events(&site).last().unwrap()["state"], "bound");
    // What the stranger is by right it was all the time.
    assert_eq!(events(&site).iter().filter(|event| event["address"] == *stranger).count(), 0);
}

#[test]
fn what_is_only_reported_is_told_and_goes_on() {
    let mut site = site("reported", &[WEB], "[identity]\nbinding = \"report\"\n");
    let client = site.address("client").to_string();
    site.start();
    give(&site, &client, &key(&site, "stranger"));
    until(&site, "it is told", || !events(&site).is_empty());
    assert_eq!(events(&site)[0]["enforced"], false);
    site.namespace("stranger").ip(&format!("addr add {client}/32 dev {INTERFACE}")).unwrap();
    let work = || std::thread::sleep(slower(2 * WITHIN));
    let (heard, ..) = stream(&site, ("stranger", &client), "server", work);
    let last = heard.last().unwrap().1;
    assert!(last - heard[0].1 > WITHIN, "it passes all the time");
}

#[test]
fn a_change_of_keys_loses_no_packet() {
    let mut site = site("rotated", &[], "");
    let rule = r#"{"action": "accept", "src": ["tag:server"], "dst": ["tag:client:8080"]}"#;
    site.write_policy(&[rule]);
    // The client has a second tunnel by its next key, which the server knows and routes nothing to yet.
    let next = Keys::generate().unwrap();
    let next_key = next.public.clone();
    site.lab.host_mut("client").unwrap().next = Some(next);
    site.replace_tunnel();
    let _second = second_tunnel(&site);
    let client = site.address("client").to_string();
    write_inventory(&site, &[&next_key]);
    site.start();
    site.wait_for("all are bound", |status| count(status, "bound") == 2);
    let server = site.address("server").to_string();
    let rotate = |keys: &[&str]| {
        for key in keys {
            std::thread::sleep(Duration::from_millis(700));
            give(&site, &client, key);
        }
        std::thread::sleep(Duration::from_millis(1500));
    };
    let old_key = key(&site, "client");
    // Both tunnels have had their handshakes.
    stream(&site, ("server", &server), "client", || rotate(&[&next_key, &old_key]));
    let (heard, sent, ()) =
        stream(&site, ("server", &server), "client", || rotate(&[&next_key, &old_key, &next_key]));
    let numbers: std::collections::BTreeSet<u64> = heard.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers.len() as u64, sent, "every one arrives");
    let told = events(&site);
    assert!(told.iter().all(|event| event["state"] == "bound"), "{told:#?}");
    assert!(told.iter().any(|event| event["found"] == *next_key), "{told:#?}");

    // Without that key among its own it would have been cut off.
    write_inventory(&site, &[]);
    site.done(&["apply"]);
    let (heard, ..) =
        stream(&site, ("server", &server), "client", || std::thread::sleep(Duration::from_millis(500)));
    assert_eq!(heard.len(), 0);
    assert_eq!(events(&site).last().unwrap()["state"], "conflicting");
}

/// The client's tunnel by its next key.
fn second_tunnel(site: &Site) -> Process {
    let (client, server) = (site.lab.host("client").unwrap(), site.lab.host("server").unwrap());
    let text = format!(
        "[Interface]\nPrivateKey = {}\nListenPort = {}\nAddress = {}/32\nTable = off\n\n[Peer]\nPublicKey = {}\nAllowedIPs = {}\n\
         Endpoint = {}:{WIREGUARD_PORT}\nPersistentKeepalive = 1\n",
        client.next.as_ref().unwrap().private,
        WIREGUARD_PORT + 1,
        site.address("client"),
        server.keys.public,
        site.address("server"),
        server.underlay,
    );
    site.write("next.conf", &text);
    let mut command: Command = site.command();
    command.args(["tunnel", "--interface", "next", "--config", &site.path("next.conf")]);
    let log = site.lab.directory().join("next.log");
    let process = Process::spawn(&client.namespace, &mut command, &log).unwrap();
    let deadline = Instant::now() + slower(Duration::from_secs(20));
    while !process.log().contains("handshake complete") {
        assert!(Instant::now() < deadline, "{}", process.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    process
}

#[test]
fn who_does_not_answer_changes_nothing() {
    let mut site = site("mute", &[WEB], "");
    site.start();
    site.wait_for("all are bound", |status| count(status, "bound") == 2);
    let generation = site.status()["agent"]["generation"].clone();
    let mute = |status: &Value| {
        let problems = status["agent"]["identities"]["problems"].as_array().unwrap();
        !problems.is_empty() && status["state"] == "degraded"
    };
    // It takes connections, and says nothing.
    site.lab.host_mut("server").unwrap().tunnel().unwrap().suspend().unwrap();
    let status = site.wait_for("that is a problem", mute);
    assert_eq!((count(&status, "bound"), &status["agent"]["generation"]), (2, &generation), "{status}");
    assert!(status["problems"][0].as_str().unwrap().contains("the peers of wg0 cannot be read"), "{status}");
    site.lab.host_mut("server").unwrap().tunnel().unwrap().signal(libc::SIGCONT);
    site.wait_for("it is over", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080));
    // Without its tunnel the interface is gone, and comes back as it was.
    site.replace_tunnel();
    site.wait_for("it is enforced again", |status| {
        status["state"] == "enforced" && count(status, "bound") == 2
    });
    assert_eq!(events(&site), Vec::<Value>::new());
}
