//! What `exposed` says of a host's sockets, and that it is so.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, Outcome, Probe, Protocol as Speaks, slower};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::site::{Over, Site, WEB};

/// A socket on the server that waits for packets; nobody answers them.
fn listen(site: &Site, kind: Type, at: &str, only_v6: bool) -> Socket {
    let at: SocketAddr = at.parse().unwrap();
    let made = site.namespace("server").run(|| {
        let socket = Socket::new(Domain::for_address(at), kind, None)?;
        if at.is_ipv6() {
            socket.set_only_v6(only_v6)?;
        }
        socket.bind(&at.into())?;
        if kind == Type::STREAM {
            socket.listen(8)?;
        }
        std::io::Result::Ok(socket)
    });
    made.unwrap().unwrap()
}

/// The answer and its exit code.
fn asked(site: &Site, more: &[&str]) -> (Option<i32>, Value) {
    let output = site.bulkhead(&[&["exposed", "--json"], more].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), answer)
}

/// Whose socket each is, by process, and the rest of each in the order of the answer.
fn split(answer: &Value) -> (Vec<Value>, Vec<Value>) {
    let sockets = answer["sockets"].as_array().unwrap().iter().cloned();
    let of = |mut socket: Value| {
        let fields = socket.as_object_mut().unwrap();
        let owner = json!([fields.remove("process"), fields.remove("unit")]);
        (owner, socket)
    };
    sockets.map(of).unzip()
}

fn open(interface: &str) -> Value {
    json!({"interface": interface, "enforced": false, "by": "anyone", "why": "not managed"})
}

fn nobody(interface: &str) -> Value {
    json!({"interface": interface, "enforced": true, "by": "nobody", "why": "no rule admits anybody"})
}

fn client(interface: &str) -> Value {
    json!({"interface": interface, "enforced": true, "by": "some", "nodes": ["client"], "others": []})
}

fn socket(protocol: &str, port: u16, address: &str, ways: &[Value]) -> Value {
    let exposed = ways.iter().any(|way| way["by"] == "anyone");
    json!({"protocol": protocol, "address": address, "dual_stack": false, "port": port, "device": null,
           "exposed": exposed, "ways": ways})
}

fn dual(mut socket: Value) -> Value {
    socket["dual_stack"] = true.into();
    socket
}

/// What a client's socket sees of a TCP port of the server that nobody answers at.
fn connects(site: &Site, from: &str, to: IpAddr, port: u16) -> bool {
    let probe = Probe { to: SocketAddr::new(to, port), protocol: Speaks::Tcp };
    let outcome = lab::probe(site.namespace(from), probe, slower(Duration::from_millis(700))).unwrap();
    assert!(matches!(outcome, Outcome::Connected | Outcome::TimedOut), "{outcome:?}");
    outcome == Outcome::Connected
}

