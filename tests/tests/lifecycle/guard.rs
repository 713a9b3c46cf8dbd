//! The guard: what it drops by kind, what is told of that, and what becomes of it when others change it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use bulkhead_testkit::lab;
use serde_json::Value;

use crate::site::{Over, Site, WEB, account};

/// Packets by direction and reason.
type Counts = BTreeMap<(String, String), u64>;

const KINDS: [(&str, &str); 4] = [
    ("ingress", "guard_own_destination"),
    ("ingress", "guard_own_source"),
    ("ingress", "guard_overlay_source"),
    ("egress", "guard_overlay_destination"),
];
const CLOSED: [(&str, &str); 2] =
    [("ingress", "guard_interface_closed"), ("egress", "guard_interface_closed")];

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What status says that the guard has dropped.
fn counted(status: &Value) -> Counts {
    let guard = status["guard"].as_array().unwrap().iter();
    guard
        .map(|count| {
            ((text(&count["direction"]), text(&count["reason"])), count["packets"].as_u64().unwrap())
        })
        .collect()
}

/// The reports of the guard's drops on disk.
fn reports(site: &Site) -> Vec<Value> {
    let events = account::reports(&site.journal_file()).into_iter();
    events
        .filter(|event| event["reason"].as_str().is_some_and(|reason| reason.starts_with("guard_")))
        .collect()
}

fn reported(site: &Site) -> Counts {
    let mut counts = Counts::new();
    for event in reports(site) {
        let kind = (text(&event["direction"]), text(&event["reason"]));
        *counts.entry(kind).or_default() += event["count"].as_u64().unwrap();
    }
    counts
}

/// Waits until all that is counted has been told of; what that is.
fn settled(site: &mut Site) -> Counts {
    // Twice, so that a summary had its second.
    std::thread::sleep(Duration::from_millis(2500));
    let status = site.status();
    let counts = counted(&status);
    assert_eq!(counts, reported(site), "counters are reports and summaries: {status}");
    let events = &status["agent"]["events"];
    let told = events["guard_logged"].as_u64().unwrap() + events["guard_counted"].as_u64().unwrap();
    assert!(told <= counts.values().sum(), "{status}");
    counts
}

fn try_nft(site: &Site, words: &str) -> std::process::Output {
    let mut command = Command::new("nft");
    command.args(words.split(' '));
    site.namespace("server").prepare(&mut command).unwrap();
    lab::run_within(&mut command, Duration::from_secs(10)).unwrap()
}

/// Runs nft on the server; what it printed.
pub fn nft(site: &Site, words: &str) -> String {
    let output = try_nft(site, words);
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Sends datagrams from an address of a host. What the sender's own guard drops it is told.
fn send(site: &Site, host: &str, from: IpAddr, to: IpAddr, count: usize) {
    let sent = site.namespace(host).run(|| {
        let socket = UdpSocket::bind(SocketAddr::new(from, 4000)).unwrap();
        for _ in 0..count {
            match socket.send_to(b"?", SocketAddr::new(to, 5000)) {
                Err(error) if error.raw_os_error() != Some(libc::EPERM) => panic!("{from} to {to}: {error}"),
                _ => {}
            }
        }
    });
    sent.unwrap();
}

/// Sends a datagram from any address at all.
fn send_as(site: &Site, host: &str, from: Ipv6Addr, to: Ipv6Addr) {
    let datagram = [&[0x0f, 0xa0, 0x13, 0x88, 0, 9, 0, 0][..], b"?"].concat();
    let header = [&[0x60, 0, 0, 0, 0, 9, 17, 64][..], &from.octets(), &to.octets()].concat();
    let sent = site.namespace(host).run(|| {
        let raw = socket2::Protocol::from(libc::IPPROTO_RAW);
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::RAW, Some(raw)).unwrap();
        socket.send_to(&[header, datagram].concat(), &SocketAddr::new(to.into(), 0).into()).unwrap();
    });
    sent.unwrap();
}

