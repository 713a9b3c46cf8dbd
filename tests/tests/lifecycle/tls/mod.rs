//! What begins as TLS and what does not, on real connections of real stacks.

mod software;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use bulkhead_engine::Reason;
use bulkhead_testkit::lab::{self, Process, slower};
use serde_json::Value;

use crate::site::account::{number, packets};
use crate::site::{Over, Site};

const SPEAKS: &str = include_str!("speaks.py");
const ASKS: &str = include_str!("asks.py");

/// Ports on which TLS is required, on which PostgreSQL asks first, and of datagrams; and on which it is observed.
const ACLS: [(&str, &str, &str, &str); 4] = [
    ("required", "8443-8445", "tcp", r#""tls": "required""#),
    ("postgres", "5432-5433", "tcp", r#""tls": "required", "starttls": "postgres""#),
    ("datagrams", "8125", "udp", r#""tls": "required""#),
    ("observed", "8446-8447", "tcp", r#""tls": "observe""#),
];

/// A rule for each, from one end to the other.
fn acls(from: &str, to: &str) -> Vec<String> {
    let rule = |(name, ports, protocol, tls): (&str, &str, &str, &str)| {
        format!(
            r#"{{"name": "{name} {to}", "action": "accept", "src": ["tag:{from}"], "dst": ["tag:{to}:{ports}"], "proto": "{protocol}", {tls}}}"#
        )
    };
    ACLS.map(rule).into()
}

/// Keeps the agent from connecting to the servers itself, which note whatever they are told.
fn without_probes(site: &Site) {
    let config = site.configuration("server", site.interface());
    site.write("agent.toml", &format!("{config}[tls]\nprobe = \"off\"\n"));
}

/// Somebody who speaks, and somebody who asks.
struct Talk<'s> {
    site: &'s Site,
    from: &'static str,
    to: IpAddr,
    directory: String,
    _speaks: Process,
}

impl<'s> Talk<'s> {
    fn new(site: &'s Site, from: &'static str, to_host: &str, to: IpAddr) -> Self {
        let directory = site.path(&format!("tls-{to_host}-{}", if to.is_ipv4() { 4 } else { 6 }));
        fs::create_dir_all(&directory).unwrap();
        let mut certificate = Command::new("openssl");
        certificate.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        certificate.args(["-subj", "/CN=test", "-days", "2"]);
        certificate.args([
            "-keyout",
            &format!("{directory}/key.pem"),
            "-out",
            &format!("{directory}/cert.pem"),
        ]);
        assert!(lab::run_within(&mut certificate, Duration::from_secs(20)).unwrap().status.success());
        fs::write(format!("{directory}/asks.py"), ASKS).unwrap();
        // Data on a SYN, without cookies (ip-sysctl: 0x1, 0x2, 0x4, 0x200).
        for host in [from, to_host] {
            let written = site.namespace(host).run(|| fs::write("/proc/sys/net/ipv4/tcp_fastopen", "519"));
            written.unwrap().unwrap();
        }
        let mut speaks = Command::new("python3");
        speaks.args(["-c", SPEAKS, &to.to_string(), &directory]);
        let log = format!("{directory}/log");
        let process = Process::spawn(site.namespace(to_host), &mut speaks, log.as_ref()).unwrap();
        let deadline = std::time::Instant::now() + slower(Duration::from_secs(20));
        while !process.log().contains("ready") {
            assert!(std::time::Instant::now() < deadline, "{}", process.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { site, from, to, directory, _speaks: process }
    }

    /// What came of one kind of connection to a port.
    fn ask(&self, kind: &str, port: u16) -> String {
        self.ask_all(&[(kind, port, 1)]).remove(0)
    }

    /// What came of each of these kinds to their ports, so many times one after the other. All kinds begin at once.
    fn ask_all(&self, all: &[(&str, u16, u32)]) -> Vec<String> {
        let mut asks = Command::new("python3");
        asks.arg(format!("{}/asks.py", self.directory)).arg(self.to.to_string());
        asks.args(all.iter().map(|(kind, port, count)| format!("{kind}:{port}:{count}")));
        let count: u32 = all.iter().map(|(_, _, count)| count).sum();
        let came = self.run(asks, Duration::from_secs(60 + u64::from(count)));
        let came: Vec<_> = came.lines().map(str::to_owned).collect();
        assert_eq!(came.len(), all.len(), "{came:?}");
        came
    }

    fn run(&self, mut command: Command, limit: Duration) -> String {
        self.site.namespace(self.from).prepare(&mut command).unwrap();
        let output = lab::run_within(&mut command, slower(limit)).unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// What the application on a port was given.
    fn heard(&self, port: u16) -> Vec<u8> {
        fs::read(format!("{}/heard-{port}", self.directory)).unwrap_or_default()
    }

    fn counts(&self, rule: &str) -> Value {
        counts(self.site, rule)
    }
}

/// How a rule's flows began.
fn counts(site: &Site, rule: &str) -> Value {
    let status = site.status();
    let rules = status["agent"]["rule_counters"].as_array().unwrap();
    rules.iter().find(|count| count["name"] == rule).unwrap()["tls"].clone()
}

/// Whether `openssl s_client` of one version makes a connection.
fn by_openssl(site: &Site, from: &str, to: SocketAddr, version: &str) -> bool {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &to.to_string(), version, "-brief"]);
    site.namespace(from).prepare(&mut client).unwrap();
    let output = lab::run_within(&mut client, slower(Duration::from_secs(20))).unwrap();
    [output.stdout, output.stderr]
        .iter()
        .any(|said| String::from_utf8_lossy(said).contains("CONNECTION ESTABLISHED"))
}

/// All of it between two ends: its kind, its port, how often, and what must come of it.
const TALKS: [(&str, u16, u32, &str); 16] = [
    ("tls12", 8443, 1, "tls 1"),
    ("tls13", 8443, 1, "tls 1"),
    ("bytewise", 8443, 1, "tls 1"),
    ("large", 8443, 1, "tls 1"),
    ("fast", 8443, 3, "tls 3"),
    ("plain", 8444, 1, "silence 1"),
    ("plain-bytewise", 8444, 1, "silence 1"),
    ("plain-fast", 8444, 1, "silence 1"),
    ("plain-fast", 8444, 1, "silence 1"),
    ("listen", 8445, 1, "silence 1"),
    // A server of TLS.
    ("plain", 8443, 1, "silence 1"),
    ("postgres", 5432, 1, "tls 1"),
    ("postgres", 5433, 1, "silence 1"),
    ("datagram", 8125, 3, "sent 3"),
    // Observed, both pass.
    ("tls13", 8446, 1, "tls 1"),
    ("plain", 8447, 1, "answered 1"),
];

fn talks(talk: &Talk<'_>, to_host: &str) {
    let before = number(&talk.counts(&format!("required {to_host}"))["began"]);
    let came = talk.ask_all(&TALKS.map(|(kind, port, count, _)| (kind, port, count)));
    for (came, (kind, port, _, wanted)) in came.iter().zip(TALKS) {
        assert_eq!(came, wanted, "{kind} to {port}, {}", talk.to);
    }
    let at = SocketAddr::new(talk.to, 8443);
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(by_openssl(talk.site, talk.from, at, version), "{at} {version}");
    }
    for port in [8444, 8445, 5433, 8125] {
        assert_eq!(talk.heard(port), b"", "{port} {}: an application was told something", talk.to);
    }
    assert!(talk.heard(8447).starts_with(b"GET"));
    let began = number(&talk.counts(&format!("required {to_host}"))["began"]) - before;
    // Seven that TALKS has, and both of openssl.
    assert_eq!(began, 9, "{}", talk.to);
}

#[test]
fn what_has_to_begin_as_tls_does_or_no_byte_of_it_arrives() {
    for over in [Over::Ethernet, Over::Tunnel] {
        let acls = [acls("client", "server"), acls("server", "client")].concat();
        let acls: Vec<&str> = acls.iter().map(String::as_str).collect();
        let mut site = Site::dual("tls", over, &acls, &[]);
        without_probes(&site);
        site.start();
        // Either end may be the client.
        for (from, to) in [("client", "server"), ("server", "client")] {
            let addresses = site.addresses(to);
            for (round, address) in (1..).zip(&addresses) {
                let talk = Talk::new(&site, from, to, *address);
                talks(&talk, to);
                let observed = talk.counts(&format!("observed {to}"));
                let counted = ["began", "plaintext", "unverified"].map(|word| number(&observed[word]));
                assert_eq!(counted, [round, round, 0], "{observed}");
                let required = talk.counts(&format!("required {to}"));
                assert_eq!((&required["mode"], number(&required["unverified"])), (&"required".into(), 0));
                assert!(number(&required["plaintext"]) >= 4 * round, "{required}");
            }
        }
        let status = site.status();
        assert!(packets(&status, Reason::NotTls) > 0, "{status}");
        let text = String::from_utf8(site.bulkhead(&["status"]).stdout).unwrap();
        assert!(text.contains("flows began as TLS"), "{text}");
    }
}

#[test]
fn no_handshake_is_dropped_by_mistake() {
    let count = std::env::var("BULKHEAD_HANDSHAKES").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let acls = acls("client", "server");
    let acls: Vec<&str> = acls.iter().map(String::as_str).collect();
    let mut site = Site::dual("shakes", Over::Ethernet, &acls, &[]);
    without_probes(&site);
    site.start();
    let address = site.addresses("server")[0];
    let talk = Talk::new(&site, "client", "server", address);
    let kinds = [("tls13", 8443), ("tls12", 8443), ("bytewise", 8443), ("postgres", 5432)];
    let came = talk.ask_all(&kinds.map(|(kind, port)| (kind, port, count / 4)));
    assert_eq!(came, [(); 4].map(|()| format!("tls {}", count / 4)), "{kinds:?}");
    let counts = [talk.counts("required server"), talk.counts("postgres server")];
    let sum = |word: &str| counts.iter().map(|count| number(&count[word])).sum::<u64>();
    assert_eq!([sum("began"), sum("plaintext"), sum("unverified")], [u64::from(count / 4 * 4), 0, 0]);
    assert_eq!(packets(&site.status(), Reason::NotTls), 0);
}

#[test]
fn connections_that_were_open_before_go_on_and_are_counted() {
    let open = acls("client", "server").remove(3);
    let free = open.replace(r#", "tls": "observe""#, "");
    let mut site = Site::new("tlsopen", Over::Ethernet, &[&free]);
    without_probes(&site);
    site.start();
    let address = site.address("server");
    let talk = Talk::new(&site, "client", "server", address);
    let go_on = site.path("go-on");
    let mut slow = Command::new("python3");
    let script = format!(
        "import os, socket, time\nc = socket.create_connection(('{address}', 8447))\nc.sendall(b'before')\n\
         c.recv(99)\nprint('open', flush=True)\n\
         while not os.path.exists('{go_on}'): time.sleep(0.02)\nc.sendall(b'after')\nprint(c.recv(99))"
    );
    slow.args(["-c", &script]);
    let log = site.path("slow");
    let mut asks = Process::spawn(site.namespace("client"), &mut slow, log.as_ref()).unwrap();
    while !asks.log().contains("open") {
        std::thread::sleep(Duration::from_millis(20));
    }
    site.write_policy(&[&open.replace(r#""observe""#, r#""required""#)]);
    site.done(&["apply", &site.path("policy.hujson")]);
    site.write("go-on", "");
    assert!(asks.wait(slower(Duration::from_secs(20))).unwrap().success());
    assert!(asks.log().contains("plain: after"), "{}", asks.log());
    assert_eq!(number(&talk.counts("observed server")["unverified"]), 1);
    assert_eq!(talk.ask("plain", 8447), "silence 1", "another one is not");
}
