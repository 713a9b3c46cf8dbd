//! A host that nothing is known of, and what its log has.

use std::path::Path;

use bulkhead_api::record::{Clock, Digests, Record};
use bulkhead_tlog::Reader;

use crate::facts::Facts;

pub(crate) struct NoFacts;

impl Facts for NoFacts {
    fn host(&self) -> String {
        "host".to_owned()
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    fn files(&self, generation: u32) -> Option<Digests> {
        (generation == 1).then(|| Digests { policy: "p".to_owned(), inventory: "i".to_owned() })
    }
}

/// The records of the log in a state directory, signed or not.
pub(crate) fn records_in(state: &Path) -> Vec<Record> {
    let reader = Reader::open(&state.join("log")).unwrap();
    let signed = reader.entries(0..u64::MAX).map(|entry| entry.unwrap());
    let all = signed.chain(reader.unsigned().unwrap());
    let read = |(number, bytes): (u64, Vec<u8>)| {
        let record = Record::read(&bytes).unwrap();
        assert_eq!((record.sequence, record.canonical().unwrap()), (number, bytes));
        record
    };
    all.map(read).collect()
}
