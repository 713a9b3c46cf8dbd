//! TLS probes against real servers: what ports begin with, what they present, and that nobody else notices.

pub mod servers;

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::{self, slower};
use serde_json::{Value, json};

use self::servers::{Certificates, Servers};
use crate::site::account::reports;
use crate::site::{Over, Site, WEB};
use crate::workloads::World;

/// Lets the client use the server's port 8443, by TLS alone.
const REQUIRED: &str = r#"{"name": "secure", "action": "accept", "src": ["tag:client"], "proto": "tcp",
    "dst": ["tag:server:8443"], "tls": "required"}"#;

/// A command's answer and its exit code.
fn asked(site: &Site, words: &[&str]) -> (Option<i32>, Value) {
    let output = site.bulkhead(&[words, &["--json"]].concat());
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), answer)
}

/// What was found at a port.
fn at(answer: &Value, port: u16) -> &Value {
    let ports = answer["ports"].as_array().unwrap();
    let is_it = |found: &&Value| {
        let address = found["address"].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        found["port"] == port || address.is_some_and(|address| address.port() == port)
    };
    ports.iter().find(is_it).unwrap_or_else(|| panic!("no {port} in {answer:#}"))
}

/// Waits until a round of probes has ended that began after now.
fn after_a_round(site: &mut Site) -> Value {
    let last = site.status()["agent"]["tls"]["last"].clone();
    site.wait_for("a round of probes", |status| {
        let now = &status["agent"]["tls"]["last"];
        now.is_string() && *now != last
    })
}

#[test]
fn ports_are_told_by_what_they_begin_with_and_present() {
    let mut site = Site::dual("tlsscan", Over::Tunnel, &[WEB], &[]);
    let of = Certificates::make(&site);
    site.start();
    let mut servers = Servers::start(
        &site,
        &[
            "8000 tls TLSv1_2 CERT_NONE good",
            "8001 tls TLSv1_2 CERT_OPTIONAL good",
            "8002 tls TLSv1_2 CERT_REQUIRED good",
            "8003 tls TLSv1_3 CERT_NONE good",
            "8004 tls TLSv1_3 CERT_OPTIONAL good",
            "8005 tls TLSv1_3 CERT_REQUIRED good",
            "8006 tls TLSv1_3 CERT_NONE expired",
            "8007 tls TLSv1_3 CERT_NONE early",
            "9100 http",
            "2222 ssh",
            "7777 silent",
        ],
    );
    let good = site.path("good.pem");
    let authority = site.path("authority.pem");
    let of_openssl = ["-cert", &good, "-key", &good, "-CAfile", &authority, "-quiet"];
    servers.openssl(&site, 8008, &[&of_openssl[..], &["-Verify", "1", "-tls1_3"]].concat());
    servers.openssl(&site, 8009, &[&of_openssl[..], &["-Verify", "1", "-tls1_2"]].concat());
    servers.openssl(&site, 8010, &[&of_openssl[..], &["-verify", "1", "-tls1_3"]].concat());
    servers.nginx(&site, 8011, "ssl_verify_client on");
    servers.nginx(&site, 8012, "ssl_verify_client optional");
    servers.postgres(&site);

    let (code, answer) = asked(&site, &["tls", "scan", "--ca", &authority]);
    println!("{}", String::from_utf8_lossy(&site.bulkhead(&["tls", "scan", "--ca", &authority]).stdout));
    for (port, version, demands) in [
        (8000, "TLS 1.2", "not_asked"),
        (8001, "TLS 1.2", "optional"),
        (8002, "TLS 1.2", "demanded"),
        (8003, "TLS 1.3", "not_asked"),
        (8004, "TLS 1.3", "optional"),
        (8005, "TLS 1.3", "demanded"),
        (8008, "TLS 1.3", "demanded"),
        (8009, "TLS 1.2", "demanded"),
        (8010, "TLS 1.3", "optional"),
        // nginx ends the handshake without a certificate, and answers requests with 400.
        (8011, "TLS 1.3", "optional"),
        (8012, "TLS 1.3", "optional"),
    ] {
        let found = at(&answer, port);
        assert_eq!((&found["began"], &found["version"]), (&json!("tls"), &json!(version)), "{found:#}");
        assert_eq!(found["client_certificate"], demands, "{port}: {found:#}");
        assert_eq!(found["chain"][0]["spiffe"], json!(["spiffe://bank.example/oms"]), "{found:#}");
        assert_eq!(found["chain"][0]["not_after"], of.good_until, "{found:#}");
        assert_eq!(
            (&found["holds_key"], &found["trust"]["problem"]),
            (&json!(true), &Value::Null),
            "{found:#}"
        );
    }
    for port in [8006, 8007] {
        let found = at(&answer, port);
        assert!(found["began"] == "tls" && found["trust"]["problem"].is_string(), "{found:#}");
    }
    for (port, looks_like) in [(9100, "http"), (2222, "ssh")] {
        let found = at(&answer, port);
        assert_eq!((&found["began"], &found["looks_like"]), (&json!("plaintext"), &json!(looks_like)));
        assert_eq!(found["process"]["name"], "python3", "{found:#}");
    }
    let silent = at(&answer, 7777);
    assert!(silent["began"] == "unknown" && silent["problem"].as_str().unwrap().contains("no answer"));
    assert!(
        !answer.to_string().contains("token-4711"),
        "what is said in plaintext is not repeated: {answer}"
    );
    assert_eq!(code, Some(1));

    // What is named is scanned, by IPv6 as well, and by the server's own protocol.
    let [v4, v6] = [0, 1].map(|index| site.addresses("server")[index]);
    let at_v6 = SocketAddr::new(v6, 8005).to_string();
    let (code, answer) = asked(&site, &["tls", "scan", &at_v6, "--ca", &authority]);
    assert_eq!(
        (code, &answer["ports"][0]["client_certificate"]),
        (Some(0), &json!("demanded")),
        "{answer:#}"
    );
    let postgres = SocketAddr::new(v4, 5432).to_string();
    let (code, answer) = asked(&site, &["tls", "scan", &postgres, "--starttls", "postgres"]);
    assert_eq!((code, &answer["ports"][0]["began"]), (Some(0), &json!("tls")), "{answer:#}");
    assert_eq!(answer["ports"][0]["chain"][0]["spiffe"][0], "spiffe://bank.example/oms");
    let (code, answer) = asked(&site, &["tls", "scan", &postgres]);
    assert_eq!((code, &answer["ports"][0]["chain"]), (Some(1), &Value::Null), "{answer:#}");
    // Nobody listens there.
    let nobody = SocketAddr::new(v4, 6666).to_string();
    let (code, answer) = asked(&site, &["tls", "scan", &nobody]);
    assert!(code == Some(1) && answer["ports"][0]["problem"].is_string(), "{answer:#}");
    // No packet of these went by the overlay.
    let status = site.status();
    assert_eq!((&status["established_flows"], &status["unreplied_flows"]), (&json!(0), &json!(0)));
}

