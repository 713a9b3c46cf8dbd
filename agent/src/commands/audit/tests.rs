//! What a copy of a log, whoever made it, makes the commands say.

use std::fs;
use std::path::Path;

use bulkhead_api::event::{Event, Kind, Missed, Timestamp};
use bulkhead_api::record::{Clock, Record};
use bulkhead_tlog::{Log, Options};
use clap::Parser as _;

use super::source::{Records, Source};
use crate::cli::Cli;
use crate::exit::{Answer, Usage};

/// The bytes of a record.
fn record(sequence: u64) -> Vec<u8> {
    let event = Event {
        time: Timestamp::from_unix(sequence),
        node: String::new(),
        kind: Kind::Missed(Missed { missed: sequence }),
    };
    let clock = Clock::default();
    Record { host: "host".to_owned(), sequence, clock, files: None, event }.canonical().unwrap()
}

/// A log of so many signed records, and so many that are not.
fn log_of(signed: u64, unsigned: u64) -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(directory.path(), &Options::new("bulkhead/test")).unwrap();
    (0..signed).for_each(|number| assert_eq!(log.append(&record(number)).unwrap(), number));
    log.checkpoint().unwrap();
    (signed..signed + unsigned).for_each(|number| assert_eq!(log.append(&record(number)).unwrap(), number));
    log.flush().unwrap();
    (directory, log)
}

/// How `bulkhead audit` ends.
fn ends(log: &Path, words: &[&str]) -> u8 {
    let log = log.to_str().unwrap();
    let line = [&["bulkhead", "audit", words[0], "--log", log], &words[1..]].concat();
    match Cli::try_parse_from(line).unwrap().run() {
        Ok(Answer::Yes) => 0,
        Ok(Answer::No) => 1,
        Err(error) if error.is::<Usage>() => 2,
        Err(error) => panic!("{words:?}: {error:#}"),
    }
}

fn records(log: &Path) -> Records {
    let source = Source { log: Some(log.to_owned()), ..Source::default() };
    let Cli { global, .. } = Cli::try_parse_from(["bulkhead", "version"]).unwrap();
    Records::open(&source, &global).unwrap()
}

#[test]
fn what_is_not_signed_yet_is_marked_and_left_out_where_it_would_count() {
    let (directory, log) = log_of(300, 5);
    let all: Vec<_> = records(directory.path())
        .with_unsigned()
        .map(|shown| shown.map(|shown| (shown.number, shown.is_signed)))
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(all, (0..305).map(|number| (number, number < 300)).collect::<Vec<_>>());
    let mut signed = records(directory.path());
    assert_eq!((signed.by_ref().count(), signed.unsigned().unwrap()), (300, 5));
    // A checkpoint that is made meanwhile is followed.
    let mut following = records(directory.path()).with_unsigned();
    following.next().unwrap().unwrap();
    let mut log = log;
    log.checkpoint().unwrap();
    log.append(&record(305)).unwrap();
    log.flush().unwrap();
    let rest: Vec<_> = following
        .map(|shown| shown.map(|shown| (shown.number, shown.is_signed)))
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(rest, (1..306).map(|number| (number, number < 305)).collect::<Vec<_>>());
    assert_eq!(records(directory.path()).map(|shown| shown.unwrap().bytes).nth(7).unwrap(), record(7));
}

#[test]
fn what_does_not_fit_what_was_signed_is_believed_by_nobody() {
    let (directory, _log) = log_of(600, 0);
    let commands: [&[&str]; 5] = [&["show"], &["verify"], &["balance"], &["coverage"], &["proof", "300"]];
    assert_eq!(commands.map(|words| ends(directory.path(), words)), [0, 0, 1, 1, 0]);
    let bundle = directory.path().join("tile/entries/001");
    let whole = fs::read(&bundle).unwrap();
    let mut altered = whole.clone();
    let at = altered.windows(4).position(|bytes| bytes == b"host").unwrap();
    altered[at..at + 4].copy_from_slice(b"tsoh");
    fs::write(&bundle, altered).unwrap();
    assert_eq!(commands.map(|words| ends(directory.path(), words)), [1; 5]);
    let read: Vec<_> = records(directory.path()).with_unsigned().collect();
    assert_eq!(read.len(), 257, "those before it, and what is wrong");
    assert!(read[256].is_err() && read[..256].iter().all(Result::is_ok));
    fs::write(&bundle, whole).unwrap();
    // A checkpoint that nobody signed.
    let checkpoint = directory.path().join("checkpoint");
    let signed = fs::read_to_string(&checkpoint).unwrap();
    fs::write(&checkpoint, signed.replacen("\n600\n", "\n6000000000000\n", 1)).unwrap();
    assert_eq!(commands.map(|words| ends(directory.path(), words)), [1; 5]);
}

