//! Opening a log: making one, or going on from where the last writer ended.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::bundle;
use crate::checkpoint::Checkpoint;
use crate::disk::{self, PRIVATE, PUBLIC};
use crate::edge::Edge;
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::key::{Algorithm, SignerKey, VerifierKey};
use crate::left_over;
use crate::log::{CHECKPOINT, Log, NEXT, Options, Unsigned, publish};
use crate::note::Note;
use crate::pending::{self, Pending};
use crate::tile::{self, Row, Tile, WIDTH};

/// The log's private key, and its public one for convenience: who verifies has a copy from elsewhere.
pub(crate) const KEY: &str = "key";
pub(crate) const VERIFIER_KEY: &str = "vkey";
const LOCK: &str = "lock";

/// What was found when a log was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whether the log was made.
    pub created: bool,
    /// Whether the last writer closed it. If not, what it had appended and not flushed is lost, and after a loss of
    /// power also what was flushed since the last checkpoint.
    pub closed: bool,
    /// Entries that the last checkpoint covers.
    pub signed: u64,
    /// Entries behind them that were read back from `pending`. They are appended, and the next checkpoint covers
    /// them.
    pub recovered: u64,
    /// Bytes behind those that are no whole entry: an entry that was being written is lost.
    pub torn: u64,
}

impl Log {
    /// Opens the log in a directory, or makes one there. The directory's parent exists.
    ///
    /// # Errors
    ///
    /// If the system refuses, if another process has the log open, or if what is there is not what its last
    /// checkpoint says: then nothing is changed. A damaged log is kept as evidence by renaming its directory;
    /// a new one takes its place.
    pub fn open(directory: &Path, options: &Options) -> Result<(Self, Opening)> {
        let made = fs::create_dir(directory);
        if let Err(error) = made
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(Error::io("create", directory)(error));
        }
        let lock = lock(directory)?;
        let key = match disk::if_there(read_key(directory, KEY))? {
            Some(key) => key,
            None => make_key(directory, &options.origin)?,
        };
        let created = complete_checkpoint(directory, &key)?;
        let signed = read_checkpoint(directory, &key)?;
        let (edge, entries) = read_edge(directory, &signed)?;
        let found = pending::read(directory)?;
        if let Some(found) = found.as_ref().filter(|found| found.first > signed.size) {
            let what = format!(
                "is of entry {}, the checkpoint of {} entries: the checkpoint was replaced by an older one",
                found.first, signed.size
            );
            return Err(Error::damaged(&directory.join(pending::NAME), what));
        }
        let opening = Opening {
            created,
            closed: created || found.as_ref().is_some_and(|found| found.closed),
            signed: signed.size,
            recovered: 0,
            torn: found.as_ref().map_or(0, |found| found.torn),
        };
        if !opening.closed {
            // Of a writer that was killed. One that closed the log has left nothing, and all tiles need not be walked.
            left_over::remove_partials(directory, &[signed.size])?;
        }
        let pending = Pending::open(directory, found.as_ref(), signed.size)?;
        let mut log = Self {
            directory: directory.to_owned(),
            _lock: lock,
            key,
            unsigned_bytes: options.unsigned_bytes.min(pending::MOST_UNSIGNED),
            edge,
            signed,
            unsigned: Unsigned { signed: entries.len(), entries, ..Unsigned::default() },
            pending,
        };
        log.resume_rotation()?;
        let signed = log.signed.size;
        for (_, entry) in found.iter().flat_map(|found| found.from(signed)) {
            log.take(entry, Hash::of_leaf(entry))?;
        }
        let recovered = log.size() - signed;
        Ok((log, Opening { recovered, ..opening }))
    }
}

pub(crate) fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(&path);
    let file = opened.map_err(Error::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: directory.to_owned() }),
        Err(error) => Err(Error::io("lock", &path)(error.into())),
    }
}

pub(crate) fn read_key(directory: &Path, name: &str) -> Result<SignerKey> {
    let path = directory.join(name);
    let text = disk::read_text(&path)?;
    SignerKey::parse(text.trim_end()).map_err(|error| Error::damaged(&path, error.to_string()))
}

pub(crate) fn write_key(directory: &Path, name: &str, key: &SignerKey) -> Result<()> {
    disk::write_durably(&directory.join(name), format!("{}\n", key.secret()).as_bytes(), PRIVATE)
}

