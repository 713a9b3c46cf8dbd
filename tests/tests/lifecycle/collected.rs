//! Hosts' event logs arrive at a collector, whole, whenever it is killed, and it says which host is not enforced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use serde_json::Value;

use crate::site::{Over, Site, WEB};

/// A collector, and where it keeps what comes.
struct Collector {
    bulkhead: PathBuf,
    spool: PathBuf,
    store: PathBuf,
    child: Option<Child>,
}

impl Collector {
    fn new(site: &Site) -> Self {
        let [spool, store] = ["spool", "store"].map(|name| PathBuf::from(site.path(name)));
        fs::create_dir(&spool).unwrap();
        let bulkhead = PathBuf::from(site.command().get_program());
        Self { bulkhead, spool, store, child: None }
    }

    fn start(&mut self) {
        let mut command = Command::new(&self.bulkhead);
        command.args(["fleet", "collect", "--listen", "127.0.0.1:0", "--witness", "collector.test"]);
        command.arg("--from").arg(&self.spool).arg("--store").arg(&self.store);
        let log = fs::OpenOptions::new().append(true).create(true).open(self.log_file()).unwrap();
        self.child = Some(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
    }

    fn log_file(&self) -> PathBuf {
        self.store.with_extension("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Ends it as nothing else can.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let early = child.try_wait().unwrap();
            assert!(early.is_none(), "it ended by itself: {early:?}: {}", self.log());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn status(&self) -> (Option<i32>, Value) {
        let store = self.store.to_str().unwrap();
        let output = run(&self.bulkhead, &["fleet", "status", "--json", "--collected", store]);
        let status = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), status)
    }

    fn node(&self) -> PathBuf {
        self.store.join("nodes/server")
    }

    /// Records of the store, as lines, in order.
    fn lines(&self) -> Vec<Value> {
        let mut files: Vec<_> = fs::read_dir(self.node().join("records"))
            .into_iter()
            .flatten()
            .map(|found| found.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .collect();
        files.sort();
        let lines = |file: &PathBuf| {
            let text = fs::read_to_string(file).unwrap();
            // The last one may be on its way.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]).to_owned();
            whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        };
        files.iter().flat_map(lines).collect()
    }

    /// Waits until a fleet status is as it should be.
    fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) -> (Option<i32>, Value) {
        let until = Instant::now() + slower(Duration::from_secs(60));
        loop {
            if self.store.join("nodes").exists() {
                let (code, status) = self.status();
                if is(&status) {
                    return (code, status);
                }
                assert!(Instant::now() < until, "{what}: {status}: {}", self.log());
            }
            assert!(Instant::now() < until, "{what}: nothing is there: {}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(bulkhead: &Path, words: &[&str]) -> Output {
    Command::new(bulkhead).args(words).output().unwrap()
}

fn configure(site: &Site, collector: &Collector, more: &str) {
    let section = format!(
        "[events]\nattest_seconds = 1\n[collector]\ndirectory = \"{}\"\nevery_seconds = 2\n{more}",
        collector.spool.display()
    );
    site.write("agent.toml", &(site.configuration("server", "eth0") + &section));
}

/// That the host's log is at the collector, verified and cosigned, and each record is there once.
fn assert_whole(site: &Site, collector: &Collector) -> Vec<Value> {
    let shown = site.bulkhead(&["audit", "show", "--json"]);
    let own: Vec<Value> = String::from_utf8(shown.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!own.is_empty(), "{:?}", shown.stderr);
    let until = Instant::now() + slower(Duration::from_secs(60));
    while collector.lines().len() < own.len() {
        assert!(Instant::now() < until, "{} of {}: {}", collector.lines().len(), own.len(), collector.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let lines = collector.lines();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!((line["node"].as_str(), line["index"].as_u64()), (Some("server"), Some(index as u64)));
    }
    let records: Vec<Value> = lines.into_iter().map(|line| line["record"].clone()).collect();
    assert_eq!(records[..own.len()], own[..], "record for record");
    let (log, key) = (collector.node().join("log"), collector.store.join("vkey"));
    let log = log.to_str().unwrap();
    let verified =
        run(&collector.bulkhead, &["audit", "verify", "--log", log, "--witness", key.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&verified.stdout);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert!(text.contains("cosigned by collector.test") && text.contains("as it was signed"), "{text}");
    records
}

#[test]
fn denied_packets_arrive_at_the_collector_whenever_it_is_killed() {
    let mut site = Site::new("collected", Over::Ethernet, &[WEB]);
    let mut collector = Collector::new(&site);
    configure(&site, &collector, "");
    site.start();
    collector.start();
    assert!(site.is_denied("stranger", 8080));
    let (code, status) = collector.wait_for("the host is heard of", |status| {
        status["nodes"][0]["heard"]["report"]["denied"].as_array().is_some_and(|denied| !denied.is_empty())
    });
    assert_eq!(code, Some(0), "{status}");
    let report = &status["nodes"][0]["heard"]["report"];
    assert_eq!(
        (report["state"].as_str(), report["policy"]["sha256"].as_str().map(str::len)),
        (Some("enforced"), Some(64))
    );
    assert_eq!(report["review"]["rules"], 1);
    // Under load, at random moments.
    let mut denied = 1;
    for round in 0..12 {
        collector.kill();
        if round % 3 == 0 {
            // Nobody collects for a time.
            assert!(site.is_denied("stranger", 8081));
            denied += 1;
        }
        collector.start();
        std::thread::sleep(Duration::from_millis(50 + 97 * round));
    }
    site.done(&["apply"]);
    assert!(site.is_denied("client", 8081));
    std::thread::sleep(Duration::from_secs(2));
    let records = assert_whole(&site, &collector);
    let told = records.iter().filter(|record| record["event"].to_string().contains("no_rule")).count();
    assert!(told >= denied, "{told} of {denied}: {records:?}");
    // An agent that was killed goes on where the collector is.
    site.kill();
    site.start();
    assert!(site.is_denied("stranger", 8080));
    std::thread::sleep(Duration::from_secs(2));
    assert_whole(&site, &collector);
    assert_eq!(status["nodes"][0]["findings"], serde_json::json!({}));
}

#[test]
fn the_fleets_status_names_a_host_that_is_not_enforced() {
    let mut site = Site::new("unsafe", Over::Ethernet, &[WEB]);
    let mut collector = Collector::new(&site);
    configure(&site, &collector, "");
    site.start();
    collector.start();
    collector
        .wait_for("it is enforced", |status| status["nodes"][0]["heard"]["report"]["state"] == "enforced");
    site.done(&["apply", "--mode", "audit"]);
    let is_named = |status: &Value| status["nodes"][0]["troubles"][0][0] == "unenforced";
    let (code, status) = collector.wait_for("audit is told of", is_named);
    assert_eq!(code, Some(1), "{status}");
    let store = collector.store.to_str().unwrap();
    let shown = run(&collector.bulkhead, &["fleet", "status", "--collected", store]);
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(text.contains("server: unenforced: audit"), "{text}");
    site.done(&["apply", "--mode", "enforce"]);
    let (code, _) = collector.wait_for("enforcement is told of", |status| !is_named(status));
    assert_eq!(code, Some(0));
    // One that says nothing any more.
    site.kill();
    std::thread::sleep(Duration::from_secs(4));
    let shown = run(&collector.bulkhead, &["fleet", "status", "--silent-after", "2", "--collected", store]);
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.code() == Some(1) && text.contains("server: silent: for "), "{text}");
}

#[test]
fn a_log_that_root_writes_anew_is_a_finding_of_the_collector() {
    let mut site = Site::new("rewritten", Over::Ethernet, &[WEB]);
    let mut collector = Collector::new(&site);
    configure(&site, &collector, "");
    site.start();
    collector.start();
    assert!(site.is_denied("stranger", 8080));
    std::thread::sleep(Duration::from_secs(2));
    let before = assert_whole(&site, &collector).len();
    site.signal(libc::SIGTERM);
    assert_eq!(site.exit_code(), Some(0), "{}", site.log());
    // The same key, and other records.
    let shown = site.bulkhead(&["audit", "verify", "--json"]);
    assert_eq!(shown.status.code(), Some(0));
    let log = PathBuf::from("/var/lib/bulkhead").join(site.instance()).join("log");
    for name in ["checkpoint", "pending", "tile"] {
        let path = log.join(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    site.start();
    let (code, status) = collector.wait_for("the other log is told of", |status| {
        let findings = &status["nodes"][0]["findings"];
        findings["fork"].is_object() || findings["rollback"].is_object()
    });
    assert_eq!(code, Some(1));
    assert_eq!(status["nodes"][0]["troubles"][0][0], "evidence", "{status}");
    // What is there stays.
    assert!(collector.lines().len() >= before);
}
