use std::sync::Arc;

use bulkhead_api::event::{Counted, Event, EventStats, Kind, LostCause, Missed, Timestamp};
use bulkhead_api::record::{Clock, Digests};

use super::{EventLog, Keep};
use crate::facts::Facts;
use crate::sink::{Entry, Lost, Origin, Sink as _};
use crate::tests::facts::{NoFacts, records_in};

fn open(state: &std::path::Path) -> EventLog {
    EventLog::open(state, "node", Keep::ALL, Arc::new(NoFacts))
}

fn drop_of(count: u64) -> Entry {
    let line = format!(
        r#"{{"time":"2026-11-28T08:53:14Z","node":"node","kind":"drop","direction":"ingress","reason":"no_rule",
        "count":{count},"bytes":60,"generation":1,"audit":false}}"#
    );
    let event = Event::read(line.as_bytes()).unwrap();
    Entry { event, counted: Counted::Events, origin: Origin::Ring(count.to_ne_bytes().to_vec()) }
}

#[test]
fn records_say_where_they_are_from_and_go_on_after_a_kill() {
    let state = tempfile::tempdir().unwrap();
    for round in 0..3_u64 {
        let mut log = open(state.path());
        (0..300).for_each(|count| log.write(&drop_of(round * 1000 + count)).unwrap());
        if round == 1 {
            log.sync();
        }
        // As by a kill: nothing is closed.
        assert_eq!(log.account.stats().written, 300 * (round + 1));
        drop(log);
    }
    let records = records_in(state.path());
    assert_eq!(records.len(), 900);
    assert!(
        records.iter().all(|record| record.host == "host" && record.files.as_ref().unwrap().policy == "p")
    );
}

#[test]
fn a_seal_sees_what_all_records_before_it_tell_of() {
    let state = tempfile::tempdir().unwrap();
    let mut log = open(state.path());
    log.write(&drop_of(7)).unwrap();
    let seal = |stats: &EventStats, records: u64| {
        assert_eq!((stats.told(false), records), ((7, 0), 1));
        Some((Timestamp::from_unix(3), Kind::Missed(Missed { missed: 5 })))
    };
    log.seal(Box::new(seal)).unwrap();
    log.seal(Box::new(|_, records| {
        assert_eq!(records, 2);
        None
    }))
    .unwrap();
    let records = records_in(state.path());
    assert_eq!((records.len(), records[1].event.time), (2, Timestamp::from_unix(3)));
}

#[test]
fn what_a_queue_had_no_room_for_is_on_record() {
    let state = tempfile::tempdir().unwrap();
    let mut log = open(state.path());
    let mut lost = Lost::default();
    (1..=4).for_each(|count| lost.add(&drop_of(count)));
    log.lost(&lost);
    let Kind::Lost(told) = &records_in(state.path())[0].event.kind else { panic!("no record of a loss") };
    assert_eq!((told.events, told.drops, told.cause), (Some(4), Some(10), LostCause::Overflow));
    assert_eq!(log.account.stats().told(false), (0, 10));
}

#[test]
fn a_log_that_was_altered_is_set_aside_and_the_next_one_says_so() {
    type Alter = fn(&std::path::Path);
    let alter: [(&str, Alter); 3] = [
        ("an older checkpoint", |log| {
            std::fs::copy(log.join("old"), log.join("checkpoint")).unwrap();
        }),
        ("no checkpoint", |log| std::fs::remove_file(log.join("checkpoint")).unwrap()),
        ("no tiles", |log| std::fs::remove_dir_all(log.join("tile")).unwrap()),
    ];
    for (what, alter) in alter {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("log");
        let mut log = open(state.path());
        log.write(&drop_of(1)).unwrap();
        log.sync();
        std::fs::copy(directory.join("checkpoint"), directory.join("old")).unwrap();
        log.write(&drop_of(2)).unwrap();
        log.sync();
        log.write(&drop_of(3)).unwrap();
        log.sync();
        drop(log);
        alter(&directory);
        let log = open(state.path());
        let records = records_in(state.path());
        let Kind::Lost(lost) = &records[0].event.kind else { panic!("{what}: {records:?}") };
        assert_eq!((records.len(), lost.cause), (1, LostCause::SetAside), "{what}");
        // The kernel's counters go on, and so does what was told of.
        assert_eq!(log.account.stats().events, 6, "{what}");
        let kept = std::fs::read_dir(state.path()).unwrap().flatten();
        let kept = kept.filter(|entry| entry.file_name().display().to_string().starts_with("log.damaged-"));
        assert_eq!(kept.count(), 1, "{what}");
    }
}

#[test]
fn a_machine_that_lost_its_power_has_lost_records_and_says_so() {
    let state = tempfile::tempdir().unwrap();
    let mut log = open(state.path());
    log.write(&drop_of(1)).unwrap();
    log.sync();
    (2..=4).for_each(|count| log.write(&drop_of(count)).unwrap());
    drop(log);
    // What was not signed was not on the disk.
    std::fs::remove_file(state.path().join("log/pending")).unwrap();
    drop(open(state.path()));
    let records = records_in(state.path());
    let Kind::Lost(lost) = &records[1].event.kind else { panic!("{records:?}") };
    assert_eq!((lost.events, lost.cause), (Some(3), LostCause::Crash));
}

