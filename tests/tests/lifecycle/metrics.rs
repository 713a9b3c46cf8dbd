//! Metrics: what Prometheus is told is what `status` tells, in a form that promtool accepts.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::site::{Over, Site, WEB};

/// Where the server's agent serves them, in its own namespace.
const AT: &str = "127.0.0.1:9465";

fn get(site: &Site, path: &str) -> (String, String) {
    let ask = || {
        let mut stream = TcpStream::connect(AT).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = site.namespace("server").run(ask).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Runs promtool; what it said.
fn promtool(arguments: &[&str], input: &str) -> Result<(), String> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// Samples by their name and labels, the labels in the order of their names.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

#[test]
fn metrics_are_what_status_tells_and_prometheus_takes() {
    let mut site = Site::new("metrics", Over::Ethernet, &[WEB]);
    let config = site.configuration("server", "eth0") + &format!("[metrics]\nlisten = \"{AT}\"\n");
    site.write("agent.toml", &config);
    site.start();
    let mut connection = site.connect("client", 8080);
    connection.goes_on();
    let at = SocketAddr::new(site.address("server"), 8080);
    let send = || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", at).unwrap();
    (0..7).for_each(|_| assert_eq!(site.namespace("stranger").run(send).unwrap(), 1));
    site.wait_for("seven drops", |status| {
        let reasons = status["reasons"].as_array().unwrap();
        reasons.iter().any(|count| count["reason"] == "no_rule" && count["packets"].as_u64() >= Some(7))
    });
    std::thread::sleep(Duration::from_millis(1100));
    let status = site.status();
    let (head, text) = get(&site, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    promtool(&["check", "metrics"], &text).unwrap_or_else(|said| panic!("{said}\n{text}"));
    let found = samples(&text);
    let of = |name: &str| *found.get(name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    // Counters of programs go on meanwhile, upwards.
    for count in status["reasons"].as_array().unwrap() {
        let (direction, reason) = (count["direction"].as_str().unwrap(), count["reason"].as_str().unwrap());
        let verdict = if matches!(reason, "rule" | "reply") { "pass" } else { "drop" };
        if !matches!(reason, "rule" | "reply" | "no_rule") {
            continue;
        }
        let name = format!(
            "bulkhead_packets_total{{direction=\"{direction}\",verdict=\"{verdict}\",reason=\"{reason}\"}}"
        );
        assert!(of(&name) >= count["packets"].as_f64().unwrap(), "{name}");
    }
    assert_eq!(of("bulkhead_generation"), status["agent"]["generation"].as_f64().unwrap());
    assert_eq!(of("bulkhead_state{state=\"enforced\"}") + of("bulkhead_state{state=\"degraded\"}"), 1.0);
    assert_eq!(of("bulkhead_interface_attached{interface=\"eth0\"}"), 1.0);
    assert_eq!(of("bulkhead_unenforced_seconds_total{interface=\"eth0\"}"), 0.0);
    assert!(of("bulkhead_rule_packets_total{rule=\"1\",name=\"web\"}") >= 1.0);
    assert!(of("bulkhead_policy_applied_timestamp_seconds") > 1.7e9);
    assert!(of("bulkhead_flows{state=\"established\"}") + of("bulkhead_flows{state=\"unreplied\"}") >= 0.0);
    assert!(get(&site, "/v1/status").0.starts_with("HTTP/1.1 404"), "metrics alone are served there");

    // Whoever asks a thousand times costs as much as who asks once: what they get is the same for a second.
    let asked = Instant::now();
    let distinct: std::collections::BTreeSet<String> = (0..300).map(|_| get(&site, "/metrics").1).collect();
    let seconds = asked.elapsed().as_secs() as usize + 2;
    assert!(distinct.len() <= seconds, "{} renderings in {seconds} s", distinct.len());

    // A time without enforcement is counted.
    assert_eq!(of("bulkhead_unenforced_seconds_total{interface=\"guard\"}"), 0.0);
    let mut nft = Command::new("nft");
    nft.args(["delete", "table", "inet", &format!("bulkhead-{}", site.instance())]);
    assert!(site.namespace("server").run(|| nft.status()).unwrap().unwrap().success());
    site.wait_for("the guard is back", |status| status["agent"]["unenforced"]["guard"].as_f64() > Some(0.0));
    std::thread::sleep(Duration::from_millis(1100));
    let text = get(&site, "/metrics").1;
    let restored = samples(&text)["bulkhead_unenforced_seconds_total{interface=\"guard\"}"];
    assert!(restored > 0.0 && restored < 60.0, "{restored}");
}

#[test]
fn alert_rules_hold_and_the_dashboard_asks_for_metrics_that_are_there() {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring");
    for check in [&["check", "rules"], &["test", "rules"]] {
        let file = if check[0] == "check" { "alerts.yml" } else { "alerts_test.yml" };
        promtool(&[check[0], check[1], &format!("{shared}/{file}")], "")
            .unwrap_or_else(|said| panic!("{said}"));
    }
    let code = include_str!("../../../agent/src/daemon/server/metrics.rs");
    let quoted = |call: &'static str| {
        let calls = code.split(call).skip(1);
        calls.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
    };
    let names: Vec<&str> = quoted("metrics.gauge(").chain(quoted("metrics.counter(")).collect();
    assert!(names.len() > 15, "{names:?}");
    for file in ["alerts.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(format!("{shared}/{file}")).unwrap();
        let used = text.split("bulkhead_").skip(1).map(|rest| {
            rest.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_').next().unwrap()
        });
        for name in used {
            let name = name.strip_suffix("_total").unwrap_or(name);
            assert!(names.contains(&name), "{file}: bulkhead_{name} is no metric");
        }
    }
    let dashboard = std::fs::read_to_string(format!("{shared}/dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() >= 6);
}