/// An address of a host on the switch, of the same family as the other one.
fn underlay(site: &Site, host: &str, like: IpAddr) -> IpAddr {
    match (site.underlay(host), like) {
        (IpAddr::V4(v4), IpAddr::V6(_)) => {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, v4.octets()[3].into()).into()
        }
        (address, _) => address,
    }
}

/// The prefix of an address alone.
fn alone(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// A host that is no node has the overlay addresses of nodes, and so do routes past the tunnel.
fn outsider(label: &str) -> Site {
    let mut site = Site::dual(label, Over::Tunnel, &[WEB], &["outsider"]);
    site.start();
    let ip = |host: &str, words: String| site.namespace(host).ip(&words).unwrap();
    let family = |address: IpAddr| if address.is_ipv4() { "" } else { "-6 " };
    for [server, client, stranger] in
        [0, 1].map(|at| ["server", "client", "stranger"].map(|name| site.addresses(name)[at]))
    {
        for spoofed in [server, client] {
            ip("outsider", format!("addr add {} dev lo", alone(spoofed)));
        }
        for (host, to, by) in
            [("client", server, "server"), ("outsider", stranger, "server"), ("server", stranger, "outsider")]
        {
            let by = underlay(&site, by, to);
            ip(host, format!("{}route replace {} via {by} dev eth0", family(to), alone(to)));
        }
    }
    site
}

#[test]
fn every_kind_of_drop_is_counted_and_told_of() {
    let mut site = outsider("gdkinds");
    let mut expected = Counts::new();
    let mut drops = |kind: (&str, &str), count: u64| {
        *expected.entry((kind.0.to_owned(), kind.1.to_owned())).or_default() += count;
    };
    for switch in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        let path = format!("/proc/sys/{}", switch.replace('.', "/"));
        site.namespace("server").run(|| std::fs::write(&path, "1")).unwrap().unwrap();
    }
    for at in [0, 1] {
        let [server, client, stranger] =
            ["server", "client", "stranger"].map(|name| site.addresses(name)[at]);
        let [on_switch, outside, beside] =
            ["server", "outsider", "client"].map(|name| underlay(&site, name, server));
        send(&site, "client", beside, server, 2);
        drops(KINDS[0], 2);
        send(&site, "outsider", server, on_switch, 3);
        drops(KINDS[1], 3);
        send(&site, "outsider", client, on_switch, 4);
        drops(KINDS[2], 4);
        send(&site, "server", on_switch, stranger, 5);
        drops(KINDS[3], 5);
        // Forwarded.
        send(&site, "outsider", outside, stranger, 6);
        drops(KINDS[3], 6);
        // The host's own addresses work on itself.
        let local = site.namespace("server").run(|| {
            let listener = TcpListener::bind(SocketAddr::new(server, 0)).unwrap();
            TcpStream::connect_timeout(&listener.local_addr().unwrap(), Duration::from_secs(2)).is_ok()
        });
        assert!(local.unwrap(), "{server} from the host itself");
    }
    assert_eq!(settled(&mut site), expected);
    let events = reports(&site);
    for at in [0, 1] {
        let [server, client, stranger] =
            ["server", "client", "stranger"].map(|name| site.addresses(name)[at]);
        let of = |kind: (&str, &str)| -> Vec<&Value> {
            let ours =
                events.iter().filter(|event| (&*text(&event["direction"]), &*text(&event["reason"])) == kind);
            ours.filter(|event| {
                text(&event["source"]["address"]).parse::<IpAddr>().unwrap().is_ipv4() == server.is_ipv4()
            })
            .collect()
        };
        for (kind, end, address, name) in [
            (KINDS[0], "destination", server, "server"),
            (KINDS[1], "source", server, "server"),
            (KINDS[2], "source", client, "client"),
            (KINDS[3], "destination", stranger, "stranger"),
        ] {
            let events = of(kind);
            assert!(!events.is_empty(), "{kind:?}");
            for event in events {
                assert_eq!(text(&event[end]["address"]).parse::<IpAddr>().unwrap(), address, "{event}");
                assert_eq!(event[end]["name"], name, "{event}");
                let ports = (&event["source_port"], &event["destination_port"]);
                assert_eq!(ports, (&4000.into(), &5000.into()), "{event}");
                assert_eq!(
                    (&event["protocol"], &event["interface"]),
                    (&"udp".into(), &"eth0".into()),
                    "{event}"
                );
            }
        }
    }

    // A source that stands for an IPv4 address is that address to a socket of both families.
    let mapped = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let [server, client] = [0, 1].map(|at| ["server", "client"].map(|name| site.addresses(name)[at]))[0];
    let IpAddr::V6(on_switch) = underlay(&site, "server", Ipv6Addr::UNSPECIFIED.into()) else { panic!() };
    for source in [server, client] {
        send_as(&site, "outsider", mapped(source), on_switch);
    }
    *expected.get_mut(&(KINDS[2].0.to_owned(), KINDS[2].1.to_owned())).unwrap() += 2;
    assert_eq!(settled(&mut site), expected);

    // A flood is logged in part, and all of it is told of; another policy's table counts on.
    let (server, on_switch) = (site.address("server"), site.underlay("server"));
    send(&site, "outsider", server, on_switch, 3000);
    site.done(&["apply"]);
    send(&site, "outsider", server, on_switch, 2000);
    *expected.get_mut(&(KINDS[1].0.to_owned(), KINDS[1].1.to_owned())).unwrap() += 5000;
    assert_eq!(settled(&mut site), expected);
    let events = site.status()["agent"]["events"].clone();
    assert!(events["guard_logged"].as_u64().unwrap() < 1000, "{events}");

    // Nobody is there to tell; the next agent does.
    site.kill();
    send(&site, "outsider", server, on_switch, 7);
    *expected.get_mut(&(KINDS[1].0.to_owned(), KINDS[1].1.to_owned())).unwrap() += 7;
    assert_eq!(counted(&site.status()), expected, "without an agent");
    site.start();
    assert_eq!(settled(&mut site), expected);
}

