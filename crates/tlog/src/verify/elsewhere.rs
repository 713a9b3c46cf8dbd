//! What others have of the log: cosignatures of witnesses, and checkpoints that were kept elsewhere.

use super::{Report, Trust, found};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::key::VerifierKey;
use crate::log::CHECKPOINT;
use crate::note::Note;
use crate::reader::Reader;
use crate::statement::Keys;
use crate::witness::{self, COSIGNED};

/// That each witness has signed the checkpoint, or an earlier one that the log continues.
pub(super) fn check_witnesses(reader: &Reader, trust: &Trust<'_>, report: &mut Report) -> Result<()> {
    let mut signers = match reader.note().signers(trust.witnesses) {
        Ok(signers) => signers,
        Err(error) => {
            report.fault(CHECKPOINT, None, error.to_string());
            Vec::new()
        }
    };
    let mut unchecked = Vec::new();
    if signers.len() < trust.witnesses.len() {
        match found(witness::kept(reader.directory()))? {
            Ok(notes) => {
                for note in notes {
                    check_cosigned(reader, &note, trust.witnesses, (&mut signers, &mut unchecked), report)?;
                }
            }
            Err(error) => report.fault(COSIGNED, None, error.to_string()),
        }
    }
    report.witnesses = signers.iter().map(|key| key.name().to_owned()).collect();
    report.witnesses.sort();
    report.witnesses.dedup();
    signers.extend(unchecked);
    for witness in trust.witnesses.iter().filter(|key| !signers.contains(key)) {
        let what = format!("the witness {} has signed no checkpoint that the log continues", witness.name());
        report.fault(CHECKPOINT, None, what);
    }
    Ok(())
}

/// Who of `witnesses` has signed an earlier checkpoint: `signers`, if the log continues it; `unchecked`, if that cannot be
/// said any more. One of another log or another tree shows nothing.
fn check_cosigned<'w>(
    reader: &Reader,
    note: &Note,
    witnesses: &'w [VerifierKey],
    (signers, unchecked): (&mut Vec<&'w VerifierKey>, &mut Vec<&'w VerifierKey>),
    report: &mut Report,
) -> Result<()> {
    let checked = || {
        let by = note.signers(witnesses)?;
        let earlier = Checkpoint::parse(note.text())?;
        if by.is_empty() || earlier.origin != reader.checkpoint().origin {
            return Ok((Vec::new(), None));
        }
        Ok(match compare(reader, &earlier)? {
            Compared::Continued => (by, None),
            Compared::Fork | Compared::Beyond => (Vec::new(), None),
            Compared::Pruned(error) => (by, Some(error)),
        })
    };
    match found(checked())? {
        Ok((by, None)) => signers.extend(by),
        Ok((by, Some(error))) => {
            unchecked.extend(by);
            report.unchecked.push(format!("the checkpoint that witnesses have signed: {error}"));
        }
        Err(error) => report.fault(COSIGNED, None, error.to_string()),
    }
    Ok(())
}

/// A checkpoint of before, and the log.
enum Compared {
    /// The log continues it.
    Continued,
    /// The log had another root then.
    Fork,
    /// The log has fewer entries.
    Beyond,
    /// That cannot be said any more: of before what pruning left, only roots at multiples of a bundle are known.
    Pruned(Error),
}

fn compare(reader: &Reader, earlier: &Checkpoint) -> Result<Compared> {
    match reader.root_at(earlier.size) {
        Ok(root) if root == earlier.root => Ok(Compared::Continued),
        Ok(_) => Ok(Compared::Fork),
        Err(Error::Beyond { .. }) => Ok(Compared::Beyond),
        Err(error @ Error::Pruned { .. }) => Ok(Compared::Pruned(error)),
        Err(error) => Err(error),
    }
}

/// The checkpoint of a note, if it is of this log and signed by it.
fn checkpoint_of(
    reader: &Reader,
    note: &Note,
    keys: &Keys,
) -> Result<std::result::Result<Checkpoint, String>> {
    let kept = Checkpoint::parse(note.text())?;
    if kept.origin != reader.checkpoint().origin {
        return Ok(Err(format!("a kept checkpoint is of another log, `{}`", kept.origin)));
    }
    note.require(&keys.at(kept.size))?;
    Ok(Ok(kept))
}

/// That the log continues what its keys have signed of what was kept in a place of many.
pub(super) fn check_kept(reader: &Reader, kept: &[Note], keys: &Keys, report: &mut Report) -> Result<()> {
    for note in kept {
        let Ok(Ok(kept)) = checkpoint_of(reader, note, keys) else {
            report.foreign += 1;
            continue;
        };
        match found(compare(reader, &kept))? {
            Ok(Compared::Pruned(_)) => report.outlived += 1,
            compared => tell(reader, kept.size, compared, report),
        }
    }
    Ok(())
}

/// That the log continues checkpoints that were kept elsewhere.
pub(super) fn check_anchors(
    reader: &Reader,
    anchors: &[Note],
    keys: &Keys,
    report: &mut Report,
) -> Result<()> {
    for note in anchors {
        match found(checkpoint_of(reader, note, keys))? {
            Ok(Ok(kept)) => tell(reader, kept.size, found(compare(reader, &kept))?, report),
            Ok(Err(what)) => report.fault(CHECKPOINT, None, what),
            Err(error) => tell(reader, 0, Err(error), report),
        }
    }
    Ok(())
}

/// Tells what came of a kept checkpoint of so many entries.
fn tell(reader: &Reader, kept: u64, compared: Result<Compared>, report: &mut Report) {
    let what = match compared {
        Ok(Compared::Continued) => {
            report.anchors += 1;
            return;
        }
        Ok(Compared::Pruned(error)) => {
            report.unchecked.push(format!("a kept checkpoint of {kept} entries: {error}"));
            return;
        }
        Ok(Compared::Fork) => {
            format!("the log is another than the kept checkpoint of {kept} entries says: a fork")
        }
        Ok(Compared::Beyond) => format!(
            "covers {} entries, a kept checkpoint {kept}: the log was cut, or copied before that checkpoint",
            reader.checkpoint().size
        ),
        Err(error) => format!("a kept checkpoint cannot be compared: {error}"),
    };
    report.fault(CHECKPOINT, None, what);
}
