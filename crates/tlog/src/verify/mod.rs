//! Verification of a whole log: every tile and every root again, from the entries.

mod elsewhere;
mod walk;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Error, Result};
use crate::key::VerifierKey;
use crate::left_over;
use crate::log::{CHECKPOINT, NEXT};
use crate::note::Note;
use crate::reader::Reader;
use crate::statement::{self, Keys};
use crate::{bundle, pending};
use walk::Walk;

/// Checkpoints of a writer that goes on are followed this often.
const MAX_ROUNDS: usize = 8;

/// After so many faults nothing more is looked for: a log can claim to have more entries than there are files.
const MAX_FAULTS: usize = 1000;

/// What who verifies has from elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'t> {
    /// The log's keys, or the first of them: rotations are followed.
    pub keys: &'t [VerifierKey],
    /// Keys of witnesses whose cosignatures are to be checked.
    pub witnesses: &'t [VerifierKey],
    /// Earlier checkpoints of the log that were kept where its host cannot write. The log must continue each.
    pub anchors: &'t [Note],
    /// The same, out of a place where others put theirs as well: of what no key of the log has signed nothing is said.
    pub kept: &'t [Note],
}

/// Something that is not as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, below the log's directory.
    pub file: PathBuf,
    /// The entry, or the hash of a tile, that is wrong: entries are counted from the log's first, hashes from the
    /// tile's first. `None` if it is the file as a whole.
    pub position: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some(position) = self.position {
            write!(formatter, ", {position}")?;
        }
        write!(formatter, ": {}", self.what)
    }
}

/// What verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The checkpoint that the log was verified up to; `None` if it cannot be read or no key signed it.
    pub checkpoint: Option<Checkpoint>,
    /// The first entry that is there: those before it were pruned, and the log's key says so.
    pub first: u64,
    /// Witnesses that signed the checkpoint.
    pub witnesses: Vec<String>,
    /// How many of the checkpoints that were kept elsewhere the log continues.
    pub anchors: usize,
    /// How many of [`Trust::kept`] no key of the log has signed, or are no checkpoints.
    pub foreign: usize,
    /// How many of [`Trust::kept`] are of before what pruning left: they show nothing any more.
    pub outlived: usize,
    /// Entries on disk that no checkpoint covers. Nothing protects them.
    pub unsigned: u64,
    /// All that is wrong; after a thousand faults no more are looked for.
    pub faults: Vec<Fault>,
    /// What can be neither confirmed nor denied any more, since pruning removed what it would take.
    pub unchecked: Vec<String>,
    /// Files that are no part of what was signed. A killed writer leaves them, and the next one replaces them; so does
    /// a writer that went on while a log was copied.
    pub unfinished: Vec<PathBuf>,
}

impl Report {
    /// Whether the log is as it was signed, as far as that could be checked.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, file: impl Into<PathBuf>, position: Option<u64>, what: impl Into<String>) {
        self.faults.push(Fault { file: file.into(), position, what: what.into() });
    }
}

/// Verifies the log in a directory. Its writer may go on meanwhile.
///
/// What no signature covers is not looked at.
///
/// # Errors
///
/// If the system refuses. What is wrong with the log is in the report.
pub fn verify(directory: &Path, trust: &Trust<'_>) -> Result<Report> {
    let mut walk = Walk::default();
    // What is found below full bundles; the rest is of one checkpoint.
    let mut below = Report::default();
    let mut rounds = 0;
    loop {
        let mut report = Report::default();
        let reader = match Reader::open(directory) {
            Ok(reader) => reader,
            Err(error @ Error::Io { .. }) if !error.is_absent() => return Err(error),
            Err(error) => {
                report.fault(CHECKPOINT, None, error.to_string());
                return Ok(report);
            }
        };
        let keys = read_keys(&reader, trust, &mut report)?;
        if !is_signed(&reader, &keys, &mut report)? {
            return Ok(report);
        }
        walk.full_bundles(&reader, report.first, &mut below)?;
        report.faults.extend(below.faults.iter().cloned());
        if report.faults.len() >= MAX_FAULTS {
            report.fault(CHECKPOINT, None, format!("{MAX_FAULTS} faults were found: no more are looked for"));
            report.checkpoint = Some(reader.checkpoint().clone());
            return Ok(report);
        }
        let before = report.faults.len();
        walk.unfinished_tiles(&reader, &mut report)?;
        // A writer that went on has removed unfinished tiles of this checkpoint: look at those of its next.
        rounds += 1;
        if report.faults.len() > before && rounds < MAX_ROUNDS && is_replaced(&reader)? {
            continue;
        }
        check_rotations(&reader, &walk, &mut report)?;
        elsewhere::check_witnesses(&reader, trust, &mut report)?;
        elsewhere::check_anchors(&reader, trust.anchors, &keys, &mut report)?;
        elsewhere::check_kept(&reader, trust.kept, &keys, &mut report)?;
        check_pending(&reader, &mut report)?;
        match found(left_over::list(directory, &[reader.checkpoint().size]))? {
            Ok(unfinished) => report.unfinished = unfinished,
            Err(error) => report.fault("tile", None, error.to_string()),
        }
        report.unfinished.extend(directory.join(NEXT).exists().then(|| NEXT.into()));
        report.checkpoint = Some(reader.checkpoint().clone());
        return Ok(report);
    }
}

