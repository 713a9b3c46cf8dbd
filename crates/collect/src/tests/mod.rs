//! Batches and stores, with logs of their own.

mod batches;
mod inboxes;
mod pages;
mod stores;

use std::path::Path;

use bulkhead_tlog::{Log, Options, Trust, verify};
use tempfile::TempDir;

use crate::{Bundle, Denied, Outcome, Report, Sealed, Settings, State, Store, seal};

/// A host with a log.
pub(crate) struct Host {
    pub node: String,
    pub directory: TempDir,
    pub log: Log,
    pub made: u64,
    pub report: Report,
}

impl Host {
    pub(crate) fn new(node: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::open(directory.path(), &Options::new(format!("bulkhead/{node}"))).unwrap().0;
        let report = Report {
            version: "0.1.0".to_owned(),
            state: State::Enforced,
            generation: 7,
            policy: Bundle { version: Some(3), sha256: Some("ab".repeat(32)) },
            denied: vec![Denied {
                direction: "ingress".to_owned(),
                reason: "no_rule".to_owned(),
                packets: 12,
            }],
            ..Report::default()
        };
        Self { node: node.to_owned(), directory, log, made: 1_800_000_000_000_000_000, report }
    }

    /// Adds records, and signs them.
    pub(crate) fn grow(&mut self, count: u64) {
        for _ in 0..count {
            let record = record(&self.node, self.log.size());
            self.log.append(&record).unwrap();
        }
        self.log.checkpoint().unwrap();
    }

    pub(crate) fn seal(&mut self, from: u64) -> Sealed {
        self.made += 1;
        seal(self.directory.path(), &self.node, self.made, from, &self.report).unwrap()
    }
}

pub(crate) fn record(node: &str, index: u64) -> Vec<u8> {
    format!(
        r#"{{"event":{{"time":"2026-11-{:02}T08:00:00.000000000Z","reason":"no_rule"}},"host":"{node}","sequence":{index}}}"#,
        1 + index / 100 % 29
    )
    .into_bytes()
}

pub(crate) fn store(directory: &Path) -> Store {
    Store::open(directory, Settings { most_nodes: 100, ..Settings::default() }).unwrap()
}

/// The kind of a refusal.
pub(crate) fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Taken { .. } => "taken",
        Outcome::Refused { kind, .. } => kind.name(),
    }
}

/// Indices of a node's lines, in the order of files and lines.
pub(crate) fn lines(store: &Path, node: &str) -> Vec<u64> {
    let directory = store.join("nodes").join(node).join("records");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|found| found.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["node"], node);
            let index = value["index"].as_u64().unwrap();
            if let Some(sequence) = value["record"]["sequence"].as_u64() {
                assert_eq!(sequence, index);
            }
            all.push(index);
        }
    }
    all
}

/// That a node's mirror is as the host's log, and that each record has one line.
pub(crate) fn assert_whole(store: &Path, host: &Host) {
    let log = store.join("nodes").join(&host.node).join("log");
    let keys = [host.log.verifier_key().clone()];
    let report = verify(&log, &Trust { keys: &keys, ..Trust::default() }).unwrap();
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.checkpoint.as_ref(), Some(host.log.signed()));
    assert_eq!(lines(store, &host.node), (0..host.log.size()).collect::<Vec<_>>());
}
