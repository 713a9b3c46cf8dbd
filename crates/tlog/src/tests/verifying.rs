use std::fs;
use std::path::Path;

use super::{entry, grow, open, told, verified};
use crate::{Algorithm, Checked, Hash, Log, Note, Options, SignerKey, Trust, cosign, verify};

fn log_of(size: u64) -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, size);
    log.checkpoint().unwrap();
    (directory, log)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn logs_of_all_sizes_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    for size in [0, 1, 255, 256, 257, 512, 700] {
        grow(&mut log, size);
        log.checkpoint().unwrap();
        let report = verified(&log);
        assert_eq!((told(&report), report.unsigned, report.unfinished.len()), (vec![], 0, 0), "of {size}");
        assert_eq!(report.checkpoint.as_ref(), Some(log.signed()));
    }
}

#[test]
fn one_change_is_one_fault_with_its_place() {
    let cases = [
        ("tile/entries/001", 40, "tile/entries/001, "),
        ("tile/entries/002.p/88", 40, "tile/entries/002.p/88, "),
        ("tile/0/001", 5 * 32, "tile/0/001, 5: is not the hash of its entry"),
        ("tile/0/002.p/88", 7 * 32 + 3, "tile/0/002.p/88, 7: is not the hash of its entry"),
        ("tile/1/000.p/2", 32, "tile/1/000.p/2, 1: is not the root of what is below it"),
    ];
    for (file, at, expected) in cases {
        let (directory, log) = log_of(600);
        flip(&directory.path().join(file), at);
        let faults = told(&verified(&log));
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{file}: {faults:?}");
    }
}

#[test]
fn an_altered_entry_is_named() {
    let (directory, log) = log_of(600);
    let path = directory.path().join("tile/entries/001");
    let bytes = fs::read(&path).unwrap();
    let needle = entry(300);
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    flip(&path, at + 1);
    assert_eq!(told(&verified(&log)), ["tile/entries/001, 300: does not have the hash it had"]);
}

#[test]
fn missing_files_are_named() {
    for file in
        ["tile/entries/000", "tile/0/001", "tile/1/000.p/2", "tile/0/002.p/88", "tile/entries/002.p/88"]
    {
        let (directory, log) = log_of(600);
        fs::remove_file(directory.path().join(file)).unwrap();
        assert_eq!(told(&verified(&log)), [format!("{file}: is missing")]);
    }
    let (directory, log) = log_of(3);
    fs::remove_file(directory.path().join("checkpoint")).unwrap();
    let report = verified(&log);
    assert!(report.checkpoint.is_none() && !report.is_whole());
}

#[test]
fn what_is_beyond_the_checkpoint_is_unfinished_and_no_fault() {
    let (directory, mut log) = log_of(600);
    grow(&mut log, 620);
    log.flush().unwrap();
    for left in ["tile/entries/002", "tile/0/002.p/90", "checkpoint.next"] {
        fs::write(directory.path().join(left), "left by a kill").unwrap();
    }
    let report = verified(&log);
    assert_eq!((told(&report), report.unsigned), (vec![], 20));
    let unfinished: Vec<_> = report.unfinished.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(unfinished, ["tile/0/002.p/90", "tile/entries/002", "checkpoint.next"]);
    fs::remove_file(directory.path().join("checkpoint.next")).unwrap();
    drop(log);
    let (mut log, _) = open(directory.path());
    grow(&mut log, 768);
    log.checkpoint().unwrap();
    let report = verified(&log);
    assert_eq!((told(&report), report.unfinished.len()), (vec![], 0));
}

#[test]
fn a_stranger_s_key_and_no_key_are_refused() {
    let (directory, log) = log_of(3);
    let (_other_directory, other) = log_of(3);
    for keys in [&[][..], std::slice::from_ref(other.verifier_key())] {
        let report = verify(directory.path(), &Trust { keys, ..Trust::default() }).unwrap();
        assert_eq!(report.faults.len(), 1, "{:?}", told(&report));
        assert!(told(&report)[0].starts_with("checkpoint: no signature by any of the given keys"));
    }
    assert!(verified(&log).is_whole());
}

/// The host's root has the key: only what was kept elsewhere shows what it does.
#[test]
fn a_fork_and_a_cut_are_found_by_a_checkpoint_that_was_kept() {
    let (directory, log) = log_of(600);
    let kept: Note = log.note().unwrap();
    let key = fs::read(directory.path().join("key")).unwrap();
    let keys = [log.verifier_key().clone()];
    for (size, expected) in [(700, "a fork"), (500, "the log was cut, or copied before that checkpoint")] {
        let forged = tempfile::tempdir().unwrap();
        fs::write(forged.path().join("key"), &key).unwrap();
        let (mut log, _) = Log::open(forged.path(), &Options::new("any")).unwrap();
        for index in 0..size {
            log.append(if index == 123 { b"nothing happened" } else { b"x" }).unwrap();
        }
        log.checkpoint().unwrap();
        assert!(verify(forged.path(), &Trust { keys: &keys, ..Trust::default() }).unwrap().is_whole());
        let trust = Trust { keys: &keys, anchors: std::slice::from_ref(&kept), ..Trust::default() };
        let faults = told(&verify(forged.path(), &trust).unwrap());
        assert!(faults.len() == 1 && faults[0].ends_with(expected), "{faults:?}");
    }
    let (mut log, _) = (log, ());
    grow(&mut log, 900);
    log.checkpoint().unwrap();
    let trust = Trust { keys: &keys, anchors: std::slice::from_ref(&kept), ..Trust::default() };
    assert_eq!(told(&verify(directory.path(), &trust).unwrap()), [""; 0]);
    assert_ne!(log.signed().root, Hash::of_nothing());
}

