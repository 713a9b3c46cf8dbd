use std::fs;
use std::path::{Path, PathBuf};

use super::{grow, open, told};
use crate::{Trust, VerifierKey, verify};

/// What is changed: entries, tiles and the checkpoint.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = vec![root.join("checkpoint")];
    let mut directories = vec![root.join("tile")];
    while let Some(directory) = directories.pop() {
        for found in fs::read_dir(directory).unwrap().flatten() {
            let path = found.path();
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// One random change of a log; `older` has files of before its last checkpoints, by name.
fn mutate(random: &mut fastrand::Rng, files: &[PathBuf], older: &[(PathBuf, Vec<u8>)]) -> (PathBuf, Vec<u8>) {
    let file = &files[random.usize(..files.len())];
    let mut bytes = fs::read(file).unwrap();
    let original = bytes.clone();
    while bytes == original {
        match random.u8(..8) {
            // One bit.
            0 | 1 => bytes[random.usize(..original.len())] ^= 1 << random.u8(..8),
            // Two pieces of one file change places.
            2 => {
                let width = random.usize(1..=original.len().min(64) / 2);
                let at = |random: &mut fastrand::Rng| random.usize(..=original.len() - width);
                let (one, other) = (at(random), at(random));
                if one.abs_diff(other) >= width {
                    let piece = original[one..one + width].to_vec();
                    bytes.copy_within(other..other + width, one);
                    bytes[other..other + width].copy_from_slice(&piece);
                }
            }
            // The content of another file.
            3 => bytes = fs::read(&files[random.usize(..files.len())]).unwrap(),
            // Cut short, or something behind it.
            4 => bytes.truncate(random.usize(..original.len())),
            5 => bytes.extend((0..random.usize(1..40)).map(|_| random.u8(..))),
            // A piece in the middle is cut out or repeated.
            6 => {
                let start = random.usize(..original.len());
                let end = random.usize(start..original.len()) + 1;
                let piece = if random.bool() { Vec::new() } else { original[start..end].repeat(2) };
                bytes.splice(start..end, piece);
            }
            // Replay: an older file in its place, under the same name or of the same row.
            _ => bytes.clone_from(&older[random.usize(..older.len())].1),
        }
    }
    (file.clone(), bytes)
}

fn found(root: &Path, keys: &[VerifierKey]) -> bool {
    !verify(root, &Trust { keys, ..Trust::default() }).unwrap().is_whole()
}

/// `TLOG_MUTATIONS` sets how many.
#[test]
fn every_mutation_is_found() {
    let count = std::env::var("TLOG_MUTATIONS").map_or(2_000, |count| count.parse().unwrap());
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    let mut older = Vec::new();
    for size in [100, 256, 400, 600] {
        grow(&mut log, size);
        log.checkpoint().unwrap();
        if size < 600 {
            older.extend(
                files(directory.path()).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())),
            );
        }
    }
    let keys = [log.verifier_key().clone()];
    let files = files(directory.path());
    assert!(!found(directory.path(), &keys));
    for number in 0..count {
        let (file, bytes) = mutate(&mut random, &files, &older);
        let original = fs::read(&file).unwrap();
        fs::write(&file, &bytes).unwrap();
        assert!(
            found(directory.path(), &keys),
            "seed {seed}, mutation {number} of {}: not found",
            file.display()
        );
        fs::write(&file, original).unwrap();
    }
    let whole = verify(directory.path(), &Trust { keys: &keys, ..Trust::default() }).unwrap();
    assert_eq!(told(&whole), [""; 0]);
}

/// All files as they were at an earlier checkpoint, but for the writer's own.
#[test]
fn a_replay_of_all_signed_files_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, 300);
    log.checkpoint().unwrap();
    let older: Vec<_> =
        files(directory.path()).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    grow(&mut log, 500);
    log.checkpoint().unwrap();
    for (file, bytes) in older {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    let keys = [log.verifier_key().clone()];
    let faults = told(&verify(directory.path(), &Trust { keys: &keys, ..Trust::default() }).unwrap());
    assert_eq!(faults, ["pending: was begun at entry 500: the checkpoint was replaced by an older one"]);
}
