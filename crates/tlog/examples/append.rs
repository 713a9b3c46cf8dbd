//! What records cost: `cargo run --release -p bulkhead-tlog --example append DIRECTORY [RECORDS]`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_tlog::{Log, Options, Trust, verify};

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
    let (began, cpu) = (Instant::now(), on_cpu());
    let keys = [log.verifier_key().clone()];
    let report = verify(&directory, &Trust { keys: &keys, ..Trust::default() }).expect("readable files");
    assert!(report.is_whole(), "{:?}", report.faults);
    println!(
        "verified in {:.2} s, {:.2} s of CPU",
        began.elapsed().as_secs_f64(),
        (on_cpu() - cpu).as_secs_f64()
    );
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
