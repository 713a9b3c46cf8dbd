//! Entries are believed only if they are those that were signed.

use std::fs;
use std::path::Path;

use super::{entry, grow, open};
use crate::{Checked, Error, Log, VerifierKey};

fn log_of(size: u64) -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, size);
    log.checkpoint().unwrap();
    (directory, log)
}

fn read(directory: &Path, key: &VerifierKey, from: u64) -> Result<Vec<(u64, Vec<u8>)>, Error> {
    let mut log = Checked::open(directory, std::slice::from_ref(key))?;
    let mut all = Vec::new();
    let mut next = from;
    while next < log.size() {
        all.extend(log.entries(next)?);
        next = all.last().unwrap().0 + 1;
    }
    Ok(all)
}

#[test]
fn logs_of_all_sizes_are_read_as_they_were_written() {
    for size in [0, 1, 255, 256, 257, 600, 66_000] {
        let (directory, log) = log_of(size);
        let all = read(directory.path(), log.verifier_key(), 0).unwrap();
        assert!(all == (0..size).map(|index| (index, entry(index))).collect::<Vec<_>>(), "of {size}");
    }
    let (directory, log) = log_of(600);
    assert_eq!(read(directory.path(), log.verifier_key(), 590).unwrap().len(), 10);
}

#[test]
fn a_part_is_read_without_the_rest_and_nothing_altered_is_believed() {
    // The file that is altered, and what can still be read from it.
    let cases = [
        ("tile/entries/001", &[0, 65_536, 65_999][..], &[256][..]),
        ("tile/entries/257.p/208", &[0, 256, 65_536][..], &[65_999][..]),
        ("tile/1/000", &[65_536, 65_999][..], &[0, 256][..]),
        ("tile/1/001.p/1", &[][..], &[][..]),
        ("tile/0/257.p/208", &[][..], &[][..]),
        // Only entries are handed out, and the level above has all of a full file's hashes as one.
        ("tile/0/001", &[0, 256, 65_536, 65_999][..], &[][..]),
    ];
    for (file, well, altered) in cases {
        let (directory, log) = log_of(66_000);
        let path = directory.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
        let log = Checked::open(directory.path(), &[log.verifier_key().clone()]);
        let Ok(mut log) = log else {
            assert!(well.is_empty(), "{file}: {}", log.unwrap_err());
            continue;
        };
        for &index in well {
            assert_eq!(log.entries(index).unwrap()[0], (index, entry(index)), "{file}");
            log.prove(index).map_or_else(|error| assert_eq!(file, "tile/0/001", "{error}"), drop);
        }
        for &index in altered {
            let refused = log.entries(index).unwrap_err();
            assert!(refused.is_of_the_log() && refused.to_string().contains(file), "{refused}");
            assert!(log.prove(index).is_err());
        }
        assert!(!well.is_empty());
    }
}

#[test]
fn only_what_the_log_s_key_signed_is_read() {
    let (directory, log) = log_of(600);
    let (_other, stranger) = log_of(3);
    assert!(matches!(Checked::open(directory.path(), &[]), Err(Error::Damaged { .. })));
    assert!(Checked::open(directory.path(), &[stranger.verifier_key().clone()]).is_err());
    // What says that the beginning was pruned must be signed, too.
    let pruned = crate::statement::pruned(&stranger.key, 256).to_string();
    fs::write(directory.path().join("pruned"), pruned).unwrap();
    let refused = Checked::open(directory.path(), &[log.verifier_key().clone()]).unwrap_err();
    assert!(refused.to_string().contains("pruned: "), "{refused}");
}

#[test]
fn it_is_read_while_its_writer_goes_on_and_after_pruning() {
    let (directory, mut log) = log_of(600);
    let mut read = Checked::open(directory.path(), &[log.verifier_key().clone()]).unwrap();
    grow(&mut log, 700);
    log.checkpoint().unwrap();
    assert_eq!(read.entries(599).unwrap(), [(599, entry(599))]);
    grow(&mut log, 1300);
    log.checkpoint().unwrap();
    log.prune(512).unwrap();
    assert_eq!(read.entries(599).unwrap(), [(599, entry(599))]);
    assert!(matches!(read.entries(0), Err(Error::Pruned { .. })));
    let mut read = Checked::open(directory.path(), &[log.verifier_key().clone()]).unwrap();
    assert_eq!((read.first(), read.entries(512).unwrap().len()), (512, 256));
    assert_eq!(read.prove(512).unwrap().index, 512);
}
