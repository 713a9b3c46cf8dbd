//! Verification of a whole log: every tile and every root again, from the entries.

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
use crate::witness::COSIGNED;
use crate::{pending, statement};
use walk::Walk;

/// Checkpoints of a writer that goes on are followed this often.
const MAX_ROUNDS: usize = 8;

/// What who verifies has from elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'t> {
    /// The log's keys, or the first of them: rotations are followed.
    pub keys: &'t [VerifierKey],
    /// Keys of witnesses whose cosignatures are to be checked.
    pub witnesses: &'t [VerifierKey],
    /// Earlier checkpoints of the log that were kept where its host cannot write. The log must continue each.
    pub anchors: &'t [Note],
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
    /// The checkpoint that the log was verified up to; `None` if it cannot be read.
    pub checkpoint: Option<Checkpoint>,
    /// The first entry that is there: those before it were pruned, and the log's key says so.
    pub first: u64,
    /// Witnesses that signed the checkpoint.
    pub witnesses: Vec<String>,
    /// Entries on disk that no checkpoint covers. Nothing protects them.
    pub unsigned: u64,
    /// All that is wrong.
    pub faults: Vec<Fault>,
    /// Files that are no part of what was signed: a killed writer leaves them, the next one replaces them.
    pub unfinished: Vec<PathBuf>,
}

impl Report {
    /// Whether the log is as it was signed.
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
/// # Errors
///
/// If a file that is there cannot be read. What is wrong with the log is in the report.
pub fn verify(directory: &Path, trust: &Trust<'_>) -> Result<Report> {
    let mut walk = Walk::new(directory);
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
        check_signatures(&reader, trust, &mut report);
        walk.full_bundles(&reader, report.first, &mut below)?;
        report.faults.extend(below.faults.iter().cloned());
        let before = report.faults.len();
        walk.unfinished_tiles(&reader, &mut report)?;
        // A writer that went on has removed unfinished tiles of this checkpoint: look at those of its next.
        rounds += 1;
        if report.faults.len() > before && rounds < MAX_ROUNDS && is_replaced(&reader)? {
            continue;
        }
        check_witnesses(&reader, trust, &mut report);
        check_anchors(&reader, trust, &mut report);
        check_pending(&reader, &mut report)?;
        report.unfinished = left_over::list(directory, reader.checkpoint().size)?;
        report.unfinished.extend(directory.join(NEXT).exists().then(|| NEXT.into()));
        report.checkpoint = Some(reader.checkpoint().clone());
        return Ok(report);
    }
}

/// Whether the writer has made another checkpoint since.
fn is_replaced(reader: &Reader) -> Result<bool> {
    let current = disk::if_there(disk::read(&reader.directory().join(CHECKPOINT)))?;
    Ok(current.is_some_and(|current| current != reader.note().to_string().as_bytes()))
}

/// The checkpoint's signatures, and what the log's keys signed besides.
fn check_signatures(reader: &Reader, trust: &Trust<'_>, report: &mut Report) {
    let origin = &reader.checkpoint().origin;
    let keys = statement::trusted(reader.directory(), origin, trust.keys).unwrap_or_else(|error| {
        report.fault(statement::ROTATIONS, None, error.to_string());
        trust.keys.to_vec()
    });
    let keys: Vec<VerifierKey> = keys.into_iter().filter(|key| key.name() == origin).collect();
    if let Err(error) = reader.note().require(&keys) {
        report.fault(CHECKPOINT, None, error.to_string());
    }
    match reader.note().signers(trust.witnesses) {
        Ok(signers) => report.witnesses = signers.iter().map(|key| key.name().to_owned()).collect(),
        Err(error) => report.fault(CHECKPOINT, None, error.to_string()),
    }
    let pruned = statement::read_pruned(reader.directory(), origin).and_then(|pruned| match pruned {
        Some((note, first)) => note.require(&keys).map(|_| first),
        None => Ok(0),
    });
    match pruned {
        Ok(first) if first <= reader.checkpoint().size => report.first = first,
        Ok(first) => report.fault(statement::PRUNED, None, format!("says {first}, beyond the checkpoint")),
        Err(error) => report.fault(statement::PRUNED, None, error.to_string()),
    }
}

/// That each witness has signed the checkpoint, or an earlier one that the log continues.
fn check_witnesses(reader: &Reader, trust: &Trust<'_>, report: &mut Report) {
    let cosigned = || {
        let Some(text) = disk::if_there(disk::read_text(&reader.directory().join(COSIGNED)))? else {
            return Ok(Vec::new());
        };
        let note = Note::parse(&text)?;
        let earlier = Checkpoint::parse(note.text())?;
        let is_continued =
            earlier.origin == reader.checkpoint().origin && reader.root_at(earlier.size)? == earlier.root;
        let signers = note.signers(trust.witnesses)?;
        Ok::<_, Error>(if is_continued { signers } else { Vec::new() })
    };
    if trust.witnesses.is_empty() {
        return;
    }
    match cosigned() {
        Ok(signers) => report.witnesses.extend(signers.iter().map(|key| key.name().to_owned())),
        Err(error) => report.fault(COSIGNED, None, error.to_string()),
    }
    report.witnesses.sort();
    report.witnesses.dedup();
    for witness in trust.witnesses {
        if !report.witnesses.iter().any(|name| name == witness.name()) {
            let what =
                format!("the witness {} has signed no checkpoint that the log continues", witness.name());
            report.fault(CHECKPOINT, None, what);
        }
    }
}

/// That the log continues checkpoints that were kept elsewhere.
fn check_anchors(reader: &Reader, trust: &Trust<'_>, report: &mut Report) {
    for note in trust.anchors {
        let checked = || {
            let keys = statement::trusted(reader.directory(), &reader.checkpoint().origin, trust.keys)?;
            note.require(&keys)?;
            let anchor = Checkpoint::parse(note.text())?;
            let now = reader.root_at(anchor.size)?;
            if anchor.origin != reader.checkpoint().origin {
                return Ok(Some(format!("a kept checkpoint is of another log, `{}`", anchor.origin)));
            }
            let other = format!(
                "the log is another than the kept checkpoint of {} entries says: a fork",
                anchor.size
            );
            Ok((now != anchor.root).then_some(other))
        };
        match checked() {
            Ok(None) => {}
            Ok(Some(what)) => report.fault(CHECKPOINT, None, what),
            Err(Error::Beyond { index, size }) => {
                let what = format!("covers {size} entries, a kept checkpoint {}: the log was cut", index + 1);
                report.fault(CHECKPOINT, None, what);
            }
            Err(error) => {
                report.fault(CHECKPOINT, None, format!("a kept checkpoint cannot be compared: {error}"));
            }
        }
    }
}

fn check_pending(reader: &Reader, report: &mut Report) -> Result<()> {
    let size = reader.checkpoint().size;
    match pending::read(reader.directory()) {
        Ok(None) => {}
        // A writer that made a checkpoint meanwhile has begun it anew.
        Ok(Some(found)) if found.first > size && !is_replaced(reader)? => {
            let what =
                format!("was begun at entry {}: the checkpoint was replaced by an older one", found.first);
            report.fault(pending::NAME, None, what);
        }
        Ok(Some(found)) => report.unsigned = found.end().saturating_sub(size),
        Err(error @ Error::Io { .. }) => return Err(error),
        Err(error) => report.fault(pending::NAME, None, error.to_string()),
    }
    Ok(())
}
