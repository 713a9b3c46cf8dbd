//! A copy of a log, whoever made it, ends every reader soon and takes it nowhere else.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};

use super::{grow, open, told};
use crate::{Checked, Error, Hash, Log, Note, Reader, SignerKey, Trust, VerifierKey, verify};

/// What nothing may take longer than, however loaded the machine is. Each was for ever.
const SOON: Duration = Duration::from_secs(60);

fn log_of(size: u64) -> (tempfile::TempDir, Log) {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open(directory.path());
    grow(&mut log, size);
    log.checkpoint().unwrap();
    (directory, log)
}

fn faults(directory: &Path, key: &VerifierKey) -> Vec<String> {
    let keys = [key.clone()];
    told(&verify(directory, &Trust { keys: &keys, ..Trust::default() }).unwrap())
}

fn copy(from: &Path, to: &Path) {
    for found in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(found.file_name());
        if found.path().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&found.path(), &to);
        } else {
            fs::copy(found.path(), to).unwrap();
        }
    }
}

/// A checkpoint of so many entries.
fn claim(size: u64, key: Option<&SignerKey>) -> String {
    let mut note = Note::new(format!("bulkhead/test\n{size}\n{}\n", Hash::of_nothing()));
    match key {
        Some(key) => note.sign(key, 0),
        None => {
            let stranger = SignerKey::generate("stranger", crate::Algorithm::Ed25519).unwrap();
            note.sign(&stranger, 0);
        }
    }
    note.to_string()
}

#[test]
fn what_no_signature_covers_is_not_looked_at() {
    let (directory, log) = log_of(600);
    for size in [1 << 40, u64::MAX] {
        fs::write(directory.path().join("checkpoint"), claim(size, None)).unwrap();
        let began = Instant::now();
        let faults = faults(directory.path(), log.verifier_key());
        assert!(began.elapsed() < SOON);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].ends_with("nothing that it claims to cover was looked at"), "{faults:?}");
        let refused = Checked::open(directory.path(), &[log.verifier_key().clone()]).unwrap_err();
        assert!(refused.is_of_the_log(), "{refused}");
    }
}

#[test]
fn a_log_that_claims_more_than_there_is_ends_with_so_many_faults() {
    let (directory, log) = log_of(600);
    let key = log.key.secret();
    let key = SignerKey::parse(&key).unwrap();
    for (size, pruned) in [(1 << 50, 0), (1 << 50, 1 << 49), (u64::MAX, u64::MAX / 256 * 256)] {
        fs::write(directory.path().join("checkpoint"), claim(size, Some(&key))).unwrap();
        let note = crate::statement::pruned(&key, pruned).to_string();
        fs::write(directory.path().join("pruned"), note).unwrap();
        let began = Instant::now();
        let faults = faults(directory.path(), log.verifier_key());
        assert!(began.elapsed() < SOON);
        assert!((1001..1300).contains(&faults.len()), "{}", faults.len());
        assert_eq!(faults.last().unwrap(), "checkpoint: 1000 faults were found: no more are looked for");
        assert!(Checked::open(directory.path(), &[log.verifier_key().clone()]).is_err());
        // Those that read without checking come to an end, too.
        let reader = Reader::open(directory.path()).unwrap();
        assert!(reader.entries(0..u64::MAX).count() < 1000);
        assert!(reader.prove(size - 1).is_err());
        assert!(matches!(reader.prove(u64::MAX), Err(Error::Beyond { index: u64::MAX, .. })));
    }
}

/// Puts something in a file's place.
type Replace = fn(&Path);

const REPLACED: [(&str, Replace); 7] = [
    ("a pipe", |path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap()),
    ("a device", |path| {
        // 1:5 is /dev/zero.
        mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 5)).unwrap();
    }),
    ("a link", |path| symlink("/dev/zero", path).unwrap()),
    ("a link to a file", |path| symlink("/etc/passwd", path).unwrap()),
    ("a directory", |path| fs::create_dir(path).unwrap()),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("a huge file", |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap()),
];

#[test]
fn only_a_regular_file_of_a_log_s_size_is_read() {
    let files = [
        "checkpoint",
        "pending",
        "pruned",
        "cosigned",
        "rotations/0",
        "tile/entries/001",
        "tile/entries/002.p/88",
        "tile/0/001",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "vkey",
    ];
    let (original, log) = log_of(600);
    let key = log.verifier_key().clone();
    for file in files {
        for (what, replace) in REPLACED {
            let directory = tempfile::tempdir().unwrap();
            copy(original.path(), directory.path());
            let path = directory.path().join(file);
            let _ = fs::create_dir(directory.path().join("rotations"));
            let _ = fs::remove_file(&path);
            replace(&path);
            let witness = SignerKey::generate("witness", crate::Algorithm::Cosignature).unwrap();
            let (keys, witnesses) = ([key.clone()], [witness.public().clone()]);
            let began = Instant::now();
            let trust = Trust { keys: &keys, witnesses: &witnesses, ..Trust::default() };
            let faults = told(&verify(directory.path(), &trust).unwrap());
            let named = |fault: &String| {
                let text = fault.contains("is no regular file") || fault.contains("more than");
                text && fault.contains(file.trim_end_matches("/0"))
            };
            let is_found = faults.iter().any(named);
            assert!(is_found || file == "vkey", "{file}, {what}: {faults:?}");
            let checked = Checked::open(directory.path(), &keys);
            let read: Result<Vec<_>, Error> = checked
                .and_then(|mut log| [0, 256, 512].into_iter().map(|index| log.entries(index)).collect());
            let beside = crate::key_beside(directory.path());
            // These are of no use to it: level 0 of what is full, what is not signed yet, and witnesses.
            let is_unread = ["pending", "cosigned", "tile/0/001", "vkey"].contains(&file);
            assert_eq!(read.is_ok(), is_unread, "{file}, {what}: {:?}", read.err());
            assert_eq!(beside.is_ok(), file != "vkey", "{what}");
            assert!(
                Reader::open(directory.path()).and_then(|log| log.unsigned()).is_ok()
                    || file == "checkpoint"
                    || file == "pending"
            );
            assert!(began.elapsed() < SOON, "{file}, {what}");
        }
    }
}

