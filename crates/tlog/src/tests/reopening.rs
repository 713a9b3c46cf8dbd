use std::fs;
use std::path::Path;

use super::{entry, grow, open};
use crate::{Log, Opening, Options, Reader};

fn reopened(directory: &Path) -> (u64, Opening) {
    let (log, opening) = open(directory);
    (log.size(), opening)
}

/// As a kill leaves it: nothing flushed by the end.
fn kill(log: Log) {
    // The lock goes with the process; here it must be given up by hand.
    rustix::fs::flock(&log._lock, rustix::fs::FlockOperation::Unlock).unwrap();
    std::mem::forget(log);
}

#[test]
fn a_closed_log_goes_on_without_a_loss() {
    let directory = tempfile::tempdir().unwrap();
    for size in [3, 300, 512, 700] {
        let (mut log, _) = open(directory.path());
        grow(&mut log, size);
        log.close().unwrap();
        let expected = Opening { created: false, closed: true, signed: size, recovered: 0, torn: 0 };
        assert_eq!(reopened(directory.path()), (size, expected));
        // That opening was not closed.
        assert!(!reopened(directory.path()).1.closed);
    }
    let reader = Reader::open(directory.path()).unwrap();
    assert!(reader.entries(0..700).all(|read| read.is_ok_and(|(index, read)| read == entry(index))));
}

#[test]
fn a_kill_loses_what_was_not_flushed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 500);
    log.checkpoint().unwrap();
    grow(&mut log, 600);
    log.flush().unwrap();
    grow(&mut log, 610);
    kill(log);
    let expected = Opening { created: false, closed: false, signed: 500, recovered: 100, torn: 0 };
    let (mut log, opening) = open(directory.path());
    assert_eq!((log.size(), opening), (600, expected));
    let unsigned = Reader::open(directory.path()).unwrap().unsigned().unwrap();
    assert_eq!(unsigned, (500..600).map(|index| (index, entry(index))).collect::<Vec<_>>());
    grow(&mut log, 900);
    log.checkpoint().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    let read: Vec<_> = reader.entries(0..900).collect::<Result<_, _>>().unwrap();
    assert!(read.into_iter().all(|(index, read)| read == entry(index)));
    assert!(reader.unsigned().unwrap().is_empty());
}

#[test]
fn a_torn_entry_is_told_and_the_whole_ones_before_it_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 20);
    drop(log);
    let pending = directory.path().join("pending");
    let whole = fs::read(&pending).unwrap();
    for cut in 1..40 {
        fs::write(&pending, &whole[..whole.len() - cut]).unwrap();
        let (log, opening) = open(directory.path());
        assert_eq!(opening.recovered, log.size());
        assert!(log.size() < 20 && log.size() >= 18, "{}", log.size());
        let kept: usize = 16 + (0..log.size()).map(|index| 6 + entry(index).len()).sum::<usize>();
        assert_eq!(opening.torn, (whole.len() - cut - kept) as u64);
        kill(log);
    }
}

#[test]
fn a_kill_between_checkpoint_and_pending_repeats_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 40);
    log.flush().unwrap();
    let pending = fs::read(directory.path().join("pending")).unwrap();
    log.checkpoint().unwrap();
    kill(log);
    for left in [&pending[..], &pending[..7], b""] {
        fs::write(directory.path().join("pending"), left).unwrap();
        let (log, opening) = open(directory.path());
        assert_eq!((log.size(), opening.recovered), (40, 0));
        kill(log);
    }
}

#[test]
fn a_checkpoint_that_was_signed_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let (mut log, _) = open(directory.path());
    grow(&mut log, 40);
    log.checkpoint().unwrap();
    let older = fs::read(path("checkpoint")).unwrap();
    grow(&mut log, 50);
    log.flush().unwrap();
    let pending = fs::read(path("pending")).unwrap();
    log.checkpoint().unwrap();
    kill(log);
    // As it was just before the new one took its name.
    fs::rename(path("checkpoint"), path("checkpoint.next")).unwrap();
    fs::write(path("checkpoint"), older).unwrap();
    fs::write(path("pending"), pending).unwrap();
    let (log, opening) = open(directory.path());
    assert_eq!((log.size(), opening.signed, opening.recovered), (50, 50, 0));
}

#[test]
fn a_damaged_log_is_refused_with_the_file_and_left_as_it_is() {
    let damages: [(&str, &str); 7] = [
        ("tile/0/001.p/44", "tile/0/001.p/44"),
        ("tile/1/000.p/1", "tile/1/000.p/1"),
        ("tile/entries/001.p/44", "tile/entries/001.p/44"),
        ("checkpoint", "checkpoint"),
        ("key", "key"),
        ("pending", ""),
        ("vkey", ""),
    ];
    for (file, named) in damages {
        let directory = tempfile::tempdir().unwrap();
        let (mut log, _) = open(directory.path());
        grow(&mut log, 300);
        log.checkpoint().unwrap();
        drop(log);
        fs::remove_file(directory.path().join(file)).unwrap();
        match Log::open(directory.path(), &Options::new("bulkhead/test")) {
            Ok((log, _)) => assert!(named.is_empty() && log.size() == 300, "{file}"),
            Err(error) => {
                let told = error.to_string();
                assert!(!named.is_empty() && told.contains(&format!("/{named}: ")), "{file}: {told}");
                assert!(!directory.path().join(file).exists());
            }
        }
    }
}