pub(crate) fn write_verifier_key(directory: &Path, key: &VerifierKey) -> Result<()> {
    disk::write_durably(&directory.join(VERIFIER_KEY), format!("{key}\n").as_bytes(), PUBLIC)
}

/// The key of a new log. Where there is a checkpoint already, a new key would disown it.
fn make_key(directory: &Path, origin: &str) -> Result<SignerKey> {
    for name in [CHECKPOINT, NEXT, pending::NAME] {
        if directory.join(name).exists() {
            return Err(Error::damaged(&directory.join(KEY), format!("is missing, but there is a {name}")));
        }
    }
    let key = SignerKey::generate(origin, Algorithm::Ed25519)?;
    write_verifier_key(directory, key.public())?;
    write_key(directory, KEY, &key)?;
    disk::sync_directory(directory.parent().filter(|parent| *parent != "").unwrap_or(Path::new(".")))?;
    Ok(key)
}

/// Finishes what a killed writer had begun; makes the first checkpoint, of no entries, and says whether it did.
fn complete_checkpoint(directory: &Path, key: &SignerKey) -> Result<bool> {
    let next = directory.join(NEXT);
    if next.exists() {
        disk::rename(&next, &directory.join(CHECKPOINT))?;
    }
    if directory.join(CHECKPOINT).exists() {
        return Ok(false);
    }
    if directory.join(pending::NAME).exists() {
        return Err(Error::damaged(&directory.join(CHECKPOINT), "is missing, but entries were appended"));
    }
    let empty = Checkpoint { origin: key.public().name().to_owned(), size: 0, root: Hash::of_nothing() };
    let mut note = Note::new(empty.text());
    note.sign(key, 0);
    publish(directory, &note)?;
    Ok(true)
}

fn read_checkpoint(directory: &Path, key: &SignerKey) -> Result<Checkpoint> {
    let path = directory.join(CHECKPOINT);
    let read = || {
        let note = Note::parse(&disk::read_text(&path)?)?;
        note.require(std::slice::from_ref(key.public()))?;
        Checkpoint::parse(note.text())
    };
    let checkpoint = read().map_err(|error| match error {
        Error::Io { .. } => error,
        other => Error::damaged(&path, other.to_string()),
    })?;
    if checkpoint.origin != key.public().name() {
        return Err(Error::damaged(&path, format!("is of `{}`, not of this log", checkpoint.origin)));
    }
    Ok(checkpoint)
}

/// The unfinished tiles and the unfinished bundle of a checkpoint, which must make up its root.
pub(crate) fn read_edge(directory: &Path, signed: &Checkpoint) -> Result<(Edge, Vec<u8>)> {
    let edge = Edge::read(signed, directory, |tile| read_hashes(directory, tile))?;
    let unfinished = Tile { row: Row::Entries, index: signed.size / WIDTH, width: signed.size % WIDTH };
    if unfinished.width == 0 {
        return Ok((edge, Vec::new()));
    }
    let path = directory.join(unfinished.path());
    let bytes = disk::read_below(directory, &unfinished.path(), Row::Entries.most_bytes())?;
    let entries = bundle::split(&bytes, unfinished.width).filter(|(_, behind)| behind.is_empty());
    let (entries, _) = entries
        .ok_or_else(|| Error::damaged(&path, format!("does not hold {} entries", unfinished.width)))?;
    for (entry, (index, hash)) in entries.iter().zip((signed.size - unfinished.width..).zip(edge.level(0))) {
        if Hash::of_leaf(entry) != *hash {
            return Err(Error::damaged(&path, format!("entry {index} is not the one that was signed")));
        }
    }
    drop(entries);
    Ok((edge, bytes))
}

/// Reads a hash tile of just this width.
fn read_hashes(directory: &Path, tile: Tile) -> Result<Vec<Hash>> {
    let path = directory.join(tile.path());
    let hashes = tile::decode(&disk::read_below(directory, &tile.path(), tile.row.most_bytes())?)
        .filter(|hashes| hashes.len() as u64 == tile.width);
    hashes.ok_or_else(|| Error::damaged(&path, format!("does not hold {} hashes", tile.width)))
}