#[test]
fn the_agent_probes_what_rules_name_and_nobody_else_notices() {
    let mut site = Site::dual("tlswatch", Over::Tunnel, &[WEB, REQUIRED], &[]);
    let of = Certificates::make(&site);
    let files = format!("files = [{:?}, {:?}]", site.path("good.pem"), "expired.pem");
    let config = site.configuration("server", site.interface());
    let tls = format!("[tls]\nprobe_seconds = 10\n{files}\nca = \"authority.pem\"\n");
    site.write(
        "agent.toml",
        &format!("{config}[history]\nflows_seconds = 1\n[metrics]\nlisten = \"127.0.0.1:9465\"\n{tls}"),
    );
    let servers = Servers::start(&site, &["8443 tls TLSv1_3 CERT_REQUIRED good", "8080 http", "9100 http"]);
    site.start();
    let status = after_a_round(&mut site);
    let found = &status["agent"]["tls"];
    assert_eq!(found["probes"].as_array().unwrap().len(), 1, "one socket: {found:#}");
    assert_eq!(found["probes"][0]["client_certificate"], "demanded", "{found:#}");
    assert_eq!(found["files"][0]["certificates"][0]["not_after"], of.good_until, "{found:#}");
    assert_eq!(servers.accepted(8080) + servers.accepted(9100), 0, "no rule with `tls` names them");
    assert_eq!(servers.accepted(8443), 1);

    // The table of all ports: what is probed, and what is not.
    let (code, answer) = asked(&site, &["tls", "coverage"]);
    println!("{}", String::from_utf8_lossy(&site.bulkhead(&["tls", "coverage"]).stdout));
    let secure = at(&answer, 8443);
    assert_eq!((&secure["is_required"], &secure["began"]), (&json!(true), &json!("tls")), "{secure:#}");
    assert_eq!(secure["addresses"].as_array().unwrap().len(), 2, "{secure:#}");
    assert_eq!(secure["certificate"]["spiffe"][0], "spiffe://bank.example/oms");
    let exporter = at(&answer, 9100);
    assert_eq!(
        (&exporter["began"], &exporter["process"]),
        (&json!("unknown"), &json!("python3")),
        "{exporter:#}"
    );
    assert_eq!(code, Some(0), "{answer:#}");

    // In metrics, as Prometheus takes them.
    std::thread::sleep(Duration::from_millis(1100));
    let metrics = site.bulkhead_metrics();
    let address = SocketAddr::new(site.address("server"), 8443);
    for wanted in [
        format!("bulkhead_tls_client_certificate_demanded{{address=\"{address}\"}} 1"),
        format!("bulkhead_tls_probe_began{{address=\"{address}\"}} 1"),
        format!("bulkhead_tls_probe_failed{{address=\"{address}\"}} 0"),
        format!("bulkhead_tls_file_up{{file=\"{}\"}} 1", site.path("good.pem")),
    ] {
        assert!(metrics.contains(&wanted), "{wanted} in\n{metrics}");
    }
    assert!(metrics.contains("bulkhead_tls_not_after_timestamp_seconds{"), "{metrics}");

    // Nothing of it is in what is recorded of others; the expiry watch has heard of the file.
    let kinds = ["drop", "alarm", "allowed"];
    let told: Vec<Value> = reports(&site.journal_file())
        .into_iter()
        .filter(|report| kinds.iter().any(|kind| report["kind"] == *kind))
        .collect();
    let alarms: Vec<(&Value, &Value)> = told.iter().map(|of| (&of["alarm"], &of["names"][0])).collect();
    let name = format!("spiffe://bank.example/oms in {}", site.path("expired.pem"));
    assert_eq!(alarms, [(&json!("expiry"), &json!(name))], "{told:?}");
    assert_eq!(flows(&site), 0);
    let used = site.bulkhead(&["suggest"]);
    let used = String::from_utf8_lossy(&used.stdout).into_owned();
    assert!(!used.contains("8443"), "{used}");

    // A file that goes is told of, and what it held stays known.
    std::fs::remove_file(site.path("good.pem")).unwrap();
    let status = site
        .wait_for("a file is missed", |status| status["agent"]["warnings"].to_string().contains("good.pem"));
    assert!(status["agent"]["tls"]["files"][0]["problem"].is_string(), "{status}");
    assert_eq!(status["agent"]["tls"]["files"][0]["certificates"][0]["not_after"], of.good_until);
}

