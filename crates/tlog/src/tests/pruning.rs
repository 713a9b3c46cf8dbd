use std::fs;

use super::{entry, grow, open, told, verified};
use crate::{Error, Hash, Reader, check_consistency, check_inclusion};

#[test]
fn what_remains_is_whole_and_provable() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 1000);
    log.checkpoint().unwrap();
    let before = Reader::open(directory.path()).unwrap();
    let roots: Vec<Hash> = (0..=1000).map(|size| before.root_at(size).unwrap()).collect();
    log.prune(512).unwrap();
    for gone in ["tile/entries/000", "tile/entries/001", "tile/0/000", "tile/0/001"] {
        assert!(!directory.path().join(gone).exists(), "{gone}");
    }
    grow(&mut log, 1400);
    log.checkpoint().unwrap();
    let report = verified(&log);
    assert_eq!((told(&report), report.first, report.unfinished.len()), (vec![], 512, 0));
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.first().unwrap(), 512);
    let now = reader.checkpoint();
    for index in [512, 767, 999, 1399] {
        assert_eq!(reader.entry(index).unwrap(), entry(index));
        let path = reader.inclusion(index).unwrap();
        check_inclusion(Hash::of_leaf(&entry(index)), index, 1400, now.root, &path).unwrap();
    }
    // Roots of before the first entry that is left, at multiples of 256; later ones everywhere.
    for old in [256, 512, 513, 700, 1000] {
        assert_eq!(reader.root_at(old).unwrap(), roots[old as usize]);
        check_consistency(old, roots[old as usize], 1400, now.root, &reader.consistency(old).unwrap())
            .unwrap();
    }
    assert!(matches!(reader.inclusion(511), Err(Error::Pruned { first: 512, .. })));
    assert!(matches!(reader.consistency(300), Err(Error::Pruned { first: 512, .. })));
    assert!(matches!(reader.entry(511), Err(Error::Pruned { index: 511, first: 512 })));
    assert!(matches!(reader.entries(0..9).next(), Some(Err(Error::Pruned { .. }))));
    drop(log);
    let (log, _) = open(directory.path());
    assert_eq!((log.size(), log.first().unwrap()), (1400, 512));
}

#[test]
fn only_signed_whole_bundles_are_pruned_and_only_forwards() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 600);
    log.checkpoint().unwrap();
    grow(&mut log, 1000);
    for first in [100, 768, 1024] {
        assert!(matches!(log.prune(first), Err(Error::Prune(..))), "{first}");
    }
    log.prune(512).unwrap();
    assert!(matches!(log.prune(256), Err(Error::Prune(..))));
    log.prune(512).unwrap();
}

#[test]
fn an_interrupted_prune_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 1100);
    log.checkpoint().unwrap();
    let kept = directory.path().join("tile/entries/001");
    let bytes = fs::read(&kept).unwrap();
    log.prune(768).unwrap();
    fs::write(&kept, &bytes).unwrap();
    assert!(verified(&log).is_whole());
    log.prune(768).unwrap();
    log.prune(1024).unwrap();
    assert!(!kept.exists() && verified(&log).is_whole());
}

#[test]
fn removing_is_no_pruning_unless_the_key_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 1000);
    log.checkpoint().unwrap();
    log.prune(256).unwrap();
    let record = directory.path().join("pruned");
    let signed = fs::read_to_string(&record).unwrap();
    for file in ["tile/entries/001", "tile/0/001"] {
        fs::remove_file(directory.path().join(file)).unwrap();
    }
    assert_eq!(told(&verified(&log)), ["tile/entries/001: is missing", "tile/0/001: is missing"]);
    fs::write(&record, signed.replacen("\n256\n", "\n512\n", 1)).unwrap();
    let faults = told(&verified(&log));
    assert!(faults[0].starts_with("pruned: signature of bulkhead/test does not fit"), "{faults:?}");
    fs::remove_file(&record).unwrap();
    assert!(told(&verified(&log)).contains(&"tile/entries/000: is missing".to_owned()));
}
