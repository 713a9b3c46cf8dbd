//! The event log on disk as a source.

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
    assert_eq!(numbers(&std::fs::read(&path).unwrap()), (0..1500).collect::<Vec<_>>());

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
    let all = numbers(&std::fs::read(&path).unwrap());
    assert_eq!(all, (0..1500).chain(2048..3000).collect::<Vec<_>>());
}