#[test]
fn all_ports_are_probed_where_that_is_asked_for() {
    let mut site = Site::new("tlsall", Over::Tunnel, &[WEB]);
    Certificates::make(&site);
    let config = site.configuration("server", site.interface());
    site.write("agent.toml", &format!("{config}[tls]\nprobe = \"all\"\nprobe_seconds = 10\n"));
    let servers = Servers::start(
        &site,
        &[
            "8443 tls TLSv1_2 CERT_OPTIONAL good",
            "8444 tls TLSv1_3 CERT_NONE expired",
            "9100 http",
            "7777 silent",
        ],
    );
    site.start();
    after_a_round(&mut site);
    let output = site.bulkhead(&["tls", "coverage"]);
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
    let line =
        |port: &str| text.lines().find(|line| line.starts_with(port)).unwrap_or_else(|| panic!("{text}"));
    assert!(
        line("9100/tcp").contains("python3") && line("9100/tcp").contains("plaintext (http), probed"),
        "{text}"
    );
    assert!(
        line("8443/tcp").contains("optional") && line("8443/tcp").contains("began as TLS, probed"),
        "{text}"
    );
    assert!(line("8443/tcp").ends_with("spiffe://bank.example/oms"), "{text}");
    assert!(line("8444/tcp").contains("expired 20"), "{text}");
    assert!(line("7777/tcp").contains("unknown"), "{text}");
    assert!(
        text.ends_with("4 service ports: 2 began as TLS, 1 unknown, 1 plaintext: 9100/tcp (python3); 1 certificate not valid now\n"),
        "{text}"
    );
    // A silent service keeps nothing from being enforced.
    let began = Instant::now();
    site.done(&["apply"]);
    assert!(began.elapsed() < slower(Duration::from_secs(20)));
    assert!(servers.accepted(9100) >= 1);

    // The pack has the same, and the page says it.
    let pack = site.path("pack.json");
    site.done(&["review", "--since", "60s", "--json", "--output", &pack]);
    let pack: Value = serde_json::from_slice(&std::fs::read(pack).unwrap()).unwrap();
    assert_eq!(at(&pack["tls"], 9100)["began"], "plaintext", "{}", pack["tls"]);
    let page = site.path("pack.html");
    site.done(&["review", "--since", "60s", "--output", &page]);
    let page = std::fs::read_to_string(page).unwrap();
    for words in
        ["1 service port in plaintext", "9100/tcp", "python3", "spiffe://bank.example/oms", "presented"]
    {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn sockets_of_workloads_are_not_probed_and_nothing_is_told_of_the_others() {
    let mut world = World::with_lo("tlsload");
    let config = std::fs::read_to_string(world.site.path("agent.toml")).unwrap();
    world.site.write("agent.toml", &format!("{config}[tls]\nprobe = \"all\"\nprobe_seconds = 10\n"));
    let (mut engine, _backup, mut other) = world.start();
    assert!(engine.ask("listen tcp 0.0.0.0:9090 engine") == "listening");
    assert!(other.ask("listen tcp 0.0.0.0:9091 other") == "listening");
    let status = after_a_round(&mut world.site);
    let probes = status["agent"]["tls"]["probes"].as_array().unwrap().clone();
    let addresses: Vec<&str> = probes.iter().map(|probe| probe["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["100.64.0.1:9091"], "{probes:?}");
    let (_, answer) = asked(&world.site, &["tls", "coverage"]);
    let of_engine = at(&answer, 9090);
    assert_eq!(of_engine["workload"], "server/engine", "{of_engine:#}");
    assert!(of_engine["why"].as_str().unwrap().contains("workload"), "{of_engine:#}");
    let told: Vec<Value> = reports(&world.site.journal_file())
        .into_iter()
        .filter(|report| report["kind"] == "drop" || report["kind"] == "alarm")
        .collect();
    assert_eq!(told, Vec::<Value>::new());
    assert_eq!(flows(&world.site), 0);
}

#[test]
fn what_is_asked_wrongly_is_said() {
    let mut site = Site::new("tlsask", Over::Tunnel, &[WEB]);
    let code = |words: &[&str]| {
        let output = site.bulkhead(words);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (exit, said) = code(&["tls", "coverage"]);
    assert!(exit == Some(2) && said.contains("tls scan"), "{said}");
    let (exit, said) = code(&["tls", "scan"]);
    assert!(exit == Some(2) && said.contains("name ADDRESS:PORT"), "{said}");
    assert_eq!(code(&["tls", "scan", "nowhere"]).0, Some(2));
    assert_eq!(code(&["tls", "scan", "127.0.0.1:1", "--starttls", "gopher"]).0, Some(2));
    let (exit, said) = code(&["tls", "scan", "127.0.0.1:1", "--ca", "/nowhere"]);
    assert!(exit == Some(2) && said.contains("/nowhere"), "{said}");
    for (tls, words) in [
        ("probe = \"some\"", "unknown variant `some`"),
        ("probe_seconds = 1", "probe_seconds: 1 is not between 10 and 86400"),
        ("files = [\"a\", \"a\"]", "twice"),
        ("file = \"a\"", "file"),
    ] {
        let config = site.configuration("server", site.interface());
        site.write("agent.toml", &format!("{config}[tls]\n{tls}\n"));
        site.launch();
        assert_eq!(site.exit_code(), Some(2), "{}", site.log());
        assert!(site.log().contains(words), "{}", site.log());
    }
}

/// How many conversations are tracked on the host.
fn flows(site: &Site) -> usize {
    let output = site.bulkhead(&["flows", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| line.contains("\"kind\":\"flow\"")).count()
}

trait Scraped {
    fn bulkhead_metrics(&self) -> String;
}

impl Scraped for Site {
    /// Metrics as the agent serves them, which promtool takes.
    fn bulkhead_metrics(&self) -> String {
        let ask = || {
            use std::io::{Read as _, Write as _};
            let mut stream = TcpStream::connect("127.0.0.1:9465").unwrap();
            write!(stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.split_once("\r\n\r\n").unwrap().1.to_owned()
        };
        let text = self.namespace("server").run(ask).unwrap();
        let file = self.path("metrics");
        std::fs::write(&file, &text).unwrap();
        let mut check = Command::new("sh");
        check.args(["-c", &format!("promtool check metrics < {file}")]);
        let output = lab::run_within(&mut check, slower(Duration::from_secs(20))).unwrap();
        assert!(output.status.success(), "{output:?}");
        text
    }
}