/// As `cp` and `rsync` copy a log while its writer goes on: the checkpoint first, tiles later.
#[test]
fn a_copy_of_a_log_that_went_on_is_whole() {
    for size in [601, 700, 768, 900, 1030] {
        let (directory, mut log) = log_of(600);
        let checkpoint = fs::read(directory.path().join("checkpoint")).unwrap();
        grow(&mut log, size);
        log.checkpoint().unwrap();
        let key = log.verifier_key().clone();
        drop(log);
        fs::write(directory.path().join("checkpoint"), checkpoint).unwrap();
        fs::remove_file(directory.path().join("pending")).unwrap();
        let keys = [key];
        let trust = Trust { keys: &keys, ..Trust::default() };
        let report = verify(directory.path(), &trust).unwrap();
        assert_eq!(told(&report), [""; 0], "of {size}");
        assert!(!report.unfinished.is_empty() && report.checkpoint.unwrap().size == 600);
        let mut read = Checked::open(directory.path(), &keys).unwrap();
        assert_eq!(read.entries(599).unwrap(), [(599, entry(599))]);
        // The wider one begins as it was signed, or it is a fault.
        let wider = report.unfinished.iter().find(|file| file.starts_with("tile/entries/")).unwrap();
        let is_in_place = wider.starts_with("tile/entries/002.p") || wider.ends_with("002");
        assert!(is_in_place, "{}", wider.display());
        flip(&directory.path().join(wider), 40);
        let faults = told(&verify(directory.path(), &trust).unwrap());
        assert!(!faults.is_empty() && faults[0].starts_with("tile/entries/002.p/88"), "{faults:?}");
        assert!(Checked::open(directory.path(), &keys).unwrap().entries(599).is_err());
    }
}

#[test]
fn out_of_a_place_of_many_only_what_the_logs_key_has_signed_accuses() {
    let (directory, mut log) = log_of(300);
    let (earlier, key) = (log.note().unwrap(), log.verifier_key().clone());
    grow(&mut log, 1000);
    log.checkpoint().unwrap();
    // Of a log that the same key has signed, and of one that another has under the same name.
    let [forked, other] = [true, false].map(|has_key| {
        let place = tempfile::tempdir().unwrap();
        if has_key {
            fs::copy(directory.path().join("key"), place.path().join("key")).unwrap();
        }
        let (mut log, _) = Log::open(place.path(), &Options::new(key.name())).unwrap();
        log.append(b"another").unwrap();
        grow(&mut log, 700);
        log.checkpoint().unwrap();
        log.note().unwrap()
    });
    let report = |kept: &[Note]| {
        let trust = Trust { keys: std::slice::from_ref(&key), kept, ..Trust::default() };
        let report = verify(directory.path(), &trust).unwrap();
        (told(&report), report.anchors, report.foreign, report.outlived)
    };
    assert_eq!(report(&[earlier.clone(), other.clone()]), (vec![], 1, 1, 0));
    let (faults, ..) = report(&[earlier.clone(), forked, other]);
    assert!(faults.len() == 1 && faults[0].contains("a fork"), "{faults:?}");
    let later = log.note().unwrap();
    log.prune(512).unwrap();
    assert_eq!(report(&[earlier, later]), (vec![], 1, 0, 1), "what shows nothing any more is counted");
}

#[test]
fn a_kept_checkpoint_of_what_was_pruned_is_neither_confirmed_nor_called_a_fork() {
    let (directory, mut log) = log_of(300);
    let kept = log.note().unwrap();
    let witness = SignerKey::generate("witness", Algorithm::Cosignature).unwrap();
    let witnesses = [witness.public().clone()];
    let mut cosigned = kept.clone();
    cosigned.sign(&witness, 1);
    cosign(directory.path(), &cosigned, &witnesses).unwrap();
    grow(&mut log, 1000);
    log.checkpoint().unwrap();
    let keys = [log.verifier_key().clone()];
    let (anchors, none) = (std::slice::from_ref(&kept), Trust::default());
    let trust = Trust { keys: &keys, witnesses: &witnesses, anchors, ..none };
    let whole = verify(directory.path(), &trust).unwrap();
    assert_eq!((told(&whole), whole.unchecked.len(), whole.witnesses.len()), (vec![], 0, 1));
    assert_eq!(whole.anchors, 1);
    log.prune(512).unwrap();
    let report = verify(directory.path(), &trust).unwrap();
    assert_eq!((told(&report), report.witnesses.len()), (vec![], 0));
    let expected = "a kept checkpoint of 300 entries: index 256 was pruned; the log begins at entry 512";
    assert!(report.unchecked.len() == 2 && report.unchecked[1] == expected, "{:?}", report.unchecked);
    // That of another log, whose key only says that it was pruned, is a fault all the same.
    let other = tempfile::tempdir().unwrap();
    fs::copy(directory.path().join("key"), other.path().join("key")).unwrap();
    let (mut forged, _) = Log::open(other.path(), &Options::new("any")).unwrap();
    (0..1000).for_each(|_| assert!(forged.append(b"nothing happened").is_ok()));
    forged.checkpoint().unwrap();
    forged.prune(256).unwrap();
    let report = verify(other.path(), &Trust { witnesses: &[], ..trust }).unwrap();
    assert_eq!(report.unchecked, [""; 0]);
    assert!(told(&report)[0].ends_with("a fork"), "{:?}", told(&report));
}
