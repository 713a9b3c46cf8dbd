//! `flows`: the host's conversations, by every filter, with an agent and without, however many there are and
//! whatever becomes of them meanwhile.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, slower};
use serde_json::Value;

use crate::site::stop::Stop;
use crate::site::{OTHER, Over, Site, WEB};

/// Lets the server use port 9000 of the client.
const BACK: &str =
    r#"{"name": "back", "action": "accept", "src": ["tag:server"], "dst": ["tag:client:9000"]}"#;
/// Lets the stranger use port 8080 of the server, too.
const ALSO: &str = r#"{"action": "accept", "src": ["tag:stranger"], "dst": ["tag:server:8080"]}"#;
/// Lets the client use any port of the server.
const ALL: &str = r#"{"name": "all", "action": "accept", "src": ["tag:client"], "dst": ["tag:server:*"]}"#;

/// What `flows --json` lists, and its last line.
fn listed(site: &Site, words: &[&str]) -> (Vec<Value>, Value) {
    // Its output is read while it runs: it is more than a pipe holds.
    let mut command = Command::new("timeout");
    command.arg(slower(Duration::from_secs(60)).as_secs().to_string()).arg(lab::bulkhead().unwrap());
    command.args(["--instance", site.instance(), "flows", "--json"]).args(words);
    site.namespace("server").prepare(&mut command).unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = lines.pop().unwrap();
    assert_eq!(end["kind"], "end", "{words:?}");
    assert!(lines.iter().all(|line| line["kind"] == "flow"), "{words:?}");
    assert_eq!(end["listed"], lines.len(), "{words:?}");
    (lines, end)
}

/// A conversation as the test knows it.
type Known = (String, String, u16, u16);

/// Protocol, peer, local port and the peer's port.
fn known(flow: &Value) -> Known {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let port = |value: &Value| value.as_u64().unwrap() as u16;
    let peer = text(&flow["peer"]["name"]);
    (text(&flow["protocol"]), peer, port(&flow["local_port"]), port(&flow["peer_port"]))
}

fn bound(site: &Site, host: &str, port: u16) -> UdpSocket {
    let at = SocketAddr::new(site.address(host), port);
    site.namespace(host).run(|| UdpSocket::bind(at)).unwrap().unwrap()
}

fn tcp(site: &Site, from: &str, port: u16) -> (TcpStream, TcpStream) {
    let at = SocketAddr::new(site.address("server"), port);
    let listener = site.namespace("server").run(|| TcpListener::bind(at)).unwrap().unwrap();
    let client = site.namespace(from).run(|| TcpStream::connect(at)).unwrap().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    (&client).write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    (client, server)
}

