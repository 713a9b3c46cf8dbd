//! A collector that is killed at any moment, again and again, loses no record and has none twice.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulkhead_collect::{Given, Inbox, Outbox, Report, Settings, Store, seal, witness};
use bulkhead_tlog::{Log, Options, Trust, VerifierKey, key_beside, verify};

/// Names the directories to the collector, which is this program once more.
const COLLECTOR: &str = "COLLECT_FROM";
const KEPT: &str = "COLLECT_TO";

const HOSTS: usize = 6;

fn main() {
    match (std::env::var_os(COLLECTOR), std::env::var_os(KEPT)) {
        (Some(from), Some(to)) => collect(Path::new(&from), Path::new(&to)),
        _ => kill(),
    }
}

fn collect(from: &Path, to: &Path) {
    let key = witness(to, "collector.test").unwrap();
    let store =
        Store::open(to, Settings { witness: Some(key), most_nodes: 100, ..Settings::default() }).unwrap();
    let inbox = Inbox::new(from);
    loop {
        if inbox.turn(&store, 3, &|_, _| ()).unwrap() == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A host that writes and sends until it is told to end, and then until all is taken. Returns its first key, how many
/// records it has, and how many batches it gave.
fn host(spool: &Path, directory: &Path, node: &str, ended: &AtomicBool) -> (VerifierKey, u64, u64) {
    let (mut log, _) = Log::open(directory, &Options::new(format!("bulkhead/{node}"))).unwrap();
    let first = key_beside(directory).unwrap();
    let mut outbox = Outbox::open(spool, node).unwrap();
    let (mut next, mut given, mut count) = (0, None, 0);
    loop {
        let is_over = ended.load(Ordering::Relaxed);
        if !is_over {
            for _ in 0..fastrand::u64(1..120) {
                let record = format!(r#"{{"host":"{node}","sequence":{}}}"#, log.size());
                log.append(record.as_bytes()).unwrap();
            }
            if fastrand::u32(..200) == 0 {
                log.rotate_key().unwrap();
            }
            log.checkpoint().unwrap();
        }
        match outbox.look().unwrap() {
            Given::Waits if fastrand::u32(..4) != 0 => {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            Given::Waits => {}
            Given::Taken(stands) => next = stands.or(given).unwrap_or(0),
        }
        if is_over && next == log.size() {
            return (first, log.size(), count);
        }
        let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let sealed = seal(directory, node, made, next, &Report::default()).unwrap();
        outbox.give(made, &sealed.bytes).unwrap();
        (given, count) = (Some(sealed.end), count + 1);
    }
}

fn start(spool: &Path, store: &Path) -> Child {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(COLLECTOR, spool).env(KEPT, store).spawn().unwrap()
}

/// `COLLECT_KILLS` sets how many.
fn kill() {
    let kills = std::env::var("COLLECT_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let [spool, store] = ["spool", "store"].map(|name| root.path().join(name));
    fs::create_dir(&spool).unwrap();
    let ended = AtomicBool::new(false);
    let nodes: Vec<String> = (0..HOSTS).map(|number| format!("host-{number}")).collect();
    let hosts: Vec<_> = std::thread::scope(|scope| {
        let run = |node: &String| {
            let (directory, node) = (root.path().join(node), node.clone());
            let (spool, ended) = (&spool, &ended);
            scope.spawn(move || host(spool, &directory, &node, ended))
        };
        let threads: Vec<_> = nodes.iter().map(run).collect();
        for _ in 0..kills {
            let mut collector = start(&spool, &store);
            std::thread::sleep(Duration::from_millis(fastrand::u64(5..400)));
            let early = collector.try_wait().unwrap();
            assert!(early.is_none(), "the collector ended by itself: {early:?}");
            collector.kill().unwrap();
            collector.wait().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        let mut collector = start(&spool, &store);
        let until = Instant::now() + Duration::from_secs(120);
        while threads.iter().any(|thread| !thread.is_finished()) {
            assert!(Instant::now() < until, "not all was taken");
            std::thread::sleep(Duration::from_millis(10));
        }
        collector.kill().unwrap();
        collector.wait().unwrap();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let witnesses = [key_beside(&store).unwrap()];
    let (mut records, mut batches) = (0, 0);
    for (node, (key, size, count)) in nodes.iter().zip(&hosts) {
        let place = store.join("nodes").join(node);
        let trust = Trust { keys: std::slice::from_ref(key), witnesses: &witnesses, ..Trust::default() };
        let report = verify(&place.join("log"), &trust).unwrap();
        assert_eq!((report.faults, report.witnesses), (vec![], vec!["collector.test".to_owned()]));
        assert_eq!(report.checkpoint.unwrap().size, *size, "{node}");
        assert_eq!(indices(&place.join("records")), (0..*size).collect::<Vec<_>>(), "{node}");
        let findings = fs::read_to_string(place.join("findings.json"));
        assert!(findings.is_err(), "{findings:?}");
        (records, batches) = (records + size, batches + count);
    }
    assert!(!store.join("strangers").exists());
    assert!(records > 1000, "{records}");
    println!(
        "{kills} kills, {HOSTS} hosts, {batches} batches: {records} of {records} records, none missing, none twice"
    );
}

/// The indices of all lines, in the order of files.
fn indices(records: &Path) -> Vec<u64> {
    let files = fs::read_dir(records).unwrap().map(|found| found.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|is| is == "jsonl")).collect();
    files.sort();
    let read = |file| fs::read_to_string(file).unwrap();
    let index = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["index"].as_u64().unwrap()
    };
    files.into_iter().flat_map(|file| read(file).lines().map(index).collect::<Vec<_>>()).collect()
}
