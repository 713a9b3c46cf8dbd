//! rsyslogd, as many hosts have it: records arrive whole and in order, by its own socket and over TLS.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Instant;

use bulkhead_sinks::Kind;
use serde_json::Value;

use crate::memory::Memory;
use crate::tls::Authority;
use crate::{LIMIT, assert_at_least_once, numbers, settings, start, wait_for};

/// What the guide says of how to receive records, but for names of files.
const GUIDE: &str = include_str!("../../../../docs/guide/streams.md");

/// A daemon that writes what it gets to a file.
struct Rsyslog {
    daemon: Child,
    received: PathBuf,
}

impl Rsyslog {
    /// With inputs of a configuration, in a directory of its own.
    fn start(directory: &Path, inputs: &str) -> Self {
        let received = directory.join("received.jsonl");
        let config = directory.join("rsyslog.conf");
        let text = inputs.replace("/var/log/bulkhead.jsonl", received.to_str().unwrap());
        fs::write(&config, text).unwrap();
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(&config).arg("-i").arg(directory.join("pid"));
        Self { daemon: command.spawn().unwrap(), received }
    }

    /// Waits until so many lines are there; what they are.
    fn lines(&mut self, count: usize) -> Vec<u8> {
        let until = Instant::now() + LIMIT;
        loop {
            let text = fs::read(&self.received).unwrap_or_default();
            let lines = text.iter().filter(|byte| **byte == b'\n').count();
            if lines >= count {
                return text;
            }
            assert!(self.daemon.try_wait().unwrap().is_none(), "rsyslogd has ended");
            assert!(Instant::now() < until, "{lines} of {count} lines");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

/// A block of the guide, by a line in it.
fn block(line: &str) -> &'static str {
    GUIDE.split("```").skip(1).step_by(2).find(|block| block.contains(line)).unwrap()
}

/// Records of which every tenth is longer than rsyslog takes unless it is told to, and longer than a page of memory.
fn source() -> Arc<Memory> {
    let source = Memory::of("h", 0);
    for number in 0..300 {
        source.push(number, if number % 10 == 9 { 30_000 } else { 100 });
    }
    Arc::new(source)
}

/// That all arrived, each line just as the record is.
fn assert_whole(lines: &[u8], source: &Memory) {
    let received = numbers(lines);
    assert_at_least_once(&received, 300);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = line.trim_ascii();
        let number = serde_json::from_slice::<Value>(line).unwrap()["sequence"].as_u64().unwrap();
        assert!(source.is(number, line), "record {number} has changed");
    }
}

#[test]
fn records_arrive_whole_and_in_order_by_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("log");
    let inputs = block("imuxsock").replace("/run/rsyslog/bulkhead", socket.to_str().unwrap());
    let mut daemon = Rsyslog::start(directory.path(), &inputs);
    let source = source();
    let sinks = start(settings(Kind::SyslogUnix { path: socket }), &source, directory.path());
    assert_whole(&daemon.lines(300), &source);
    let progress = wait_for(&sinks, "confirmed", |progress| progress.position == 300);
    assert_eq!((progress.refused, progress.problem), (0, None));
    sinks.end(LIMIT);
}

#[test]
fn records_arrive_whole_and_in_order_over_tls_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "ca");
    let [ca, certificate, key] = authority.server_files();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let inputs = block("imtcp")
        .replace("/etc/rsyslog/ca.pem", ca.to_str().unwrap())
        .replace("/etc/rsyslog/logs.pem", certificate.to_str().unwrap())
        .replace("/etc/rsyslog/logs.key", key.to_str().unwrap())
        .replace("6514", &port.to_string());
    let mut daemon = Rsyslog::start(directory.path(), &inputs);
    let source = source();
    let kind = Kind::SyslogTls { host: "localhost".to_owned(), port, tls: authority.client() };
    let sinks = start(settings(kind), &source, directory.path());
    daemon.lines(100);
    drop(daemon);
    // It comes back, and gets what it may have lost.
    let mut daemon = Rsyslog::start(directory.path(), &inputs);
    wait_for(&sinks, "confirmed", |progress| progress.position == 300);
    assert_whole(&daemon.lines(300), &source);
    sinks.end(LIMIT);
}
