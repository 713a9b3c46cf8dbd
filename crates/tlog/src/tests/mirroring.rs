//! Mirrors: whatever the parts, they are the log; and what is not of that log they do not take.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::{ProptestConfig, any, prop};
use proptest::{prop_assert_eq, proptest};

use super::{entry, grow, open, told};
use crate::{Log, Mirror, Most, Part, Reader, Refused, Taken, Trust, VerifierKey, verify};

const ALL: Most = Most { bytes: usize::MAX, entries: usize::MAX, skipped: usize::MAX };

fn at_most(entries: usize) -> Most {
    Most { entries, ..ALL }
}

fn part(log: &Log, from: u64, most: Most) -> Part {
    Reader::open(log.directory()).unwrap().part(from, most).unwrap()
}

/// All files of a tree of tiles with what is in them.
fn tiles(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![directory.join("tile")];
    while let Some(at) = left.pop() {
        for path in fs::read_dir(at).into_iter().flatten().map(|found| found.unwrap().path()) {
            if path.is_dir() {
                left.push(path);
            } else {
                found.push((path.strip_prefix(directory).unwrap().to_owned(), fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Faults of a mirror by the key that was known first.
fn faults(mirror: &Mirror, key: &VerifierKey) -> Vec<String> {
    let trust = Trust { keys: std::slice::from_ref(key), ..Trust::default() };
    told(&verify(mirror.directory(), &trust).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Parts of any length, checkpoints in between or not, sent again or not, the mirror opened anew or not, and a
    /// rotation of the key somewhere: the mirror has the log's files, and verifies.
    #[test]
    fn any_parts_make_the_same_mirror(
        steps in prop::collection::vec((1..400u64, 1..300usize, any::<(bool, bool)>()), 1..12),
        rotates_at in 0..12usize,
    ) {
        let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut log, _) = open(source.path());
        let key = log.verifier_key().clone();
        let mut mirror = Mirror::open(copy.path(), Some(&key)).unwrap();
        let mut before = None;
        for (number, (more, most, (again, anew))) in steps.into_iter().enumerate() {
            let size = log.size() + more;
            grow(&mut log, size);
            log.checkpoint().unwrap();
            if number == rotates_at {
                log.rotate_key().unwrap();
            }
            // Not always to the end: the next step's part goes on behind the checkpoint of before.
            for _ in 0..3 {
                let from = mirror.size();
                let sent = part(&log, from, at_most(most));
                let end = sent.end().unwrap();
                let expected = if end == from { Taken::Known(end) } else { Taken::Extended(end) };
                assert_eq!(mirror.take(&sent).unwrap(), expected);
                if again {
                    assert!(matches!(mirror.take(&sent).unwrap(), Taken::Known(_)));
                    if let Some(older) = &before {
                        assert!(matches!(mirror.take(older).unwrap(), Taken::Known(_)));
                    }
                }
                if anew {
                    drop(mirror);
                    mirror = Mirror::open(copy.path(), None).unwrap();
                }
                assert_eq!(mirror.size(), end);
                before = Some(sent);
            }
            let whole = faults(&mirror, &key);
            assert!(mirror.signed().size == 0 || whole.is_empty(), "{whole:?}");
        }
        let from = mirror.size();
        mirror.take(&part(&log, from, ALL)).unwrap();
        prop_assert_eq!(mirror.signed(), log.signed());
        prop_assert_eq!(faults(&mirror, &key), Vec::<String>::new());
        prop_assert_eq!(tiles(copy.path()), tiles(source.path()));
        let read: Vec<_> = mirror.reader().entries(0..u64::MAX).map(|read| read.unwrap().1).collect();
        let own: Vec<_> = Reader::open(source.path()).unwrap().entries(0..u64::MAX).map(|read| read.unwrap().1).collect();
        prop_assert_eq!(read, own);
    }
}

#[test]
fn a_log_that_was_pruned_is_taken_from_there_on() {
    for (has, most) in [(0, 1), (0, 100), (300, 1), (256, 2), (700, 100)] {
        let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut log, _) = open(source.path());
        let key = log.verifier_key().clone();
        let mut mirror = Mirror::open(copy.path(), Some(&key)).unwrap();
        if has != 0 {
            grow(&mut log, has);
            log.checkpoint().unwrap();
            mirror.take(&part(&log, 0, ALL)).unwrap();
        }
        log.rotate_key().unwrap();
        grow(&mut log, 1500);
        log.checkpoint().unwrap();
        log.prune(1024).unwrap();
        let most = Most { skipped: most, ..at_most(200) };
        let mut turns = 0;
        while mirror.size() < log.signed().size {
            let sent = part(&log, mirror.size(), most);
            assert!(matches!(mirror.take(&sent).unwrap(), Taken::Extended(_)), "{has}");
            assert!(matches!(mirror.take(&sent).unwrap(), Taken::Known(_)));
            drop(mirror);
            mirror = Mirror::open(copy.path(), None).unwrap();
            turns += 1;
        }
        assert!(turns >= 3);
        let trust = Trust { keys: std::slice::from_ref(&key), ..Trust::default() };
        let report = verify(mirror.directory(), &trust).unwrap();
        assert_eq!((told(&report), report.first), (vec![], 1024), "{has}");
        let read = mirror.reader().entries(1024..u64::MAX).map(|read| read.unwrap().1).collect::<Vec<_>>();
        assert_eq!(read.len(), 476);
        // What nobody says to be pruned is not skipped.
        let mut silent = part(&log, 0, ALL);
        silent.pruned = None;
        let other = tempfile::tempdir().unwrap();
        let mut fresh = Mirror::open(other.path(), Some(&key)).unwrap();
        assert!(matches!(fresh.take(&silent), Err(Refused::Malformed(_))));
        assert_eq!(fresh.size(), 0);
    }
}

#[test]
fn what_is_not_of_the_log_is_refused_with_its_reason() {
    let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut log, _) = open(source.path());
    let key = log.verifier_key().clone();
    grow(&mut log, 300);
    log.checkpoint().unwrap();
    let mut mirror = Mirror::open(copy.path(), Some(&key)).unwrap();
    mirror.take(&part(&log, 0, ALL)).unwrap();
    let before = tiles(copy.path());
    // A copy of the log goes another way: root of its host writes with its key.
    let forked = tempfile::tempdir().unwrap();
    copy_log(source.path(), forked.path());
    let (mut fork, _) = open(forked.path());
    grow(&mut log, 500);
    log.checkpoint().unwrap();
    fork.append(b"another").unwrap();
    grow(&mut fork, 320);
    fork.checkpoint().unwrap();
    let gap = part(&log, 301, ALL);
    assert!(matches!(mirror.take(&gap), Err(Refused::Gap { stands: 300, from: 301 })));
    let good = part(&log, 300, ALL);
    let mut altered = good.clone();
    altered.entries[7][0] ^= 1;
    assert!(matches!(mirror.take(&altered), Err(Refused::Altered { end: 500 })));
    let mut shorter = good.clone();
    shorter.entries.pop();
    assert!(matches!(mirror.take(&shorter), Err(Refused::Altered { end: 499 })));
    let mut longer = good.clone();
    longer.entries.push(Vec::new());
    assert!(matches!(mirror.take(&longer), Err(Refused::Malformed(_))));
    let mut endless = good.clone();
    endless.from = u64::MAX;
    assert!(matches!(mirror.take(&endless), Err(Refused::Malformed(_) | Refused::Gap { .. })));
    let other = tempfile::tempdir().unwrap();
    let (mut stranger, _) = open(other.path());
    grow(&mut stranger, 400);
    stranger.checkpoint().unwrap();
    assert!(matches!(mirror.take(&part(&stranger, 300, ALL)), Err(Refused::OtherKey(_))));
    assert_eq!((mirror.size(), tiles(copy.path())), (300, before));
    mirror.take(&good).unwrap();
    // The fork is shorter, and then longer.
    assert!(matches!(mirror.take(&part(&fork, 300, ALL)), Err(Refused::Fork { stands: 500, size: 320 })));
    grow(&mut fork, 600);
    fork.checkpoint().unwrap();
    for from in [301, 320, 500] {
        let refused = mirror.take(&part(&fork, from, ALL));
        assert!(matches!(refused, Err(Refused::Fork { stands: 500, size: 600 })), "{from}: {refused:?}");
    }
    // From before the fork on what comes is in order but for its entries.
    assert!(matches!(mirror.take(&part(&fork, 300, ALL)), Err(Refused::Altered { .. })));
    assert_eq!((mirror.size(), faults(&mirror, &key)), (500, vec![]));
    // A thief of a key that was replaced.
    let stolen = tempfile::tempdir().unwrap();
    copy_log(source.path(), stolen.path());
    log.rotate_key().unwrap();
    mirror.take(&part(&log, 500, ALL)).unwrap();
    let (mut thief, _) = open(stolen.path());
    grow(&mut thief, 520);
    thief.checkpoint().unwrap();
    assert!(matches!(mirror.take(&part(&thief, 501, ALL)), Err(Refused::OtherKey(_))));
}

/// What a kill leaves half of is what is being written: none of it may be in use.
#[test]
fn no_file_is_written_again() {
    use std::os::unix::fs::MetadataExt as _;
    let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut log, _) = open(source.path());
    let mut mirror = Mirror::open(copy.path(), Some(&log.verifier_key().clone())).unwrap();
    let mut before: BTreeMap<PathBuf, (u64, i64, i64)> = BTreeMap::new();
    for most in [200, 700, 30, 30, 300, usize::MAX, 5, 5, usize::MAX] {
        let size = log.size() + 150;
        grow(&mut log, size);
        log.checkpoint().unwrap();
        mirror.take(&part(&log, mirror.size(), at_most(most))).unwrap();
        let written = |name: &PathBuf| {
            let data = fs::metadata(copy.path().join(name)).unwrap();
            (data.ino(), data.mtime(), data.mtime_nsec())
        };
        let mut now = BTreeMap::new();
        for (name, _) in tiles(copy.path()) {
            let at = written(&name);
            now.insert(name, at);
        }
        for (name, at) in &before {
            assert!(now.get(name).is_none_or(|now| now == at), "{}", name.display());
        }
        before = now;
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_mirror_that_was_killed_goes_on_from_each_step() {
    let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut log, _) = open(source.path());
    let key = log.verifier_key().clone();
    grow(&mut log, 300);
    log.checkpoint().unwrap();
    let mut mirror = Mirror::open(copy.path(), Some(&key)).unwrap();
    mirror.take(&part(&log, 0, ALL)).unwrap();
    let first = tempfile::tempdir().unwrap();
    copy_log(copy.path(), first.path());
    grow(&mut log, 700);
    log.rotate_key().unwrap();
    mirror.take(&part(&log, 300, at_most(150))).unwrap();
    let staged = tempfile::tempdir().unwrap();
    copy_log(copy.path(), staged.path());
    mirror.take(&part(&log, 450, ALL)).unwrap();
    drop(mirror);
    let file = |name: &str, from: &Path, to: &Path| fs::copy(from.join(name), to.join(name)).map(|_| ());
    // Tiles of the next checkpoint, and nothing that says so; the same with what is staged.
    for from in [&first, &staged] {
        let killed = tempfile::tempdir().unwrap();
        copy_log(from.path(), killed.path());
        for (name, bytes) in tiles(copy.path()) {
            fs::create_dir_all(killed.path().join(&name).parent().unwrap()).unwrap();
            fs::write(killed.path().join(name), bytes).unwrap();
        }
        let mut again = Mirror::open(killed.path(), None).unwrap();
        assert_eq!(faults(&again, &key), [""; 0]);
        again.take(&part(&log, again.size(), ALL)).unwrap();
        assert_eq!((again.size(), faults(&again, &key)), (701, vec![]));
        assert_eq!(tiles(killed.path()), tiles(copy.path()));
    }
    // The checkpoint under its other name; what was staged is still there; the key beside is the old one.
    let killed = tempfile::tempdir().unwrap();
    copy_log(copy.path(), killed.path());
    fs::rename(killed.path().join("checkpoint"), killed.path().join("checkpoint.next")).unwrap();
    file("checkpoint", staged.path(), killed.path()).unwrap();
    file("staged", staged.path(), killed.path()).unwrap();
    file("vkey", staged.path(), killed.path()).unwrap();
    let again = Mirror::open(killed.path(), None).unwrap();
    assert_eq!((again.size(), again.signed().size, faults(&again, &key)), (701, 701, vec![]));
    assert_eq!(fs::read(killed.path().join("vkey")).unwrap(), fs::read(copy.path().join("vkey")).unwrap());
    assert!(Mirror::open(killed.path(), None).is_err(), "it has one writer");
    assert_eq!(entry(7), again.reader().entry(7).unwrap());
}

fn copy_log(from: &Path, to: &Path) {
    for found in fs::read_dir(from).unwrap() {
        let (path, name) = (found.as_ref().unwrap().path(), found.unwrap().file_name());
        if path.is_dir() {
            fs::create_dir_all(to.join(&name)).unwrap();
            copy_log(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// A checkpoint that a retired key signed over the rotation that retires it, and rotations without end.
#[test]
fn rotations_are_those_that_entries_are() {
    use crate::open::{KEY, read_key};
    let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut log, _) = open(source.path());
    let key = log.verifier_key().clone();
    let old = read_key(source.path(), KEY).unwrap();
    log.rotate_key().unwrap();
    grow(&mut log, 20);
    log.checkpoint().unwrap();
    let mut mirror = Mirror::open(copy.path(), Some(&key)).unwrap();
    let honest = part(&log, 0, ALL);
    let mut note = crate::Note::new(honest.note.text().to_owned());
    note.sign(&old, 0);
    let forged = Part { note, rotations: Vec::new(), ..honest.clone() };
    assert!(matches!(mirror.take(&forged), Err(Refused::OtherKey(_))));
    // The rotation is said to be where no entry is one.
    let elsewhere = vec![(10, honest.rotations[0].1.clone())];
    assert!(matches!(mirror.take(&Part { rotations: elsewhere, ..forged }), Err(Refused::OtherKey(_))));
    assert_eq!(mirror.size(), 0);
    mirror.take(&honest).unwrap();
    assert_eq!(faults(&mirror, &key), Vec::<String>::new());
    assert!(copy.path().join("vkey").exists());
    for _ in 0..65 {
        log.rotate_key().unwrap();
    }
    let stands = mirror.size();
    assert!(matches!(mirror.take(&part(&log, stands, ALL)), Err(Refused::Malformed(_))));
    assert!(matches!(mirror.take(&part(&log, stands, at_most(64))), Ok(Taken::Extended(_))));
}

/// What is skipped ends where the log says that its entries begin, in however many parts.
#[test]
fn nothing_comes_before_what_is_said_to_be_the_first_entry() {
    let (source, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut log, _) = open(source.path());
    let key = log.verifier_key().clone();
    grow(&mut log, 600);
    log.checkpoint().unwrap();
    let whole = part(&log, 256, ALL);
    log.prune(512).unwrap();
    let mut mirror = Mirror::open(copy.path(), Some(&key)).unwrap();
    mirror.take(&part(&log, 0, Most { skipped: 1, ..ALL })).unwrap();
    assert_eq!((mirror.size(), mirror.first().unwrap()), (256, 512));
    assert!(matches!(mirror.take(&whole), Err(Refused::Malformed(_))));
    mirror.take(&part(&log, 256, ALL)).unwrap();
    assert_eq!((mirror.size(), mirror.first().unwrap()), (600, 512));
}