#[test]
fn the_transport_of_the_tunnel_goes_on() {
    let mut site = Site::dual("gdway", Over::Tunnel, &[WEB], &[]);
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    assert!(site.is_denied("stranger", 8080));
    assert_eq!(counted(&site.status()), Counts::new());
}

#[test]
fn an_interface_without_a_program_is_closed_both_ways_and_told_of() {
    let mut site = Site::dual("gdclosed", Over::Ethernet, &[WEB], &[]);
    site.start();
    assert!(site.connects("client", 8080));
    site.kill();
    site.replace_interface();
    let [v4, v6] = [0, 1].map(|at| site.addresses("server")[at]);
    site.namespace("server").ip("link set eth0 address 02:00:00:00:00:77").unwrap();
    site.namespace("server").ip(&format!("addr add {v6}/64 dev eth0 nodad")).unwrap();
    for address in [v4, v6] {
        let neighbour = format!("neigh replace {address} lladdr 02:00:00:00:00:77 dev eth0 nud permanent");
        site.namespace("client").ip(&neighbour).unwrap();
    }
    // The switch forwards to a new port after a while.
    std::thread::sleep(Duration::from_secs(1));
    for at in [0, 1] {
        let [server, client] = ["server", "client"].map(|name| site.addresses(name)[at]);
        send(&site, "client", client, server, 3);
        send(&site, "server", server, client, 2);
    }
    let counts = counted(&site.status());
    for ((direction, reason), least) in CLOSED.into_iter().zip([6, 4]) {
        let packets = counts.get(&(direction.to_owned(), reason.to_owned()));
        // Neighbour discovery is dropped, too.
        assert!(packets.is_some_and(|packets| *packets >= least), "{direction}: {counts:?}");
    }
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    settled(&mut site);
}

