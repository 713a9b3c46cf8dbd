//! What begins as TLS and what does not, on real connections of real stacks.

use std::fs;
use std::net::IpAddr;
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

    fn ask(&self, kind: &str, port: u16, count: u32) -> String {
        let mut asks = Command::new("python3");
        asks.arg(format!("{}/asks.py", self.directory));
        asks.args([kind, &self.to.to_string(), &port.to_string(), &count.to_string()]);
        self.run(asks, Duration::from_secs(60 + u64::from(count)))
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

    /// By `openssl s_client`, of one version.
    fn by_openssl(&self, version: &str) -> bool {
        let host = if self.to.is_ipv4() { self.to.to_string() } else { format!("[{}]", self.to) };
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &format!("{host}:8443"), version, "-brief"]);
        self.run(client, Duration::from_secs(20)).contains("CONNECTION ESTABLISHED")
    }

    fn counts(&self, rule: &str) -> Value {
        let status = self.site.status();
        let rules = status["agent"]["rule_counters"].as_array().unwrap();
        rules.iter().find(|count| count["name"] == rule).unwrap()["tls"].clone()
    }
}

/// All of it between two ends; what has begun as TLS, how much in plaintext.
fn talks(talk: &Talk<'_>, to_host: &str) {
    let is_tls = ["tls12", "tls13", "bytewise", "large", "fast", "fast", "fast"];
    for kind in is_tls {
        assert_eq!(talk.ask(kind, 8443, 1), "tls", "{kind} {}", talk.to);
    }
    assert!(talk.by_openssl("-tls1_2") && talk.by_openssl("-tls1_3"), "{}", talk.to);
    for (kind, port) in [
        ("plain", 8444),
        ("plain-bytewise", 8444),
        ("plain-fast", 8444),
        ("plain-fast", 8444),
        ("listen", 8445),
    ] {
        assert_eq!(talk.ask(kind, port, 1), "silence", "{kind} {}", talk.to);
    }
    assert_eq!(talk.ask("plain", 8443, 1), "silence", "to a server of TLS");
    assert_eq!(
        (talk.ask("postgres", 5432, 1), talk.ask("postgres", 5433, 1)),
        ("tls".into(), "silence".into())
    );
    assert_eq!(talk.ask("datagram", 8125, 3), "sent 3");
    for port in [8444, 8445, 5433, 8125] {
        assert_eq!(talk.heard(port), b"", "{port} {}: an application was told something", talk.to);
    }
    let (before, after) =
        (number(&talk.counts(&format!("required {to_host}"))["began"]), is_tls.len() as u64 + 2);
    assert!(before >= after, "{before} {after}");
    // Observed, both pass.
    assert_eq!((talk.ask("tls13", 8446, 1), talk.ask("plain", 8447, 1)), ("tls".into(), "answered".into()));
    assert!(talk.heard(8447).starts_with(b"GET"));
}

#[test]
fn what_has_to_begin_as_tls_does_or_no_byte_of_it_arrives() {
    for over in [Over::Ethernet, Over::Tunnel] {
        let acls = [acls("client", "server"), acls("server", "client")].concat();
        let acls: Vec<&str> = acls.iter().map(String::as_str).collect();
        let mut site = Site::dual("tls", over, &acls, &[]);
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
    site.start();
    let address = site.addresses("server")[0];
    let talk = Talk::new(&site, "client", "server", address);
    for (kind, port) in [("tls13", 8443), ("tls12", 8443), ("bytewise", 8443), ("postgres", 5432)] {
        assert_eq!(talk.ask(kind, port, count / 4), format!("tls {}", count / 4), "{kind}");
    }
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
    site.start();
    let address = site.address("server");
    let talk = Talk::new(&site, "client", "server", address);
    let mut slow = Command::new("python3");
    let script = format!(
        "import socket, sys, time\nc = socket.create_connection(('{address}', 8447))\nc.sendall(b'before')\n\
         c.recv(99)\nprint('open', flush=True)\ntime.sleep(6)\nc.sendall(b'after')\nprint(c.recv(99))"
    );
    slow.args(["-c", &script]);
    let log = site.path("slow");
    let mut asks = Process::spawn(site.namespace("client"), &mut slow, log.as_ref()).unwrap();
    while !asks.log().contains("open") {
        std::thread::sleep(Duration::from_millis(20));
    }
    site.write_policy(&[&open.replace(r#""observe""#, r#""required""#)]);
    site.done(&["apply", &site.path("policy.hujson")]);
    assert!(asks.wait(slower(Duration::from_secs(20))).unwrap().success());
    assert!(asks.log().contains("plain: after"), "{}", asks.log());
    assert_eq!(number(&talk.counts("observed server")["unverified"]), 1);
    assert_eq!(talk.ask("plain", 8447, 1), "silence", "another one is not");
}