#[test]
fn old_records_go_by_age_and_by_size_and_the_rest_is_verified() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("log");
    let mut log = open(state.path());
    let day = 86_400_000_000_000;
    // A hundred a day, on twenty days.
    for number in 0..2000_u64 {
        let mut entry = drop_of(1);
        entry.event.time = Timestamp::from_unix((number / 100 + 1) * day);
        log.write(&entry).unwrap();
    }
    log.sync();
    let first = |log: &mut EventLog, days, bytes| {
        log.keep = Keep { days, bytes };
        log.prune(Timestamp::from_unix(21 * day));
        let reader = bulkhead_tlog::Reader::open(&directory).unwrap();
        let key = std::fs::read_to_string(directory.join("vkey")).unwrap();
        let keys = [bulkhead_tlog::VerifierKey::parse(key.trim_end()).unwrap()];
        let trust = bulkhead_tlog::Trust { keys: &keys, ..bulkhead_tlog::Trust::default() };
        let report = bulkhead_tlog::verify(&directory, &trust).unwrap();
        assert!(report.is_whole() && report.first == reader.first().unwrap(), "{:?}", report.faults);
        report.first
    };
    assert_eq!(first(&mut log, 400, u64::MAX), 0);
    // Records of the last 11 days begin at number 900, in the bundle of 768.
    assert_eq!(first(&mut log, 11, u64::MAX), 768);
    assert_eq!(first(&mut log, 400, u64::MAX), 768, "what is gone is gone");
    // Two bundles, and what is not a whole one.
    let bytes = std::fs::metadata(directory.join("tile/entries/006")).unwrap().len();
    assert_eq!(first(&mut log, 400, bytes * 5 / 2), 1280);
    assert_eq!(first(&mut log, 0, u64::MAX), 1536, "the last whole one stays");
    drop(log);
    let mut log = open(state.path());
    log.write(&drop_of(1)).unwrap();
    log.sync();
    let reader = bulkhead_tlog::Reader::open(&directory).unwrap();
    assert_eq!(reader.entries(1536..u64::MAX).count(), 465);
}

/// A host whose clock is kept in time, or is not.
struct Clocked(bool);

impl Facts for Clocked {
    fn host(&self) -> String {
        "host".to_owned()
    }

    fn clock(&self) -> Clock {
        Clock { synchronized: self.0, ..Clock::default() }
    }

    fn files(&self, _: u32) -> Option<Digests> {
        None
    }
}

/// A clock that jumped ahead makes all records old: nothing goes by it.
#[test]
fn records_go_by_age_only_by_a_clock_that_is_kept_in_time() {
    let state = tempfile::tempdir().unwrap();
    for (is_kept_in_time, expected) in [(false, 0), (true, 512)] {
        let keep = Keep { days: 7, bytes: u64::MAX };
        let mut log = EventLog::open(state.path(), "node", keep, Arc::new(Clocked(is_kept_in_time)));
        for _ in log.account.records()..800 {
            let mut entry = drop_of(1);
            entry.event.time = Timestamp::from_unix(1);
            log.write(&entry).unwrap();
        }
        log.sync();
        (log.prune, log.signed) = (std::time::Instant::now(), log.signed - std::time::Duration::from_secs(2));
        log.idle();
        assert!(log.prune > std::time::Instant::now(), "it was looked");
        let reader = bulkhead_tlog::Reader::open(&state.path().join("log")).unwrap();
        assert_eq!(reader.first().unwrap(), expected, "kept in time: {is_kept_in_time}");
    }
}

#[test]
fn a_kill_in_the_middle_of_what_is_written_together_is_known() {
    let state = tempfile::tempdir().unwrap();
    let mut log = open(state.path());
    log.write(&drop_of(1)).unwrap();
    let pending = state.path().join("log/pending");
    let before = std::fs::metadata(&pending).unwrap().len();
    let entries: Vec<_> = (2..8).map(|count| Arc::new(drop_of(count))).collect();
    let mut taken = 0;
    log.write_all(&entries, &mut |written| {
        written.unwrap();
        taken += 1;
    });
    assert_eq!(taken, 6);
    let whole = std::fs::read(&pending).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for length in (before as usize..=whole.len()).step_by(7).chain([whole.len()]) {
        let killed = tempfile::tempdir().unwrap();
        copy(state.path(), killed.path());
        std::fs::write(killed.path().join("log/pending"), &whole[..length]).unwrap();
        let next = open(killed.path());
        // Records are of 1, 2, 3 … drops.
        let records = next.account.records();
        let drops: u64 = (1..=records).sum();
        assert_eq!(next.log.as_ref().unwrap().size(), records, "{length}");
        assert_eq!(next.account.stats().told(false), (drops, 0), "{length}");
        assert!(next.left().is_last_event(&records.to_ne_bytes()), "{length}");
        seen.insert(records);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
