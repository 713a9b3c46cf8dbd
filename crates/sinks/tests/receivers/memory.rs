//! A log in memory.

use std::io;
use std::sync::Mutex;

use bulkhead_sinks::RecordSource;
use serde_json::{Value, json};

/// Records, and how many of the first are pruned.
#[derive(Default)]
pub struct Memory(Mutex<(Vec<Vec<u8>>, u64)>);

/// A record of the event log.
pub fn record(sequence: u64, host: &str) -> Vec<u8> {
    let event = json!({"time": "2026-11-28T08:53:14Z", "node": "n", "kind": "drop", "direction": "ingress",
        "source": {"address": "100.64.0.6"}, "reason": "no_rule", "interface": "wg0", "count": 1, "bytes": 60,
        "generation": 7, "audit": false});
    let clock = json!({"source": "tsc", "synchronized": true, "offset": 0, "error": 1000});
    serde_json::to_vec(&json!({"host": host, "sequence": sequence, "clock": clock, "event": event})).unwrap()
}

impl Memory {
    pub fn of(host: &str, count: u64) -> Self {
        Self(Mutex::new(((0..count).map(|number| record(number, host)).collect(), 0)))
    }

    pub fn grow(&self, more: u64) {
        let mut log = self.0.lock().unwrap();
        let end = log.0.len() as u64;
        log.0.extend((end..end + more).map(|number| record(number, "h")));
    }

    /// Adds a record with a reason for a change of so many bytes.
    pub fn push(&self, number: u64, length: usize) {
        let mut record: Value = serde_json::from_slice(&record(number, "h")).unwrap();
        record["event"] = json!({"time": "2026-11-28T08:53:14Z", "node": "n", "kind": "control", "action": "apply",
            "outcome": "done", "by": {"via": "agent"}, "detail": "x".repeat(length), "generation_before": 1,
            "generation": 2});
        self.0.lock().unwrap().0.push(serde_json::to_vec(&record).unwrap());
    }

    /// Whether a record is just so.
    pub fn is(&self, number: u64, bytes: &[u8]) -> bool {
        self.0.lock().unwrap().0[usize::try_from(number).unwrap()] == bytes
    }

    pub fn prune(&self, first: u64) {
        self.0.lock().unwrap().1 = first;
    }
}

impl RecordSource for Memory {
    fn end(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().0.len() as u64)
    }

    fn read(&self, from: u64, limit: usize) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let log = self.0.lock().unwrap();
        let from = from.max(log.1);
        let records = log.0.iter().skip(usize::try_from(from).unwrap()).take(limit);
        Ok((from..).zip(records.cloned()).collect())
    }

    fn set_aside(&self, _from: u64, _is_it: &dyn Fn(&[u8]) -> bool) -> Option<u64> {
        None
    }
}
