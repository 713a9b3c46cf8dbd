//! What the event log shows a stranger: that enforcement was on, that every drop is told of, and that nothing was
//! altered.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_testkit::measure::bpf;
use bulkhead_tlog::Reader;
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{OTHER, Over, Site, WEB};

/// Answers of `audit`, and whether it was well.
fn audit(site: &Site, words: &[&str]) -> (Value, Option<i32>) {
    let output = site.bulkhead(&[&["audit"], words, &["--json"]].concat());
    let answer = serde_json::from_slice(&output.stdout);
    (answer.unwrap_or_else(|error| panic!("{words:?}: {error}: {output:?}")), output.status.code())
}

/// Lines of `audit show`.
fn shown(site: &Site, words: &[&str]) -> Vec<Value> {
    // More than a pipe has room for.
    let words = [&["--instance", site.instance(), "audit", "show", "--json"], words].concat();
    let output = site.command().args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// A site whose agent attests every second.
fn site(label: &str) -> Site {
    let site = Site::new(label, Over::Ethernet, &[WEB]);
    site.write("agent.toml", &(site.configuration("server", "eth0") + "[events]\nattest_seconds = 1\n"));
    site
}

/// Datagrams of the stranger to so many ports.
fn knock(site: &Site, ports: std::ops::Range<u16>) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = site.namespace("stranger").run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for port in ports {
        socket.send_to(b"?", SocketAddr::new(site.address("server"), port)).unwrap();
    }
}