#[test]
fn a_pipe_in_a_file_s_place_ends_every_reader() {
    for file in ["checkpoint", "vkey", "pruned", "tile/entries/001", "tile/1/000.p/2"] {
        let (directory, _log) = log_of(600, 0);
        let path = directory.path().join(file);
        let _ = fs::remove_file(&path);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        for words in [&["show"][..], &["verify"], &["balance"], &["coverage"], &["proof", "300"]] {
            assert_eq!(ends(directory.path(), words), 1, "{file}, {words:?}");
        }
    }
}

#[test]
fn an_entry_that_is_no_record_is_a_fault() {
    let newline = String::from_utf8(record(3)).unwrap().replacen(',', ",\n", 1).into_bytes();
    let wrong: [&[u8]; 6] = [b"", b"not a record", b"rotation bulkhead/test\n", b"{}", &record(4), &newline];
    for entry in wrong {
        let (directory, mut log) = log_of(3, 0);
        log.append(entry).unwrap();
        log.append(&record(4)).unwrap();
        log.checkpoint().unwrap();
        let read: Vec<bool> = records(directory.path()).map(|shown| shown.is_ok()).collect();
        assert_eq!(read, [true, true, true, false, true], "{}", String::from_utf8_lossy(entry));
        for words in [&["verify"][..], &["show"], &["balance"], &["coverage"]] {
            assert_eq!(ends(directory.path(), words), 1, "{words:?}");
        }
    }
    // The entry of a new key is none, and no fault.
    let (directory, mut log) = log_of(3, 0);
    log.rotate_key().unwrap();
    log.append(&record(4)).unwrap();
    log.checkpoint().unwrap();
    assert_eq!(ends(directory.path(), &["verify"]), 0);
    let numbers: Vec<_> = records(directory.path()).map(|shown| shown.unwrap().number).collect();
    assert_eq!(numbers, [0, 1, 2, 4]);
}

#[test]
fn a_number_that_no_record_has_is_the_caller_s_mistake() {
    let (directory, _log) = log_of(3, 0);
    for number in ["3", "18446744073709551615", "18446744073709551616", "-1"] {
        assert_eq!(ends(directory.path(), &["proof", "--", number]), 2, "{number}");
    }
}

#[test]
fn a_kept_checkpoint_that_cannot_be_compared_any_more_is_neither_success_nor_fault() {
    let (directory, mut log) = log_of(300, 700);
    let kept = tempfile::NamedTempFile::new().unwrap();
    fs::write(kept.path(), log.note().unwrap().to_string()).unwrap();
    log.checkpoint().unwrap();
    let verify = ["verify", "--anchor", kept.path().to_str().unwrap()];
    assert_eq!(ends(directory.path(), &verify), 0);
    log.prune(512).unwrap();
    assert_eq!((ends(directory.path(), &verify), ends(directory.path(), &["verify"])), (2, 0));
    fs::remove_file(directory.path().join("tile/entries/002")).unwrap();
    assert_eq!(ends(directory.path(), &verify), 1, "what is wrong is wrong all the same");
}

#[test]
fn a_copy_without_a_key_needs_one() {
    let (directory, log) = log_of(3, 0);
    let key = log.verifier_key().to_string();
    fs::remove_file(directory.path().join("vkey")).unwrap();
    for words in ["show", "verify"] {
        assert_eq!(ends(directory.path(), &[words]), 2);
        assert_eq!(ends(directory.path(), &[words, "--key", &key]), 0);
    }
    let (_other, other) = log_of(3, 0);
    let key = other.verifier_key().to_string();
    for words in [&["show"][..], &["verify"], &["balance"], &["coverage"], &["proof", "1"]] {
        let words = [words, &["--key", &key]].concat();
        assert_eq!(ends(directory.path(), &words), 1, "{words:?}");
    }
}
