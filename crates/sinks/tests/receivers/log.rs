//! The event log on disk as a source.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bulkhead_sinks::{Kind, LogSource, RecordSource, Sinks};
use bulkhead_tlog::{Log, Options};

use crate::memory::record;
use crate::{LIMIT, numbers, settings, wait_for};

#[test]
fn what_a_checkpoint_covers_is_sent_while_the_log_grows() {
    let state = tempfile::tempdir().unwrap();
    let [log, path] = ["log", "out.jsonl"].map(|name| state.path().join(name));
    let source: Arc<dyn RecordSource> = Arc::new(LogSource::new(&log));
    let kind = Kind::File { path: path.clone(), rotate_bytes: u64::MAX, keep: 1 };
    let sinks = Sinks::start(vec![settings(kind)], &source, state.path()).unwrap();
    wait_for(&sinks, "waiting for a log", |progress| progress.problem.is_none() && progress.behind == 0);
    let (mut writer, _) = Log::open(&log, &Options::new("test/h")).unwrap();
    for round in 0..5 {
        for number in 0..300 {
            writer.append(&record(round * 300 + number, "h")).unwrap();
        }
        writer.checkpoint().unwrap();
        wait_for(&sinks, "all sent", |progress| progress.position == (round + 1) * 300);
    }
    writer.append(&record(1500, "h")).unwrap();
    writer.flush().unwrap();
    assert_eq!(source.end().unwrap(), 1500, "what is not signed may still be lost");
    sinks.end(LIMIT);
    assert_eq!(numbers(&fs::read(&path).unwrap()), (0..1500).collect::<Vec<_>>());

    // What goes before it is sent is counted.
    for number in 1501..3000 {
        writer.append(&record(number, "h")).unwrap();
    }
    writer.checkpoint().unwrap();
    writer.prune(2048).unwrap();
    let kind = Kind::File { path: path.clone(), rotate_bytes: u64::MAX, keep: 1 };
    let sinks = Sinks::start(vec![settings(kind)], &source, state.path()).unwrap();
    let progress = wait_for(&sinks, "all sent", |progress| progress.position == 3000);
    assert_eq!(progress.skipped, 548);
    sinks.end(LIMIT);
    let all = numbers(&fs::read(&path).unwrap());
    assert_eq!(all, (0..1500).chain(2048..3000).collect::<Vec<_>>());
}

/// Appends records of a host to a log, and signs them.
fn write(log: &Path, host: &str, numbers: std::ops::Range<u64>) {
    let (mut writer, _) = Log::open(log, &Options::new("test/h")).unwrap();
    for number in numbers {
        writer.append(&record(number, host)).unwrap();
    }
    writer.checkpoint().unwrap();
}

#[test]
fn what_a_log_that_was_set_aside_still_had_is_counted_as_not_sent() {
    let state = tempfile::tempdir().unwrap();
    let [log, path] = ["log", "out.jsonl"].map(|name| state.path().join(name));
    let source: Arc<dyn RecordSource> = Arc::new(LogSource::new(&log));
    let start = || {
        let kind = Kind::File { path: path.clone(), rotate_bytes: u64::MAX, keep: 1 };
        Sinks::start(vec![settings(kind)], &source, state.path()).unwrap()
    };
    let aside = |time: u64| fs::rename(&log, log.with_extension(format!("damaged-{time}"))).unwrap();
    // One that is older than what the sink has sent from.
    write(&log, "older", 0..40);
    aside(1);
    write(&log, "a", 0..100);
    let sinks = start();
    wait_for(&sinks, "all sent", |progress| progress.position == 100);
    sinks.end(LIMIT);
    // No sink runs: 50 more are in the log, and 7 in the next one, before both are set aside.
    write(&log, "a", 100..150);
    aside(2);
    write(&log, "b", 0..7);
    aside(3);
    write(&log, "c", 0..20);
    let sinks = start();
    let progress = wait_for(&sinks, "all sent", |progress| progress.position == 20 && progress.behind == 0);
    assert_eq!((progress.set_aside, progress.skipped), (57, 0));
    sinks.end(LIMIT);
    let all = numbers(&fs::read(&path).unwrap());
    assert_eq!(all, (0..100).chain(0..20).collect::<Vec<_>>());

    // One is set aside while the sink runs, and everything of it is sent: nothing is lost to it.
    let sinks = start();
    wait_for(&sinks, "placed", |progress| progress.position == 20);
    aside(4);
    write(&log, "d", 0..10);
    let progress =
        wait_for(&sinks, "all sent", |progress| progress.position == 10 && progress.problem.is_none());
    assert_eq!(progress.set_aside, 0);
    sinks.end(LIMIT);
    let all = numbers(&fs::read(&path).unwrap());
    assert_eq!(all[120..], (0..10).collect::<Vec<_>>());
    // What cannot be read any more cannot be counted.
    aside(5);
    fs::remove_dir_all(log.with_extension("damaged-5")).unwrap();
    assert_eq!(source.set_aside(10, &|_| false), None);
}