#[test]
fn each_filter_lists_exactly_the_conversations_that_are_so() {
    let mut site = Site::new("listed", Over::Ethernet, &[WEB, OTHER, BACK, ALSO]);
    site.start();
    assert_eq!(listed(&site, &[]).1["matched"], 0);
    let port = |stream: &TcpStream| stream.local_addr().unwrap().port();
    let one = tcp(&site, "client", 8080);
    let two = tcp(&site, "client", 8081);
    let three = tcp(&site, "stranger", 8080);
    let (server, client) = (bound(&site, "server", 7000), bound(&site, "client", 9000));
    let mut byte = [0];
    server.send_to(b"x", client.local_addr().unwrap()).unwrap();
    client.recv_from(&mut byte).unwrap();
    let asked = bound(&site, "client", 9500);
    asked.send_to(b"x", SocketAddr::new(site.address("server"), 8081)).unwrap();
    let flow = |protocol: &str, peer: &str, local, port| (protocol.to_owned(), peer.to_owned(), local, port);
    let web = flow("tcp", "client", 8080, port(&one.0));
    let other = flow("tcp", "client", 8081, port(&two.0));
    let strange = flow("tcp", "stranger", 8080, port(&three.0));
    let back = flow("udp", "client", 7000, 9000);
    let unanswered = flow("udp", "client", 8081, 9500);
    let all = [&web, &other, &strange, &back, &unanswered];
    let client_address = site.address("client").to_string();
    let prefix = format!("{client_address}/32");
    let of_web = web.3.to_string();
    let cases: &[(&[&str], &[&Known])] = &[
        (&[], &all),
        (&["--with", "client"], &[&web, &other, &back, &unanswered]),
        (&["--with", &client_address], &[&web, &other, &back, &unanswered]),
        (&["--with", &prefix, "--proto", "tcp"], &[&web, &other]),
        (&["--with", "tag:stranger"], &[&strange]),
        (&["--with", "203.0.113.0/24"], &[]),
        (&["--port", "8080"], &[&web, &strange]),
        (&["--port", &of_web], &[&web]),
        (&["--port", "9000"], &[&back]),
        (&["--proto", "udp"], &[&back, &unanswered]),
        (&["--proto", "17", "--port", "8081"], &[&unanswered]),
        (&["--state", "tcp_established"], &[&web, &other, &strange]),
        (&["--state", "udp_unreplied"], &[&back, &unanswered]),
        (&["--interface", "eth0"], &all),
    ];
    let check = |site: &Site| {
        for (words, wanted) in cases {
            let (lines, end) = listed(site, words);
            let found: BTreeSet<Known> = lines.iter().map(known).collect();
            assert_eq!(found, wanted.iter().map(|flow| (*flow).clone()).collect(), "{words:?}");
            assert_eq!((lines.len(), &end["matched"]), (wanted.len(), &wanted.len().into()), "{words:?}");
        }
    };
    check(&site);
    let (lines, _) = listed(&site, &[]);
    for line in &lines {
        let began = if known(line) == back { "egress" } else { "ingress" };
        let rule = if known(line) == web {
            "web"
        } else if known(line) == back {
            "back"
        } else {
            "other"
        };
        assert_eq!(line["direction"], began, "{line}");
        assert!(known(line) == strange || line["rule"]["name"] == rule, "{line}");
        assert_eq!(line["interfaces"], serde_json::json!(["eth0"]), "{line}");
        assert!(line["idle"].as_f64().unwrap() < 30.0, "{line}");
        assert_eq!(line["peer"]["tags"][0].as_str().map(|tag| &tag[4..]), line["peer"]["name"].as_str());
    }
    // For people, what is cut off is said.
    let text = String::from_utf8(site.bulkhead(&["flows", "--limit", "2"]).stdout).unwrap();
    assert!(text.contains("2 of 5 conversations; `--limit 5` lists all"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    let (lines, end) = listed(&site, &["--limit", "2"]);
    assert_eq!((lines.len(), &end["matched"]), (2, &5.into()));
    let text = String::from_utf8(site.bulkhead(&["flows", "--port", &of_web]).stdout).unwrap();
    let row = text.lines().nth(1).unwrap();
    for part in ["peer", "tcp", &format!("client {client_address}:{of_web}"), "tcp_established", "web"] {
        assert!(row.contains(part), "{part}: {row}");
    }
    // What nobody is called is said.
    for wrong in [["--with", "nobody"], ["--interface", "eth9"], ["--proto", "tpc"]] {
        let output = site.bulkhead(&["flows", wrong[0], wrong[1]]);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(wrong[1]), "{output:?}");
    }
    // Without an agent, the same from the pins; what a rule's number means is not known then.
    site.kill();
    check(&site);
    assert!(listed(&site, &[]).0.iter().all(|line| line["rule"].is_null()));
    assert_eq!(site.bulkhead(&["flows", "--with", "nobody"]).status.code(), Some(2));
    site.start();
    check(&site);
    // One that is closed is listed as such.
    drop(one);
    let (lines, _) = listed(&site, &["--port", &of_web]);
    assert_eq!(lines[0]["state"], "tcp_closing", "{lines:?}");
    site.done(&["detach"]);
    assert_eq!(listed(&site, &[]).1["matched"], 0, "there is no table any more");
}

#[test]
fn without_an_agent_the_programs_tell_what_is_in_force() {
    let mut site = Site::new("intime", Over::Ethernet, &[WEB]);
    let base = site.configuration("server", "eth0");
    let configured = |site: &Site, seconds: u32| {
        site.write("agent.toml", &format!("{base}[timeouts]\nudp_unreplied = {seconds}\n"));
    };
    let state = std::path::PathBuf::from(format!("/var/lib/bulkhead/{}", site.instance()));
    let matched = |site: &Site| listed(site, &["--interface", "eth0"]).1["matched"].clone();
    configured(&site, 3);
    site.start();
    let asked = bound(&site, "client", 9500);
    asked.send_to(b"x", SocketAddr::new(site.address("server"), 8080)).unwrap();
    site.kill();
    assert_eq!(matched(&site), 1);
    // Whatever files say by now, and though what was kept of it is gone or says otherwise.
    configured(&site, 3600);
    std::fs::remove_file(state.join("zones.json")).unwrap();
    let number = site.status()["links"][0]["generation"].to_string();
    let made = state.join(format!("generation-{number}/made.json"));
    let kept = std::fs::read_to_string(&made).unwrap();
    std::fs::write(&made, kept.replace("\"enforce\"", "\"audit\"")).unwrap();
    assert_ne!(std::fs::read_to_string(&made).unwrap(), kept);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(matched(&site), 0, "it is over by the programs that run");
    let status = site.status();
    assert_eq!((&status["mode"], &status["state"]), (&"enforce".into(), &"enforced".into()), "{status}");
    std::fs::write(&made, kept).unwrap();
    // Programs of other time-outs take it up.
    site.start();
    assert_eq!(matched(&site), 1);
    configured(&site, 3);
    site.kill();
    assert_eq!(matched(&site), 1);
    // While a staged policy observes, it is what enforces that counts.
    site.start();
    site.done(&["stage", &site.path("policy.hujson")]);
    site.kill();
    configured(&site, 3600);
    assert_eq!(matched(&site), 0);
}

/// Begins as many flows with the server as there are pairs of these ports.
fn begin(sockets: &[UdpSocket], server: IpAddr, ports: std::ops::Range<u16>) {
    for port in ports {
        for socket in sockets {
            // The answer to another one, that nobody listens there, is reported by any call.
            let _ = socket.send_to(b"x", SocketAddr::new(server, port));
        }
    }
}

/// KiB of memory of its own that a process has.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_hundred_thousand_flows_are_listed_while_they_change() {
    let mut site = Site::new("hundred", Over::Ethernet, &[ALL]);
    let config = site.configuration("server", "eth0")
        + "[flows]\ncapacity = 1000000\n[limits]\nnew_flows_per_second = 0\n[timeouts]\nudp_unreplied = 3600\n";
    site.write("agent.toml", &config);
    site.start();
    let server = site.address("server");
    let any = SocketAddr::new(site.address("client"), 0);
    let bind = || (0..200).map(|_| UdpSocket::bind(any).unwrap()).collect::<Vec<_>>();
    let sockets = site.namespace("client").run(bind).unwrap();
    let are_there = |status: &Value| status["unreplied_flows"].as_u64() >= Some(99_990);
    // A burst may overrun a queue on the way: what was lost is sent again.
    for _ in 0..5 {
        begin(&sockets, server, 10_000..10_500);
        if are_there(&site.status()) {
            break;
        }
    }
    site.wait_for("all flows are there", are_there);

    let pid = site.status()["agent"]["pid"].as_u64().unwrap() as u32;
    let before = memory(pid);
    let (stop, most) = (Stop::default(), AtomicU64::new(0));
    let all = std::thread::scope(|scope| {
        let stopping = stop.at_end();
        scope.spawn(|| {
            while !stop.is_over() {
                most.fetch_max(memory(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let began = Instant::now();
        let (lines, end) = listed(&site, &["--limit", "0"]);
        let took = began.elapsed();
        drop(stopping);
        println!(
            "{} flows in {took:?}, {} KiB more than {before}",
            lines.len(),
            most.load(Ordering::Relaxed).saturating_sub(before)
        );
        assert!(took < slower(Duration::from_secs(30)), "{took:?}");
        assert_eq!(end["matched"], lines.len());
        lines
    });
    let grown = most.load(Ordering::Relaxed).saturating_sub(before);
    assert!(grown < 16 << 10, "the agent took {grown} KiB for a list");
    let distinct: BTreeSet<Known> = all.iter().map(known).collect();
    assert_eq!(distinct.len(), all.len(), "none twice while nothing changes");
    assert!(distinct.len() >= 99_990, "{}", distinct.len());
    let (few, end) = listed(&site, &[]);
    assert_eq!(few.len(), 1000, "{end}");
    assert_eq!(end["matched"], all.len());
    assert_eq!(listed(&site, &["--port", "10123"]).0.len(), sockets.len());

    // Flows that begin all the while end no list, and none is endless.
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let _stopping = stop.at_end();
        scope.spawn(|| {
            for port in (20_000..60_000).cycle() {
                if stop.is_over() {
                    break;
                }
                begin(&sockets, server, port..port + 1);
                // Two thousand a second.
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        for _ in 0..2 {
            let began = Instant::now();
            let (lines, _) = listed(&site, &["--limit", "0"]);
            let found: BTreeSet<Known> = lines.iter().map(known).collect();
            assert!(lines.len() < 2 * found.len(), "{} lines of {} flows", lines.len(), found.len());
            // Those that were there before and stay are not missing; a few may move meanwhile.
            let missing = distinct.difference(&found).count();
            assert!(missing < 1000, "{missing} of {} are missing", distinct.len());
            assert!(began.elapsed() < slower(Duration::from_secs(60)), "{:?}", began.elapsed());
        }
    });

    // Who does not read costs neither thread nor memory.
    let before = memory(pid);
    let ask = || {
        let mut stream =
            UnixStream::connect(format!("/run/bulkhead/{}/agent.sock", site.instance())).unwrap();
        write!(stream, "GET /v1/flows?limit=0 HTTP/1.1\r\nhost: b\r\n\r\n").unwrap();
        stream
    };
    let asked: Vec<UnixStream> = (0..30).map(|_| ask()).collect();
    std::thread::sleep(Duration::from_secs(1));
    let grown = memory(pid).saturating_sub(before);
    assert!(grown < 64 << 10, "{} who do not read took {grown} KiB", asked.len());
    let began = Instant::now();
    assert_eq!(site.status()["state"], "enforced");
    assert!(began.elapsed() < slower(Duration::from_secs(5)));
}
