//! Files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_sinks::{From, Kind, Settings};

use crate::memory::Memory;
use crate::{LIMIT, assert_at_least_once, numbers, settings, start, wait_for};

fn to(path: &Path, rotate_bytes: u64, keep: u32) -> Settings {
    settings(Kind::File { path: path.to_owned(), rotate_bytes, keep })
}

#[test]
fn every_record_is_there_once_and_in_order_over_restarts() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("out.jsonl");
    let source = Arc::new(Memory::of("h", 3000));
    for count in [3000, 3000, 4000] {
        if count == 4000 {
            source.grow(1000);
        }
        let sinks = start(to(&path, u64::MAX, 1), &source, state.path());
        let progress = wait_for(&sinks, "all sent", |progress| progress.position == count);
        assert_eq!((progress.behind, progress.problem, progress.skipped), (0, None, 0));
        sinks.end(LIMIT);
        assert_eq!(numbers(&fs::read(&path).unwrap()), (0..count).collect::<Vec<_>>());
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
}

#[test]
fn it_is_rotated_by_size_and_no_more_files_are_kept_than_asked_for() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("out.jsonl");
    let source = Arc::new(Memory::of("h", 1000));
    let sinks = start(to(&path, 64 << 10, 3), &source, state.path());
    wait_for(&sinks, "all sent", |progress| progress.position == 1000);
    sinks.end(LIMIT);
    let mut all = Vec::new();
    for name in ["out.jsonl.3", "out.jsonl.2", "out.jsonl.1", "out.jsonl"] {
        let bytes = fs::read(state.path().join(name)).unwrap();
        assert!(bytes.len() <= 64 << 10, "{name} has {} bytes", bytes.len());
        all.extend(numbers(&bytes));
    }
    assert!(!state.path().join("out.jsonl.4").exists());
    let first = all[0];
    assert!(first > 0, "nothing was rotated away");
    assert_eq!(all, (first..1000).collect::<Vec<_>>());
}

#[test]
fn the_beginning_of_a_line_is_cut_off_and_a_lost_position_sends_all_again() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("out.jsonl");
    let source = Arc::new(Memory::of("h", 10));
    let sinks = start(to(&path, u64::MAX, 1), &source, state.path());
    wait_for(&sinks, "all sent", |progress| progress.position == 10);
    sinks.end(LIMIT);
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"seq").unwrap();
    fs::write(state.path().join("sink-test.json"), "{\"nex").unwrap();
    source.grow(5);
    let sinks = start(to(&path, u64::MAX, 1), &source, state.path());
    wait_for(&sinks, "all sent", |progress| progress.position == 15);
    sinks.end(LIMIT);
    let received = numbers(&fs::read(&path).unwrap());
    assert_eq!(received.len(), 25);
    assert_at_least_once(&received, 15);
}

#[test]
fn a_file_that_is_taken_away_is_made_anew_and_a_directory_that_is_not_there_is_waited_for() {
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().join("later");
    let path = directory.join("out.jsonl");
    let source = Arc::new(Memory::of("h", 10));
    let sinks = start(to(&path, u64::MAX, 1), &source, state.path());
    let progress = wait_for(&sinks, "a problem", |progress| progress.problem.is_some());
    assert!(progress.problem.unwrap().contains("out.jsonl") && progress.behind == 10);
    fs::create_dir(&directory).unwrap();
    wait_for(&sinks, "all sent", |progress| progress.position == 10 && progress.problem.is_none());
    let aside = directory.join("aside");
    fs::rename(&path, &aside).unwrap();
    source.grow(5);
    wait_for(&sinks, "all sent", |progress| progress.position == 15);
    sinks.end(LIMIT);
    let [first, second] = [&aside, &path].map(|path| numbers(&fs::read(path).unwrap()));
    assert_eq!((first, second), ((0..10).collect(), (10..15).collect()));
}

#[test]
fn what_is_no_regular_file_is_not_written_to() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("out.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let source = Arc::new(Memory::of("h", 10));
    let sinks = start(to(&path, u64::MAX, 1), &source, state.path());
    // Not a device, nor what a link leads to.
    wait_for(&sinks, "a problem", |progress| progress.problem.is_some());
    fs::remove_file(&path).unwrap();
    wait_for(&sinks, "all sent", |progress| progress.position == 10);
    sinks.end(LIMIT);
    assert_eq!(numbers(&fs::read(&path).unwrap()), (0..10).collect::<Vec<_>>());
}