#[test]
fn what_listens_is_told_with_who_reaches_it() {
    let mut site = Site::dual("exposed", Over::Tunnel, &[WEB], &[]);
    site.start();
    let [v4, v6] = [0, 1].map(|index| site.addresses("server")[index]);
    let uplink = site.underlay("server");
    let tcp = |at: &str, only_v6| listen(&site, Type::STREAM, at, only_v6);
    let udp = |at: &str| listen(&site, Type::DGRAM, at, true);
    let sockets = [
        tcp("0.0.0.0:8080", false),
        tcp("[::]:8080", true),
        tcp("[::]:8081", false),
        tcp("127.0.0.1:8082", false),
        tcp("[::1]:8082", true),
        tcp(&SocketAddr::new(v4, 8083).to_string(), false),
        tcp(&SocketAddr::new(v6, 8083).to_string(), true),
        tcp(&SocketAddr::new(uplink, 8084).to_string(), false),
        udp("0.0.0.0:8085"),
        udp("[::]:8086"),
        udp("127.0.0.1:8087"),
    ];
    // Neither takes packets of anybody.
    let connected = udp("0.0.0.0:8088");
    let peer = SocketAddr::new(site.underlay("client"), 9);
    site.namespace("server").run(|| connected.connect(&peer.into())).unwrap().unwrap();
    let raw = site.namespace("server").run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)));
    let raw = raw.unwrap().unwrap();

    let listed = |overlay: [Value; 2], reached: &dyn Fn(&str) -> Value| {
        let [other, web] = overlay;
        let both = |way: &Value| [reached("eth0"), way.clone()];
        vec![
            socket("tcp", 8080, "0.0.0.0", &both(&web)),
            socket("tcp", 8080, "::", &both(&web)),
            dual(socket("tcp", 8081, "::", &both(&other))),
            socket("tcp", 8084, &uplink.to_string(), &both(&other)),
            socket("udp", 8085, "0.0.0.0", &both(&other)),
            socket("udp", 8086, "::", &both(&other)),
            socket("udp", 51820, "0.0.0.0", &both(&other)),
            socket("udp", 51820, "::", &both(&other)),
            // A rule without `proto` admits echo requests, whatever its ports.
            socket("raw", 1, "0.0.0.0", &both(&web)),
        ]
    };
    let (code, answer) = asked(&site, &[]);
    let (owners, found) = split(&answer);
    assert_eq!(found, listed([nobody("wg0"), client("wg0")], &open), "{answer:#}");
    assert_eq!(code, Some(1));
    assert_eq!((&answer["on_loopback"], &answer["on_overlay"]), (&json!(3), &json!(2)));
    assert_eq!(answer["notes"], json!([]));
    let pid = std::process::id();
    for (owner, socket) in owners.iter().zip(&found) {
        if socket["port"] == 51820 {
            assert_eq!(owner[0]["name"], "bulkhead", "the tunnel's transport: {owner}");
        } else {
            assert_eq!(owner[0]["pid"], pid, "{owner} {socket}");
        }
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", owner[0]["pid"])).unwrap();
        match owner[1].as_str() {
            Some(unit) => assert!(group.contains(&format!("/{unit}")), "{group}"),
            None => assert!(!group.contains(".service") && !group.contains(".scope"), "{group}"),
        }
    }

    // It is so.
    let stranger = |to, port| connects(&site, "stranger", to, port);
    assert!(stranger(uplink, 8080) && stranger(uplink, 8081) && stranger(uplink, 8084));
    assert!(!stranger(v4, 8080) && !stranger(v6, 8080) && !stranger(v4, 8081) && !stranger(v4, 8083));
    assert!(connects(&site, "client", v4, 8080) && connects(&site, "client", v6, 8080));
    assert!(!connects(&site, "client", v4, 8081) && !connects(&site, "client", v6, 8083));

    // All of them, and for people.
    let (_, answer) = asked(&site, &["--all"]);
    let (_, found) = split(&answer);
    assert_eq!(found.len(), 9 + 3 + 2);
    let on_overlay = socket(
        "tcp",
        8083,
        &v4.to_string(),
        &[
            json!({"interface": "eth0", "enforced": false, "by": "nobody",
               "why": "the guard keeps overlay addresses off it"}),
            nobody("wg0"),
        ],
    );
    assert!(found.contains(&on_overlay), "{answer:#}");
    assert!(found.contains(&socket("udp", 8087, "127.0.0.1", &[])), "{answer:#}");
    let text = String::from_utf8(site.bulkhead(&["exposed"]).stdout).unwrap();
    println!("{text}");
    let line = text.lines().find(|line| line.contains(" 8081 ")).unwrap();
    assert!(line.ends_with("eth0: anyone (not managed); wg0: nobody (no rule admits anybody)"), "{text}");
    assert!(line.starts_with("yes      tcp       *"), "{text}");
    assert!(text.contains("3 sockets on loopback addresses not listed"), "{text}");

    // Who is cut off reaches nothing; audit mode drops nothing.
    site.done(&["quarantine", "client"]);
    let (_, answer) = asked(&site, &[]);
    assert_eq!(split(&answer).1, listed([nobody("wg0"), nobody("wg0")], &open), "{answer:#}");
    site.done(&["release", "client"]);
    site.done(&["apply", "--mode", "audit"]);
    let (_, answer) = asked(&site, &[]);
    let audit =
        json!({"interface": "wg0", "enforced": false, "by": "anyone", "why": "audit mode drops nothing"});
    let (overlay, others): (Vec<_>, Vec<_>) =
        split(&answer).1.into_iter().partition(|socket| socket["port"] == 8083);
    assert_eq!(others, listed([audit.clone(), audit.clone()], &open), "{answer:#}");
    assert!(overlay.len() == 2 && overlay.iter().all(|socket| socket["ways"][1] == audit), "{answer:#}");
    site.done(&["apply", "--mode", "enforce"]);

    // Without an agent the same, and what is not known is said.
    site.kill();
    let (code, answer) = asked(&site, &[]);
    assert_eq!(split(&answer).1, listed([nobody("wg0"), client("wg0")], &open), "{answer:#}");
    let notes = answer["notes"].to_string();
    assert!(notes.contains("no agent answers"), "{notes}");
    assert_eq!(code, Some(1));

    // Where nothing is enforced nothing is an overlay.
    site.done(&["detach"]);
    let (code, answer) = asked(&site, &[]);
    let found = split(&answer).1;
    assert!(
        found.contains(&socket("tcp", 8083, &v6.to_string(), &[open("eth0"), open("wg0")])),
        "{answer:#}"
    );
    assert_eq!((code, found.len(), &answer["on_overlay"]), (Some(1), 9 + 2, &json!(0)));
    assert!(answer["notes"].to_string().contains("nothing is enforced"), "{answer:#}");
    drop((sockets, connected, raw));
}