/// What was found, or what is wrong with the log; what the system refused is an error.
fn found<T>(read: Result<T>) -> Result<Result<T>> {
    match read {
        Err(error @ Error::Io { .. }) if !error.is_absent() => Err(error),
        read => Ok(read),
    }
}

/// Whether the writer has made another checkpoint since.
fn is_replaced(reader: &Reader) -> Result<bool> {
    let current = found(disk::read_text(&reader.directory().join(CHECKPOINT)))?;
    Ok(current.is_ok_and(|current| current != reader.note().to_string()))
}

/// The log's keys: rotations are followed.
fn read_keys(reader: &Reader, trust: &Trust<'_>, report: &mut Report) -> Result<Keys> {
    let Checkpoint { origin, size, .. } = reader.checkpoint();
    let keys = found(Keys::of(reader.directory(), origin, trust.keys, *size))?;
    Ok(keys.unwrap_or_else(|error| {
        report.fault(statement::ROTATIONS, None, error.to_string());
        Keys::without_rotations(origin, trust.keys)
    }))
}

/// Whether one of the log's keys signed the checkpoint; and what it says of pruning.
fn is_signed(reader: &Reader, keys: &Keys, report: &mut Report) -> Result<bool> {
    let Checkpoint { origin, size, .. } = reader.checkpoint();
    let keys = keys.at(*size);
    if let Err(error) = reader.note().require(&keys) {
        let what = format!("{error}; nothing that it claims to cover was looked at");
        report.fault(CHECKPOINT, None, what);
        return Ok(false);
    }
    let pruned = statement::read_pruned(reader.directory(), origin).and_then(|pruned| match pruned {
        Some((note, first)) => note.require(&keys).map(|_| first),
        None => Ok(0),
    });
    match found(pruned)? {
        Ok(first) if first <= *size => report.first = first,
        Ok(first) => report.fault(statement::PRUNED, None, format!("says {first}, beyond the checkpoint")),
        Err(error) => report.fault(statement::PRUNED, None, error.to_string()),
    }
    Ok(true)
}

/// That the statements beside the log are those in its entries, and none is missing.
fn check_rotations(reader: &Reader, walk: &Walk, report: &mut Report) -> Result<()> {
    let size = reader.checkpoint().size;
    let mut beside = Vec::new();
    // One that cannot be listed is told of where keys are read.
    for (index, file) in found(statement::rotations(reader.directory()))?.unwrap_or_default() {
        beside.push(index);
        if index < report.first || index >= size {
            continue;
        }
        match found(disk::read_below(reader.directory(), &file, bundle::MAX_ENTRY as u64))? {
            // An entry that cannot be read is a fault already.
            Ok(bytes) if found(reader.entry(index))?.is_ok_and(|entry| entry != bytes) => {
                report.fault(file, None, format!("is not what entry {index} says"));
            }
            Ok(_) => {}
            Err(error) => report.fault(file, None, error.to_string()),
        }
    }
    // The last entry's may still be on its way.
    for index in walk.rotations().filter(|index| index + 1 < size && !beside.contains(index)) {
        let file = Path::new(statement::ROTATIONS).join(index.to_string());
        report.fault(file, None, format!("is missing, and entry {index} hands the log on to a new key"));
    }
    Ok(())
}

fn check_pending(reader: &Reader, report: &mut Report) -> Result<()> {
    let size = reader.checkpoint().size;
    match found(pending::read(reader.directory()))? {
        Ok(None) => {}
        // A writer that made a checkpoint meanwhile has begun it anew.
        Ok(Some(found)) if found.first > size && !is_replaced(reader)? => {
            let what =
                format!("was begun at entry {}: the checkpoint was replaced by an older one", found.first);
            report.fault(pending::NAME, None, what);
        }
        Ok(Some(found)) => report.unsigned = found.end().saturating_sub(size),
        Err(error) => report.fault(pending::NAME, None, error.to_string()),
    }
    Ok(())
}
