//! Tests of the writer, the reader and what is on disk.

mod checked;
mod hostile;
mod mirroring;
mod mutation;
mod proving;
mod pruning;
mod reopening;
mod signing;
mod tree;
mod verifying;
mod writing;

use std::path::Path;

use crate::{Log, Opening, Options, Report, Trust, verify};

/// Opens the log of a test.
pub(crate) fn open(directory: &Path) -> (Log, Opening) {
    Log::open(directory, &Options::new("bulkhead/test")).unwrap()
}

/// The entry of an index: of every length, also none.
pub(crate) fn entry(index: u64) -> Vec<u8> {
    format!("entry {index} ").repeat((index % 7) as usize).into_bytes()
}

/// Appends the entries up to a size.
pub(crate) fn grow(log: &mut Log, size: u64) {
    for index in log.size()..size {
        assert_eq!(log.append(&entry(index)).unwrap(), index);
    }
}

/// Verifies with the key that the log began with.
pub(crate) fn verified(log: &Log) -> Report {
    verify(log.directory(), &Trust { keys: &[log.verifier_key().clone()], ..Trust::default() }).unwrap()
}

/// Verifies with the key that lies beside the log.
pub(crate) fn verified_beside(directory: &Path) -> Report {
    let keys = [crate::key_beside(directory).unwrap()];
    verify(directory, &Trust { keys: &keys, ..Trust::default() }).unwrap()
}

/// The faults as they are printed.
pub(crate) fn told(report: &Report) -> Vec<String> {
    report.faults.iter().map(ToString::to_string).collect()
}
