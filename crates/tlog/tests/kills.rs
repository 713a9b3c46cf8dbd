//! A writer that is killed at any moment never forks its log, and the next one says what was lost.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bulkhead_tlog::{Hash, Log, Options, Reader, Trust, verify};

/// Names the log to the writer, which is this program once more.
const WRITER: &str = "TLOG_WRITER";

fn main() {
    match std::env::var_os(WRITER) {
        Some(directory) => write(Path::new(&directory)),
        None => kill(),
    }
}

fn entry(index: u64) -> Vec<u8> {
    format!("{index} ").repeat((index % 90) as usize).into_bytes()
}

/// Says each step after it was done.
fn write(directory: &Path) {
    let mut out = std::io::stdout();
    let (mut log, opening) = Log::open(directory, &Options::new("bulkhead/kills")).unwrap();
    writeln!(out, "opened {} {}", log.size(), opening.signed).unwrap();
    for round in 1.. {
        for _ in 0..fastrand::u64(1..200) {
            log.append(&entry(log.size())).unwrap();
        }
        log.flush().unwrap();
        writeln!(out, "flushed {}", log.size()).unwrap();
        if round % 3 == 0 {
            let signed = log.checkpoint().unwrap();
            writeln!(out, "signed {} {}", signed.size, signed.root).unwrap();
        }
    }
}

struct Seen {
    size: u64,
    /// All checkpoints of all writers.
    signed: Vec<(u64, Hash)>,
}

/// `TLOG_KILLS` sets how many.
fn kill() {
    let kills = std::env::var("TLOG_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut seen = Seen { size: 0, signed: Vec::new() };
    let mut unsigned_recovered = 0;
    for number in 0..kills {
        let child = Command::new(std::env::current_exe().unwrap())
            .env(WRITER, &log)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        watch(child, &mut seen);
        let (reopened, opening) = Log::open(&log, &Options::new("bulkhead/kills")).unwrap();
        assert!(
            reopened.size() >= seen.size,
            "kill {number}: flushed {}, left {}",
            seen.size,
            reopened.size()
        );
        assert!(opening.created || !opening.closed, "kill {number}: the loss is not told");
        seen.size = reopened.size();
        unsigned_recovered += opening.recovered;
        let keys = [reopened.verifier_key().clone()];
        let report = verify(&log, &Trust { keys: &keys, ..Trust::default() }).unwrap();
        assert!(report.is_whole(), "kill {number}: {:?}", report.faults);
        let reader = Reader::open(&log).unwrap();
        for (size, root) in &seen.signed {
            assert_eq!(reader.root_at(*size).unwrap(), *root, "kill {number}: a fork at {size}");
        }
        drop(reopened);
    }
    let reader = Reader::open(&log).unwrap();
    for read in reader.entries(0..u64::MAX) {
        let (index, read) = read.unwrap();
        assert_eq!(read, entry(index));
    }
    let (size, checkpoints) = (reader.checkpoint().size, seen.signed.len());
    assert!(checkpoints > 0 && unsigned_recovered > 0, "the kills came too early");
    println!(
        "{kills} kills, {size} entries, {checkpoints} checkpoints: no fork; {unsigned_recovered} read back"
    );
}

/// Follows a writer for some steps and kills it somewhere behind the last.
fn watch(mut child: Child, seen: &mut Seen) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref().take(fastrand::usize(..30)) {
        note(&line.unwrap(), seen);
    }
    std::thread::sleep(Duration::from_micros(fastrand::u64(..4000)));
    child.kill().unwrap();
    child.wait().unwrap();
    lines.for_each(|line| note(&line.unwrap(), seen));
}

fn note(line: &str, seen: &mut Seen) {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["opened", size, signed] => {
            assert!(size.parse::<u64>().unwrap() >= seen.size, "{line}");
            assert!(signed.parse::<u64>().unwrap() >= seen.signed.last().map_or(0, |last| last.0), "{line}");
        }
        ["flushed", size] => seen.size = size.parse().unwrap(),
        ["signed", size, root] => seen.signed.push((size.parse().unwrap(), Hash::parse(root).unwrap())),
        // A kill may cut a line.
        _ => assert!(!line.is_empty()),
    }
}