#[test]
fn what_was_pruned_before_it_was_sent_is_counted() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("out.jsonl");
    let source = Arc::new(Memory::of("h", 100));
    let sinks = start(to(&path, u64::MAX, 1), &source, state.path());
    wait_for(&sinks, "all sent", |progress| progress.position == 100);
    sinks.end(LIMIT);
    source.grow(900);
    source.prune(512);
    let sinks = start(to(&path, u64::MAX, 1), &source, state.path());
    let progress = wait_for(&sinks, "all sent", |progress| progress.position == 1000);
    assert_eq!(progress.skipped, 412);
    sinks.end(LIMIT);
    let received = numbers(&fs::read(&path).unwrap());
    assert_eq!(received, (0..100).chain(512..1000).collect::<Vec<_>>());
}

#[test]
fn what_was_pruned_is_counted_once_however_often_a_receiver_fails() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("not").join("there").join("out.jsonl");
    let source = Arc::new(Memory::of("h", 100));
    source.prune(60);
    let sinks = start(to(&path, u64::MAX, 1), &source, state.path());
    wait_for(&sinks, "a problem", |progress| progress.problem.is_some());
    std::thread::sleep(Duration::from_millis(1500));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let progress = wait_for(&sinks, "all sent", |progress| progress.position == 100);
    assert_eq!(progress.skipped, 60);
    sinks.end(LIMIT);
}

#[test]
fn another_log_is_sent_from_its_beginning_however_long_it_is() {
    for length in [50, 150] {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("out.jsonl");
        for (host, count) in [("before", 100), ("after", length)] {
            let sinks = start(to(&path, u64::MAX, 1), &Arc::new(Memory::of(host, count)), state.path());
            wait_for(&sinks, "all sent", |progress| progress.position == count && progress.behind == 0);
            // A position that is taken over counts as sent before it is looked at.
            std::thread::sleep(Duration::from_millis(300));
            sinks.end(LIMIT);
        }
        let received = numbers(&fs::read(&path).unwrap());
        assert_eq!(received, (0..100).chain(0..length).collect::<Vec<_>>());
    }
}

#[test]
fn a_sink_may_begin_with_what_comes() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("out.jsonl");
    let source = Arc::new(Memory::of("h", 100));
    let now = Settings { from: From::Now, ..to(&path, u64::MAX, 1) };
    let sinks = start(now, &source, state.path());
    wait_for(&sinks, "placed", |progress| progress.position == 100);
    source.grow(5);
    wait_for(&sinks, "all sent", |progress| progress.position == 105);
    sinks.end(LIMIT);
    assert_eq!(numbers(&fs::read(&path).unwrap()), (100..105).collect::<Vec<_>>());
}

/// A small file system, which is taken away at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs"]).arg(place.path());
        assert!(mount.status().unwrap().success());
        Self(place)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg("--lazy").arg(self.0.path()).status().unwrap().success());
    }
}

#[test]
fn a_full_disk_is_told_of_and_once_it_has_room_nothing_is_missing_nor_rotated_away() {
    // Without rotation, and with files of which several fit.
    for (rotate_bytes, keep) in [(u64::MAX, 1), (32 << 10, 20)] {
        let (state, small) = (tempfile::tempdir().unwrap(), Small::new());
        let directory = small.0.path();
        let path = directory.join("out.jsonl");
        // A bit of room is left: for the beginning of a batch, and not for all of it.
        let ballast = directory.join("ballast");
        fs::write(&ballast, vec![0; 150 << 10]).unwrap();
        let source = Arc::new(Memory::of("h", 450));
        let sinks = start(to(&path, rotate_bytes, keep), &source, state.path());
        let full = wait_for(&sinks, "a full disk", |progress| progress.problem.is_some());
        assert!(full.problem.as_ref().unwrap().contains("No space left"), "{full:?}");
        // It is tried again and again meanwhile.
        std::thread::sleep(Duration::from_secs(4));
        fs::remove_file(&ballast).unwrap();
        let progress = wait_for(&sinks, "all sent", |progress| progress.position == 450);
        assert_eq!((progress.problem, progress.skipped, progress.refused), (None, 0, 0));
        sinks.end(LIMIT);
        let mut all = Vec::new();
        for number in (1..=keep).rev() {
            all.extend(numbers(&fs::read(directory.join(format!("out.jsonl.{number}"))).unwrap_or_default()));
        }
        all.extend(numbers(&fs::read(&path).unwrap()));
        assert_eq!(all, (0..450).collect::<Vec<_>>(), "each once: what was on the disk was not sent again");
    }
}