/// Waits until the log has so many more records of a kind, and they are signed.
fn wait_for_more(site: &Site, kind: &str, more: usize) {
    let log = site.journal_file();
    let numbers = || {
        let of_kind = |(number, report): (u64, Value)| (report["kind"] == kind).then_some(number);
        (0..).zip(reports(&log)).filter_map(of_kind).collect::<Vec<u64>>()
    };
    let enough = numbers().len() + more;
    for _ in 0..600 {
        let signed = Reader::open(&log).map_or(0, |log| log.checkpoint().size);
        if numbers().get(enough - 1).is_some_and(|&last| last < signed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("not {enough} of {kind}: {}", site.log());
}

#[test]
fn a_stranger_sees_that_enforcement_was_on_and_that_every_drop_is_told_of() {
    let mut site = site("evidence");
    site.start();
    wait_for_more(&site, "balance", 1);
    knock(&site, 1000..1200);
    wait_for_more(&site, "balance", 3);
    site.write_policy(&[WEB, OTHER]);
    site.done(&["apply"]);
    wait_for_more(&site, "coverage", 2);

    let (balance, code) = audit(&site, &["balance"]);
    assert_eq!((code, balance["faults"].as_array().unwrap().len()), (Some(0), 0), "{balance}");
    assert!(balance["told"].as_u64().unwrap() >= 200 && balance["lost"] == 0, "{balance}");
    let (coverage, code) = audit(&site, &["coverage"]);
    assert_eq!(code, Some(0), "{coverage}");
    let enforced = coverage["enforced"].as_array().unwrap();
    let last = enforced.last().unwrap();
    let digest =
        std::process::Command::new("sha256sum").arg(site.path("policy.hujson")).output().unwrap().stdout;
    assert_eq!(last["policy"].as_str().unwrap().as_bytes(), &digest[..64]);
    assert_ne!(enforced[0]["policy"], last["policy"], "{coverage}");
    let tags: Vec<_> =
        last["hooks"].as_array().unwrap().iter().map(|hook| hook["tag"].as_str().unwrap()).collect();
    assert!(
        tags.len() == 2 && tags.iter().all(|tag| tag.len() == 16 && *tag != "0000000000000000"),
        "{last}"
    );

    // By identity, port and reason; each says where it is from.
    let ports =
        shown(&site, &["--from", "stranger", "--to", "tag:server", "--port", "1100", "--reason", "no_rule"]);
    assert_eq!(ports.len(), 1, "{ports:?}");
    let record = &ports[0];
    assert!(record["clock"]["source"].is_string() && record["host"].is_string(), "{record}");
    assert_eq!(record["files"]["policy"], enforced[0]["policy"], "{record}");
    assert_eq!(shown(&site, &["--from", "client", "--kind", "drop", "--port", "1100"]), [Value::Null; 0]);
    assert_eq!(shown(&site, &["--kind", "control"]).len(), 2);
    // A number names the record.
    let sequence = record["sequence"].as_u64().unwrap().to_string();
    let proof = site.bulkhead(&["audit", "proof", &sequence]);
    let proof = String::from_utf8(proof.stdout).unwrap();
    assert!(
        proof.starts_with("c2sp.org/tlog-proof@v1\n") && proof.contains(&format!("index {sequence}\n")),
        "{proof}"
    );
    let (verified, code) = audit(&site, &["verify"]);
    assert_eq!(code, Some(0), "{verified}");

    // Over a restart and a kill: numbers go on, and so does the account.
    site.kill();
    knock(&site, 1200..1300);
    site.start();
    knock(&site, 1300..1400);
    wait_for_more(&site, "balance", 2);
    let (balance, code) = audit(&site, &["balance"]);
    assert_eq!(code, Some(0), "{balance}");
    let records = shown(&site, &[]);
    // What is printed are the bytes that are in the log, which a proof is of.
    let log = Reader::open(&site.journal_file()).unwrap();
    let output = site.bulkhead(&["audit", "show", "--json", "--kind", "control"]).stdout;
    let line = output.split(|byte| *byte == b'\n').next().unwrap();
    let number = serde_json::from_slice::<Value>(line).unwrap()["sequence"].as_u64().unwrap();
    assert_eq!(log.entry(number).unwrap(), line);
    assert!((0..).zip(&records).all(|(number, record)| record["sequence"] == number), "a gap");
    let (coverage, code) = audit(&site, &["coverage"]);
    // The programs were on their hooks, and nobody looked.
    let unattested = coverage["unattested"].as_array().unwrap();
    assert_eq!((code, unattested.len()), (Some(1), 1), "{coverage}");
    // The restart has built a generation of its own.
    assert_eq!(unattested[0]["same_programs"], false);

    // An agent that ends attests what it can.
    site.signal(libc::SIGTERM);
    assert!(site.has_ended(), "{}", site.log());
    let kinds = shown(&site, &[]).into_iter().rev().map(|record| record["event"]["kind"].clone());
    let mut kinds: Vec<_> = kinds.filter(|kind| kind != "drop").take(2).collect();
    kinds.sort_by_key(ToString::to_string);
    assert_eq!(kinds, ["balance", "coverage"]);
    let (verified, code) = audit(&site, &["verify"]);
    assert_eq!(code, Some(0), "{verified}");
}

#[test]
fn coverage_tells_of_a_time_without_enforcement() {
    let mut site = site("uncovered");
    site.start();
    wait_for_more(&site, "coverage", 1);
    let link = site.link("eth0", "tcx-ingress");
    let link = if link.exists() { link } else { site.link("eth0", "xdp-native") };
    bpf::detach(&link).unwrap();
    wait_for_more(&site, "unenforced", 1);
    wait_for_more(&site, "coverage", 1);
    let (coverage, code) = audit(&site, &["coverage"]);
    assert_eq!((code, coverage["not_whole"].as_array().unwrap().len()), (Some(1), 1), "{coverage}");
    assert!(coverage["unenforced"]["eth0"].as_u64().unwrap() > 0, "{coverage}");
}

/// A file of the log whose name ends so.
fn file_of(log: &Path, part: &str) -> PathBuf {
    let mut directories = vec![log.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else if entry.path().display().to_string().contains(part) {
                return entry.path();
            }
        }
    }
    panic!("{}: no {part}", log.display());
}

#[test]
fn a_log_that_was_altered_is_found_and_set_aside() {
    let mut site = site("altered-log");
    site.start();
    knock(&site, 1000..1100);
    wait_for_more(&site, "balance", 2);
    site.signal(libc::SIGTERM);
    assert!(site.has_ended());
    assert_eq!(audit(&site, &["verify"]).1, Some(0));
    let log = site.journal_file();
    let entries = file_of(&log, "entries");
    let mut bytes = std::fs::read(&entries).unwrap();
    // Somebody was never there.
    let at = bytes.windows(8).position(|window| window == b"stranger").unwrap();
    bytes[at..at + 8].copy_from_slice(b"nobodyxx");
    std::fs::write(&entries, &bytes).unwrap();
    let (verified, code) = audit(&site, &["verify"]);
    assert_eq!(code, Some(1), "{verified}");

    // The next agent says so, keeps what was found and begins anew.
    site.start();
    let first = &reports(&site.journal_file())[0];
    assert_eq!((&first["kind"], &first["cause"]), (&"lost".into(), &"set_aside".into()), "{first}");
    assert_eq!(audit(&site, &["verify"]).1, Some(0));
    let aside = std::fs::read_dir(log.parent().unwrap()).unwrap().flatten();
    let aside: Vec<_> = aside
        .map(|entry| entry.file_name().display().to_string())
        .filter(|name| name.starts_with("log.damaged-"))
        .collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
}