/// The same log, but for a directory of it that is a link to where it was moved, or that is something else.
#[test]
fn no_directory_of_a_log_is_a_link() {
    let (original, log) = log_of(600);
    let key = log.verifier_key().clone();
    let keys = [key.clone()];
    let replace: [(&str, Replace); 3] = [
        ("a link to it", |path| {
            let aside = path.with_extension("aside");
            fs::rename(path, &aside).unwrap();
            symlink(aside, path).unwrap();
        }),
        ("a link to nothing", |path| {
            fs::remove_dir_all(path).unwrap();
            symlink("/nowhere", path).unwrap();
        }),
        ("a file", |path| {
            fs::remove_dir_all(path).unwrap();
            fs::write(path, "").unwrap();
        }),
    ];
    for at in ["tile", "tile/entries", "tile/entries/002.p", "tile/0", "tile/0/002.p", "tile/1", "rotations"]
    {
        for (what, replace) in replace {
            let parent = tempfile::tempdir().unwrap();
            let directory = parent.path().join("log");
            fs::create_dir(&directory).unwrap();
            copy(original.path(), &directory);
            let _ = fs::create_dir(directory.join("rotations"));
            replace(&directory.join(at));
            let told = faults(&directory, &key);
            let is_named =
                |fault: &String| fault.contains(at) && fault.contains("is no directory, or a link to one");
            assert!(told.iter().any(is_named), "{at}, {what}: {told:?}");
            let read: Result<Vec<_>, Error> = Checked::open(&directory, &keys)
                .and_then(|mut log| [0, 256, 512].into_iter().map(|index| log.entries(index)).collect());
            let error = read.unwrap_err();
            assert!(error.is_of_the_log(), "{at}, {what}: {error}");
            let reader = Reader::open(&directory).unwrap();
            let is_whole = reader.entries(0..600).all(|entry| entry.is_ok());
            assert_eq!(
                is_whole,
                !matches!(at, "tile" | "tile/entries" | "tile/entries/002.p"),
                "{at}, {what}"
            );
        }
    }
    // Where the system cannot look for links by itself, each step does.
    let stepped = |at: &Path, name: &str| {
        let opened = openat(CWD, at, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        crate::disk::walk(at, opened, Path::new(name)).map(|_| ()).map_err(|error| error.to_string())
    };
    let parent = tempfile::tempdir().unwrap();
    symlink(original.path().join("tile"), parent.path().join("tile")).unwrap();
    assert_eq!(stepped(original.path(), "tile/entries/001"), Ok(()));
    let refused = stepped(parent.path(), "tile/entries/001").unwrap_err();
    assert!(refused.ends_with("tile: is no directory, or a link to one"), "{refused}");

    // The directory itself is what its reader has named.
    let parent = tempfile::tempdir().unwrap();
    let link = parent.path().join("log");
    symlink(original.path(), &link).unwrap();
    assert_eq!(faults(&link, &key), Vec::<String>::new());
    assert_eq!(Checked::open(&link, &keys).unwrap().entries(599).unwrap().len(), 1);
}

#[test]
fn an_index_that_no_log_has_is_an_error() {
    let (directory, log) = log_of(600);
    let pending = directory.path().join("pending");
    let keys = [log.verifier_key().clone()];
    drop(log);
    let mut bytes = fs::read(&pending).unwrap();
    bytes[8..16].copy_from_slice(&u64::MAX.to_be_bytes());
    // An empty entry with the sum that it has there.
    let sum: Vec<u8> = Hash::of_leaf(b"").0[..4].iter().map(|byte| byte ^ 0xff).collect();
    bytes.truncate(16);
    (0..3).for_each(|_| bytes.extend([&[0, 0][..], &sum].concat()));
    fs::write(&pending, bytes).unwrap();
    let report = verify(directory.path(), &Trust { keys: &keys, ..Trust::default() }).unwrap();
    assert_eq!(
        told(&report),
        [format!(
            "pending: {}/pending: begins at entry {}, which no log has",
            directory.path().display(),
            u64::MAX
        )]
    );
    let mut checked = Checked::open(directory.path(), &keys).unwrap();
    for index in [600, u64::MAX] {
        assert!(matches!(checked.entries(index), Err(Error::Beyond { size: 600, .. })));
        assert!(matches!(checked.prove(index), Err(Error::Beyond { size: 600, .. })));
        assert!(matches!(checked.reader().consistency(index), Err(Error::Beyond { .. }) | Ok(_)));
    }
}
