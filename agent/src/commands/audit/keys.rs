//! Keys and checkpoints that the caller has from elsewhere.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bulkhead_tlog::{Note, VerifierKey};

use crate::exit::Usage;

/// A key, or a file that has one.
///
/// # Errors
/// [`Usage`] if it is neither.
pub fn key(text: &str) -> anyhow::Result<VerifierKey> {
    let own = VerifierKey::parse(text);
    if let Ok(key) = own {
        return Ok(key);
    }
    let file = read(Path::new(text));
    let key = file.ok().and_then(|text| VerifierKey::parse(String::from_utf8_lossy(&text).trim_end()).ok());
    let words =
        || Usage(format!("'{text}' is neither a verifier key nor a file with one, such as the log's vkey"));
    Ok(key.ok_or_else(words)?)
}

/// The key of a witness, or a file that has one.
///
/// # Errors
/// [`Usage`] if it is neither, or a log's.
pub fn witness(text: &str) -> anyhow::Result<VerifierKey> {
    let key = key(text)?;
    key.check_witness().map_err(|error| Usage(error.to_string()))?;
    Ok(key)
}

/// A checkpoint that was kept elsewhere.
///
/// # Errors
/// [`Usage`] if it is none.
pub fn anchor(path: &Path) -> anyhow::Result<Note> {
    let text = read(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    let note = Note::parse(&String::from_utf8_lossy(&text));
    Ok(note.map_err(|error| Usage(format!("{}: no checkpoint: {error}", path.display())))?)
}

/// The checkpoints in a directory, and how many files there are none though their names say so.
///
/// # Errors
/// [`Usage`] if it cannot be read.
pub fn anchors(directory: &Path) -> anyhow::Result<(Vec<Note>, usize)> {
    let unread = |error: io::Error| Usage(format!("{}: {error}", directory.display()));
    let (mut notes, mut others) = (Vec::new(), 0);
    for entry in directory.read_dir().map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        if path.extension().is_some_and(|extension| extension == "checkpoint") {
            match Note::read(&path) {
                Ok(note) => notes.push(note),
                Err(_) => others += 1,
            }
        }
    }
    Ok((notes, others))
}

/// No key, checkpoint, proof or record is longer.
const MOST: u64 = 1 << 20;

/// Reads a file that the caller names, which may be a pipe.
///
/// # Errors
/// If it cannot be read, or is longer than such a file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