#[test]
fn a_host_whose_interfaces_are_all_managed_exposes_nothing() {
    let mut site = Site::new("hidden", Over::Ethernet, &[WEB]);
    site.start();
    let web = listen(&site, Type::STREAM, "0.0.0.0:8080", false);
    let device = site.namespace("server").run(|| web.local_addr()).unwrap().unwrap();
    assert_eq!(device.as_socket().unwrap().port(), 8080);
    let (code, answer) = asked(&site, &[]);
    assert_eq!(split(&answer).1, [socket("tcp", 8080, "0.0.0.0", &[client("eth0")])], "{answer:#}");
    assert_eq!(code, Some(0));

    // Another interface comes up.
    let server = site.namespace("server");
    server.ip("link add side type veth peer name edis").unwrap();
    assert_eq!(asked(&site, &[]).0, Some(0), "it is down");
    server.ip("link set side up").unwrap();
    let (code, answer) = asked(&site, &[]);
    let ways = [client("eth0"), open("side")];
    assert_eq!(split(&answer).1, [socket("tcp", 8080, "0.0.0.0", &ways)], "{answer:#}");
    assert_eq!(code, Some(1));

    // It is bound to the one that is managed.
    drop(web);
    let bind = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], 8080)).into())?;
        socket.listen(8).map(|()| socket)
    };
    // A program that another test is just starting has the socket before for a moment.
    let deadline = Instant::now() + Duration::from_secs(5);
    let bound = loop {
        match server.run(bind).unwrap() {
            Ok(bound) => break bound,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let (code, answer) = asked(&site, &[]);
    let mut wanted = socket("tcp", 8080, "0.0.0.0", &[client("eth0")]);
    wanted["device"] = "eth0".into();
    assert_eq!(split(&answer).1, [wanted], "{answer:#}");
    assert_eq!(code, Some(0));
    drop(bound);
}

#[test]
fn who_may_not_ask_is_told_what_to_do() {
    let mut site = Site::new("askexp", Over::Ethernet, &[WEB]);
    site.start();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=4321", "--regid=4321", "--clear-groups"]).arg(lab::bulkhead().unwrap());
    command.args(["--instance", site.instance(), "exposed"]).stdin(Stdio::null());
    site.namespace("server").prepare(&mut command).unwrap();
    let output = lab::run_within(&mut command, slower(Duration::from_secs(20))).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(said.contains("root"), "{said}");
    let output = site.bulkhead(&["exposed", "eth0"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = site.bulkhead(&["--instance", "a/b", "exposed"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
