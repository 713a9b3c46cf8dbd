//! A stranger verifies a log: with Go's packages from Debian, and no code of this project.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use bulkhead_tlog::{Log, Options};

/// Builds the stranger's program.
fn program(directory: &Path) -> PathBuf {
    let program = directory.join("verify-log");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stranger/main.go");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(source);
    // Debian's packages, and nothing from a network.
    go.envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")]);
    go.env("GOCACHE", directory.join("cache"));
    let built =
        go.status().expect("go runs; `cargo xtask setup` installs golang-go and golang-golang-x-mod-dev");
    assert!(built.success());
    program
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `TLOG_RECORDS` sets how many.
#[test]
fn go_verifies_a_log_and_finds_one_altered_record() {
    let records: u64 = std::env::var("TLOG_RECORDS").map_or(70_000, |records| records.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let program = program(directory.path());
    let path = directory.path().join("log");
    let (mut log, _) = Log::open(&path, &Options::new("bulkhead/host-1")).unwrap();
    let kept = directory.path().join("kept");
    for number in 0..records {
        log.append(format!("record {number} {}", "x".repeat(380)).as_bytes()).unwrap();
        if number == records / 3 {
            log.checkpoint().unwrap();
            std::fs::write(&kept, log.note().unwrap().to_string()).unwrap();
        }
    }
    log.checkpoint().unwrap();
    let key = log.verifier_key().to_string();
    let verify = || Command::new(&program).arg(&path).arg(&key).arg(&kept).output().unwrap();

    let began = Instant::now();
    let output = verify();
    println!("{records} records in {:?}", began.elapsed());
    let expected = format!(
        "checkpoint of bulkhead/host-1: {records} records, signature good\nall records from 0 to {} match\n\
         the log continues the kept checkpoint of {} records\n",
        records - 1,
        records / 3 + 1
    );
    assert_eq!((said(&output), output.status.success()), (expected, true));

    let bundle = path.join("tile/entries/009");
    let whole = std::fs::read(&bundle).unwrap();
    let mut altered = whole.clone();
    altered[20] ^= 1;
    std::fs::write(&bundle, altered).unwrap();
    let output = verify();
    assert!(!output.status.success());
    assert!(said(&output).ends_with("FAILED: record 2304 was altered\n"), "{}", said(&output));
    std::fs::write(&bundle, whole).unwrap();

    log.prune(records / 3 / 256 * 256).unwrap();
    let output = verify();
    let from = format!("all records from {} to {}", records / 3 / 256 * 256, records - 1);
    assert!(output.status.success() && said(&output).contains(&from), "{}", said(&output));
}
