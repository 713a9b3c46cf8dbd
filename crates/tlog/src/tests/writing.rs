use std::os::unix::fs::PermissionsExt as _;

use super::tree::naive_root;
use super::{entry, grow, open};
use crate::{Error, Hash, Log, MAX_ENTRY, Options, Reader, VerifierKey};

#[test]
fn entries_are_read_as_they_were_appended_whatever_the_checkpoints() {
    for sizes in [&[0u64, 1, 2][..], &[255, 256, 257], &[600], &[511, 512, 513, 1024, 1300]] {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        for &size in sizes {
            grow(&mut log, size);
            let checkpoint = log.checkpoint().unwrap();
            let leaves: Vec<Hash> = (0..size).map(|index| Hash::of_leaf(&entry(index))).collect();
            assert_eq!((checkpoint.size, checkpoint.root), (size, naive_root(&leaves)));
            let reader = Reader::open(directory.path()).unwrap();
            assert_eq!(reader.checkpoint(), &checkpoint);
            let read: Vec<_> = reader.entries(0..u64::MAX).collect::<Result<_, _>>().unwrap();
            assert!(read == (0..size).map(|index| (index, entry(index))).collect::<Vec<_>>(), "of {size}");
            for (index, expected) in read.iter().step_by(29) {
                assert_eq!(&reader.entry(*index).unwrap(), expected);
            }
            assert!(matches!(reader.entry(size), Err(Error::Beyond { .. })));
        }
    }
}

#[test]
fn a_range_begins_and_ends_where_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 700);
    log.checkpoint().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    for (range, count) in [(250..260, 10), (256..257, 1), (690..900, 10), (700..900, 0), (5..5, 0)] {
        let start = range.start;
        let read: Vec<u64> = reader.entries(range).map(|read| read.unwrap().0).collect();
        assert_eq!(read, (start..start + count).collect::<Vec<_>>());
    }
}

#[test]
fn a_reader_goes_on_while_partial_tiles_are_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 10);
    log.checkpoint().unwrap();
    let mut reader = Reader::open(directory.path()).unwrap();
    for size in [11, 200, 300] {
        grow(&mut log, size);
        log.checkpoint().unwrap();
        assert_eq!(reader.entries(0..u64::MAX).count(), 10);
        assert_eq!(reader.entry(9).unwrap(), entry(9));
    }
    reader.refresh().unwrap();
    assert_eq!(reader.entries(0..u64::MAX).filter(Result::is_ok).count(), 300);
}

#[test]
fn only_the_files_of_the_last_checkpoint_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    for size in [1, 100, 256, 300, 513] {
        grow(&mut log, size);
        log.checkpoint().unwrap();
    }
    let mut files = Vec::new();
    let mut directories = vec![directory.path().join("tile")];
    while let Some(next) = directories.pop() {
        for found in std::fs::read_dir(next).unwrap().flatten() {
            let path = found.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path.strip_prefix(directory.path()).unwrap().display().to_string());
            }
        }
    }
    files.sort();
    let expected = [
        "tile/0/000",
        "tile/0/001",
        "tile/0/002.p/1",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/1",
    ];
    assert_eq!(files, expected);
}

#[test]
fn an_entry_has_at_most_65535_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    assert!(matches!(log.append(&vec![0; MAX_ENTRY + 1]), Err(Error::TooLong(65_536))));
    assert_eq!(log.append(&vec![7; MAX_ENTRY]).unwrap(), 0);
    log.checkpoint().unwrap();
    assert_eq!(Reader::open(directory.path()).unwrap().entry(0).unwrap(), vec![7; MAX_ENTRY]);
}

#[test]
fn a_checkpoint_is_made_before_memory_runs_out() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { unsigned_bytes: 10_000, ..Options::new("bulkhead/test") };
    let (mut log, _) = Log::open(directory.path(), &options).unwrap();
    for _ in 0..1000 {
        log.append(&[1; 98]).unwrap();
    }
    assert_eq!(log.signed().size, 900);
    assert!(log.unsigned.entries.len() < 10_000 + 256 * 100);
}

#[test]
fn the_key_is_private_and_signs_every_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    let mode = std::fs::metadata(directory.path().join("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let told = std::fs::read_to_string(directory.path().join("vkey")).unwrap();
    let key = VerifierKey::parse(told.trim()).unwrap();
    assert_eq!((&key, key.name()), (log.verifier_key(), "bulkhead/test"));
    log.append(b"x").unwrap();
    log.checkpoint().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.note().require(std::slice::from_ref(&key)).unwrap(), [&key]);
    assert_eq!(reader.checkpoint().origin, "bulkhead/test");
}

#[test]
fn a_log_has_one_writer_and_keeps_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let (log, opening) = open(directory.path());
    assert!(opening.created);
    let second = Log::open(directory.path(), &Options::new("bulkhead/renamed"));
    assert!(matches!(second, Err(Error::InUse { .. })));
    drop(log);
    let (log, opening) = Log::open(directory.path(), &Options::new("bulkhead/renamed")).unwrap();
    assert_eq!((opening.created, log.signed().origin.as_str()), (false, "bulkhead/test"));
}

#[test]
fn names_that_a_note_cannot_hold_are_refused() {
    for name in ["", "two words", "a+b", "line\n"] {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Log::open(directory.path(), &Options::new(name)), Err(Error::Key(_))), "{name:?}");
    }
}
