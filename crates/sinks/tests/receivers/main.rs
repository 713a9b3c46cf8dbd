//! Sinks against real receivers: files, sockets, TLS and HTTP servers that die and come back.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod anchor;
mod file;
mod http;
mod log;
mod memory;
mod rsyslog;
mod socket;
mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_api::status::Sink;
use bulkhead_export::Format;
use bulkhead_sinks::{From, Kind, RecordSource, Settings, Sinks};
use serde_json::Value;

use crate::memory::Memory;

/// How long something may take before it is a failure.
const LIMIT: Duration = Duration::from_secs(60);

/// A sink that sends records as they are in the log.
fn settings(kind: Kind) -> Settings {
    Settings { name: "test".to_owned(), format: Format::Bulkhead, from: From::Beginning, kind }
}

fn start(settings: Settings, source: &Arc<Memory>, state: &Path) -> Sinks {
    let source: Arc<dyn RecordSource> = source.clone();
    Sinks::start(vec![settings], &source, state).unwrap()
}

/// Waits until the sink's progress is as it should be.
fn wait_for(sinks: &Sinks, what: &str, is_so: impl Fn(&Sink) -> bool) -> Sink {
    wait_until(what, || sinks.progress().remove(0), is_so)
}

/// Waits until what is asked for is as it should be.
fn wait_until<P: std::fmt::Debug>(what: &str, ask: impl Fn() -> P, is_so: impl Fn(&P) -> bool) -> P {
    let until = Instant::now() + LIMIT;
    loop {
        let progress = ask();
        if is_so(&progress) {
            return progress;
        }
        assert!(Instant::now() < until, "not {what}: {progress:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn number(line: &[u8]) -> u64 {
    let record: Value = serde_json::from_slice(line).unwrap();
    record["sequence"].as_u64().unwrap()
}

/// Numbers of records in JSON lines.
fn numbers(lines: &[u8]) -> Vec<u64> {
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(number).collect()
}

/// What was received holds every record at least once: in order, and what came again began anew at an earlier one.
fn assert_at_least_once(received: &[u64], count: u64) {
    let mut next = 0;
    for (index, number) in received.iter().enumerate() {
        let goes_on = index == 0 || received[index - 1] + 1 == *number;
        assert!(*number <= next && (goes_on || *number < next), "{number} after {next} at {index}");
        next = next.max(number + 1);
    }
    assert_eq!(next, count, "records are missing at the end");
}