#[test]
fn an_older_checkpoint_is_not_gone_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 256);
    log.checkpoint().unwrap();
    let older = fs::read(directory.path().join("checkpoint")).unwrap();
    grow(&mut log, 512);
    log.checkpoint().unwrap();
    drop(log);
    fs::write(directory.path().join("checkpoint"), older).unwrap();
    // The tile of level 1 that the older one needs is back too.
    let hashes = fs::read(directory.path().join("tile/1/000.p/2")).unwrap();
    fs::write(directory.path().join("tile/1/000.p/1"), &hashes[..32]).unwrap();
    let refused = Log::open(directory.path(), &Options::new("bulkhead/test")).err().unwrap().to_string();
    assert!(refused.contains("pending: is of entry 512, the checkpoint of 256"), "{refused}");
}

#[test]
fn a_refused_write_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 300);
    log.checkpoint().unwrap();
    grow(&mut log, 600);
    // A file where a directory must be.
    fs::write(directory.path().join("tile/0/002.p"), "").unwrap();
    let refused = log.checkpoint().unwrap_err().to_string();
    assert!(refused.contains("tile/0/002.p/88: cannot create"), "{refused}");
    assert_eq!(log.signed().size, 300);
    grow(&mut log, 601);
    fs::remove_file(directory.path().join("tile/0/002.p")).unwrap();
    assert_eq!(log.checkpoint().unwrap().size, 601);
    let reader = Reader::open(directory.path()).unwrap();
    assert!(reader.entries(0..601).all(|read| read.is_ok_and(|(index, read)| read == entry(index))));
}

/// What was written last and was not on the disk: ext4 and XFS leave the file's length, and nothing in it.
#[test]
fn zeroes_that_a_loss_of_power_leaves_are_torn_entries_and_no_damage() {
    for (signed, at) in [(0, 0), (40, 0), (40, 16), (40, 100)] {
        let directory = tempfile::tempdir().unwrap();
        let pending = directory.path().join("pending");
        let (mut log, _) = open(directory.path());
        grow(&mut log, signed);
        log.checkpoint().unwrap();
        grow(&mut log, 60);
        drop(log);
        let mut bytes = fs::read(&pending).unwrap();
        bytes[at..].fill(0);
        for length in [bytes.len(), at.max(16)] {
            fs::write(&pending, &bytes[..length]).unwrap();
            let report = super::verified_beside(directory.path());
            assert_eq!(super::told(&report), [""; 0], "{signed}, zeroes from {at}");
            let (log, opening) = open(directory.path());
            let whole: usize = 16 + (signed..log.size()).map(|index| 6 + entry(index).len()).sum::<usize>();
            assert_eq!((opening.closed, opening.torn), (false, (length - whole) as u64));
            assert!(log.size() < 60 && (log.size() > signed) == (at == 100), "{}", log.size());
            kill(log);
        }
    }
    // What is neither that nor a beginning is damage.
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    fs::write(directory.path().join("pending"), "something of another kind").unwrap();
    assert!(Log::open(directory.path(), &Options::new("bulkhead/test")).is_err());
}

/// A disk that is full for a while: the checkpoint is through, and what follows it is not.
#[test]
fn what_a_checkpoint_did_not_finish_the_next_one_does_though_nothing_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (mut log, _) = open(directory.path());
    grow(&mut log, 10);
    log.checkpoint().unwrap();
    grow(&mut log, 20);
    let own = std::mem::replace(
        &mut log.pending.file,
        fs::OpenOptions::new().write(true).open("/dev/full").unwrap(),
    );
    assert!(log.checkpoint().is_err());
    assert_eq!(log.signed().size, 20, "it was signed, and seen");
    assert!(log.checkpoint().is_err(), "that is not done yet");
    log.pending.file = own;
    assert!(path("tile/0/000.p/10").exists());
    assert_eq!(log.checkpoint().unwrap().size, 20);
    assert!(!path("tile/0/000.p/10").exists() && path("tile/0/000.p/20").exists());
    // So that `pending` takes what follows.
    grow(&mut log, 30);
    log.flush().unwrap();
    kill(log);
    let (log, opening) = open(directory.path());
    assert_eq!((log.size(), opening.recovered), (30, 10));
}

#[test]
fn only_after_a_kill_all_tiles_are_looked_through() {
    let directory = tempfile::tempdir().unwrap();
    let left = directory.path().join("tile/0/000.p/7");
    let (mut log, _) = open(directory.path());
    grow(&mut log, 10);
    log.close().unwrap();
    fs::write(&left, "nobody leaves this").unwrap();
    let (log, opening) = open(directory.path());
    assert!(opening.closed && left.exists());
    kill(log);
    let (_log, opening) = open(directory.path());
    assert!(!opening.closed && !left.exists());
}