#[test]
fn one_device_by_two_names_is_refused() {
    let mut site = Site::new("gdtwo", Over::Ethernet, &[WEB]);
    site.namespace("server").ip("link property add dev eth0 altname uplink").unwrap();
    let twice =
        site.configuration("server", "eth0") + "[[interface]]\nname = \"uplink\"\nrole = \"underlay\"\n";
    site.write("agent.toml", &twice);
    site.launch();
    assert_eq!(site.exit_code(), Some(2), "{}", site.log());
    assert!(site.log().contains("interfaces eth0 and uplink of agent.toml are one device"), "{}", site.log());
}

#[test]
fn an_interface_may_be_named_by_an_alternative_name() {
    let mut site = Site::new("gdalt", Over::Ethernet, &[WEB]);
    let name = "ethernet-of-the-second-slot";
    site.namespace("server").ip(&format!("link property add dev eth0 altname {name}")).unwrap();
    site.write("agent.toml", &site.configuration("server", name));
    site.start();
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("client", 8081) && site.is_denied("stranger", 8080));
    assert_eq!(counted(&site.status()), Counts::new(), "nothing of it is the guard's");
    // It is closed under the name that it has once it is not enforced any more.
    site.kill();
    nft(&site, &format!("flush set inet bulkhead-{} attached", site.instance()));
    assert!(site.is_denied("client", 8080));
    site.start();
    assert!(site.connects("client", 8080));
    // An interface of that name takes the place of the one that had it.
    site.replace_interface();
    site.wait_for("degraded", |status| status["state"] != "enforced");
    site.namespace("server").ip(&format!("link property add dev eth0 altname {name}")).unwrap();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    site.namespace("client").ip("neigh flush all").unwrap();
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("stranger", 8080));
}

#[test]
fn a_guard_that_others_change_is_put_in_place_again() {
    let site = outsider("gdkinds2");
    let table = format!("inet bulkhead-{}", site.instance());
    let (server, on_switch) = (site.address("server"), site.underlay("server"));
    for meddling in [
        format!("flush table {table}"),
        format!("flush chain {table} input"),
        format!("delete table {table}"),
        "flush ruleset".to_owned(),
        format!("add table {table} {{ flags dormant ; }}"),
        format!("flush set {table} own4"),
        format!("add element {table} attached {{ 77 . 5 }}"),
        format!("insert rule {table} output accept"),
    ] {
        nft(&site, &meddling);
        std::thread::sleep(Duration::from_millis(2500));
        let before = counted(&site.status()).values().sum::<u64>();
        send(&site, "outsider", server, on_switch, 1);
        send(&site, "server", on_switch, site.address("stranger"), 1);
        let after = counted(&site.status()).values().sum::<u64>();
        assert_eq!(after, before + 2, "after {meddling}: {}", nft(&site, &format!("list table {table}")));
        let listed = nft(&site, &format!("list set {table} attached"));
        assert!(!listed.contains("77 . 5") && listed.contains("elements"), "{listed}");
    }
}

#[test]
fn a_guard_that_others_empty_again_and_again_is_never_left_empty() {
    let site = outsider("gdagain");
    let table = format!("inet bulkhead-{}", site.instance());
    let (server, on_switch) = (site.address("server"), site.underlay("server"));
    for meddling in [format!("flush table {table}"), format!("insert rule {table} input accept")] {
        for pause in [0, 10, 20] {
            for _ in 0..15 {
                // It may be gone for a moment.
                let _ = try_nft(&site, &meddling);
                std::thread::sleep(Duration::from_millis(pause));
            }
            std::thread::sleep(Duration::from_millis(2500));
            let before = counted(&site.status()).values().sum::<u64>();
            send(&site, "outsider", server, on_switch, 1);
            let after = counted(&site.status()).values().sum::<u64>();
            assert_eq!(after, before + 1, "after {meddling}: {}", nft(&site, &format!("list table {table}")));
        }
    }
}
