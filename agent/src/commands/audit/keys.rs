//! Keys and checkpoints that the caller has from elsewhere.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::Context as _;
use bulkhead_api::text::plain;
use bulkhead_tlog::{Checkpoint, Note, VerifierKey};

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

/// Checkpoints that were kept elsewhere: one in a file, or in a directory those of the log of `origin`, which must have
/// one. Of a directory those are passed over that are older than the log's `first` record, if there are later ones: it
/// cannot be said any more whether the log continues them.
///
/// # Errors
/// [`Usage`] if there is none.
pub fn anchors(path: &Path, origin: &str, first: u64) -> anyhow::Result<Vec<Note>> {
    let unread = |error: io::Error| Usage(format!("{}: {error}", path.display()));
    if !path.is_dir() {
        return Ok(vec![anchor(path)?]);
    }
    let mut anchors = Vec::new();
    for entry in path.read_dir().map_err(unread)? {
        let file = entry.map_err(unread)?.path();
        if file.extension().is_some_and(|extension| extension == "checkpoint") {
            let note = anchor(&file)?;
            let checkpoint = Checkpoint::parse(note.text())
                .with_context(|| format!("{}: no checkpoint", file.display()))?;
            if checkpoint.origin == origin {
                anchors.push((checkpoint.size, note));
            }
        }
    }
    if anchors.is_empty() {
        return Err(
            Usage(format!("{}: no *.checkpoint in it is of {}", path.display(), plain(origin))).into()
        );
    }
    if anchors.iter().any(|(size, _)| *size >= first) {
        anchors.retain(|(size, _)| *size >= first);
    }
    Ok(anchors.into_iter().map(|(_, note)| note).collect())
}

fn anchor(path: &Path) -> anyhow::Result<Note> {
    let text = read(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    Note::parse(&String::from_utf8_lossy(&text)).with_context(|| format!("{}: no checkpoint", path.display()))
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
