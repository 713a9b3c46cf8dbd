//! What agent.toml limits: flows that one sender may begin, reports that one CPU makes, addresses
//! that are cut off in tables that run.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::site::account::{drops, lost, number, told};
use crate::site::{Over, Site, WEB};

const STRANGER: &str =
    r#"{"name": "stranger", "action": "accept", "src": ["tag:stranger"], "dst": ["tag:server:8080"]}"#;

/// Sends one datagram from each of so many sockets, which makes as many flows; the time it took.
fn begin(site: &Site, from: &str, to: SocketAddr, flows: usize, name: u8) -> Duration {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let bind = || (0..flows).map(|_| UdpSocket::bind(any).unwrap()).collect::<Vec<_>>();
    let sockets = site.namespace(from).run(bind).unwrap();
    let started = Instant::now();
    sockets.iter().for_each(|socket| assert_eq!(socket.send_to(&[name], to).unwrap(), 1));
    started.elapsed()
}

#[test]
fn one_sender_begins_flows_at_its_rate_and_nobody_else_pays() {
    const RATE: usize = 20;
    let mut site = Site::new("begin", Over::Ethernet, &[WEB, STRANGER]);
    let config = site.configuration("server", "eth0") + "[limits]\nnew_flows_per_second = 20\n";
    site.write("agent.toml", &config);
    site.start();
    let mut connection = site.connect("client", 8080);
    connection.goes_on();
    let at = SocketAddr::new(site.address("server"), 8080);
    let server = site.namespace("server").run(|| UdpSocket::bind(at)).unwrap().unwrap();
    // The connection was one of the burst.
    std::thread::sleep(Duration::from_secs(1));
    let took = begin(&site, "client", at, 200, b'c');
    begin(&site, "stranger", at, 10, b's');
    server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut of_client, mut of_stranger) = (HashSet::new(), HashSet::new());
    let mut byte = [0];
    while let Ok((_, from)) = server.recv_from(&mut byte) {
        if byte == *b"c" { &mut of_client } else { &mut of_stranger }.insert(from);
    }
    // A burst of a second's worth, and what has become due meanwhile.
    let most = RATE + 2 + (took.as_secs_f64() * RATE as f64) as usize;
    assert!((RATE..=most).contains(&of_client.len()), "{} flows in {took:?}", of_client.len());
    assert_eq!(of_stranger.len(), 10, "another sender has a rate of its own");
    connection.goes_on();
    let status = site.status();
    let mut reasons = status["reasons"].as_array().unwrap().iter();
    let limited = reasons.find(|reason| reason["reason"] == "initiator_rate").unwrap();
    assert_eq!(limited["packets"].as_u64().unwrap() as usize, 200 - of_client.len(), "{status}");

    site.kill();
    let config = site.configuration("server", "eth0") + "[limits]\nnew_flows_per_second = 0\n";
    site.write("agent.toml", &config);
    site.start();
    begin(&site, "client", at, 200, b'd');
    let mut all = 0;
    while server.recv_from(&mut byte).is_ok() {
        all += 1;
    }
    assert_eq!(all, 200, "0 is any number");
}

#[test]
fn reports_have_a_budget_and_the_account_stays_exact() {
    let mut site = Site::new("budget", Over::Ethernet, &[WEB]);
    let config = site.configuration("server", "eth0") + "[limits]\nevent_budget = 5\n";
    site.write("agent.toml", &config);
    site.start();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for port in 2000..2500 {
        socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
    }
    site.wait_for("every drop is accounted for", |status| {
        drops(status) >= 500 && told(status) + lost(status) == drops(status)
    });
    let status = site.status();
    assert!(number(&status["lost"]["budget"]) > 300, "{status}");
    assert!(number(&status["agent"]["events"]["events"]) > 0, "{status}");
    assert!(site.connects("client", 8080));
}

#[test]
fn addresses_are_cut_off_in_tables_that_run_as_long_as_there_is_room() {
    const SPARE: usize = 20;
    let mut site = Site::dual("spare", Over::Ethernet, &[WEB], &[]);
    let config = site.configuration("server", "eth0") + &format!("[limits]\nspare_addresses = {SPARE}\n");
    site.write("agent.toml", &config);
    site.start();
    let mut connection = site.connect("client", 8080);
    let generation = |site: &Site| site.status()["agent"]["generation"].as_u64().unwrap();
    let first = generation(&site);
    // Who has a place of his own needs no room, and cuts nobody else off.
    for name in ["stranger", "client"] {
        site.done(&["quarantine", name]);
    }
    connection.is_cut();
    site.done(&["release", "client"]);
    connection.is_restored();
    // Nobody's, of both families, within networks that have one leaf and beside those that have not.
    let near = site.address("client").to_string();
    let (net, _) = near.rsplit_once('.').unwrap();
    let nobodys = |index: usize| match index % 3 {
        0 => format!("{net}.{}", 100 + index),
        1 => format!("198.51.{index}.7"),
        _ => format!("2001:db8:1::{index}"),
    };
    for index in 0..SPARE {
        site.done(&["quarantine", &nobodys(index)]);
        assert_eq!(generation(&site), first, "{index} of {SPARE}");
        connection.goes_on();
    }
    // At some time there is no room, and a generation is built for it.
    let full = (SPARE..10 * SPARE).find(|index| {
        site.done(&["quarantine", &nobodys(*index)]);
        connection.goes_on();
        generation(&site) != first
    });
    let full = full.expect("more places than anybody asked for");
    let status = site.status();
    assert_eq!(status["quarantined"].as_array().unwrap().len(), full + 2, "{status}");
    site.done(&["quarantine", "client"]);
    connection.is_cut();
    site.done(&["release", "client"]);
    (0..=full).for_each(|index| site.done(&["release", &nobodys(index)]));
    connection.is_restored();
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
}
