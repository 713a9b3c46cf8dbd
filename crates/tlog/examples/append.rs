//! What records cost: `cargo run --release -p bulkhead-tlog --example append DIRECTORY [RECORDS]`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_tlog::{Checked, Log, Options, Reader, Trust, verify};

const BYTES: usize = 400;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory"));
    let records = arguments.next().map_or(1_000_000, |records| records.parse().expect("a number of records"));
    let mut record = vec![b'x'; BYTES];
    let (mut log, _) = Log::open(&directory, &Options::new("bulkhead/throughput")).expect("a log");
    let (began, cpu) = (Instant::now(), on_cpu());
    let (mut last, mut checkpoints) = (began, 0);
    for number in 0..records {
        record[..8].copy_from_slice(&u64::to_be_bytes(number));
        log.append(&record).expect("room");
        if number % 64 == 0 && last.elapsed() >= Duration::from_secs(1) {
            log.checkpoint().expect("a checkpoint");
            last = Instant::now();
            checkpoints += 1;
        }
    }
    log.checkpoint().expect("a checkpoint");
    let (took, cpu) = (began.elapsed(), on_cpu() - cpu);
    let overhead = bytes(&directory) as f64 / records as f64 - BYTES as f64;
    println!(
        "{records} records of {BYTES} bytes: {:.0} a second, {:.2} µs of CPU each, {checkpoints} checkpoints by time, {overhead:.1} bytes each over the payload",
        records as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / records as f64,
    );
    let keys = [log.verifier_key().clone()];
    measured("verified", || {
        let report = verify(&directory, &Trust { keys: &keys, ..Trust::default() }).expect("readable files");
        assert!(report.is_whole(), "{:?}", report.faults);
    });
    measured("read unchecked", || {
        assert_eq!(Reader::open(&directory).expect("a log").entries(0..records).count() as u64, records);
    });
    measured("read, each checked against the signed root", || {
        let mut log = Checked::open(&directory, &keys).expect("a log that is signed");
        let mut next = 0;
        while next < records {
            next += log.entries(next).expect("what was signed").len() as u64;
        }
    });
}

/// Says how long something took.
fn measured(what: &str, act: impl FnOnce()) {
    let (began, cpu) = (Instant::now(), on_cpu());
    act();
    let (took, cpu) = (began.elapsed().as_secs_f64(), (on_cpu() - cpu).as_secs_f64());
    println!("{what} in {took:.2} s, {cpu:.2} s of CPU");
}

/// How long this thread, the only one, ran, in and out of the kernel.
fn on_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/schedstat").expect("schedstat");
    Duration::from_nanos(stat.split(' ').next().and_then(|ran| ran.parse().ok()).expect("nanoseconds"))
}

fn bytes(directory: &Path) -> u64 {
    let found = fs::read_dir(directory).expect("a directory").flatten();
    found
        .map(|found| match found.metadata() {
            Ok(data) if data.is_dir() => bytes(&found.path()),
            data => data.map_or(0, |data| data.len()),
        })
        .sum()
}
