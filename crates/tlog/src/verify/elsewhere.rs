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
        match reader.root_at(earlier.size) {
            Ok(root) if root == earlier.root => Ok((by, None)),
            Ok(_) | Err(Error::Beyond { .. }) => Ok((Vec::new(), None)),
            Err(error @ Error::Pruned { .. }) => Ok((by, Some(error))),
            Err(error) => Err(error),
        }
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

/// That the log continues what its keys have signed of what was kept in a place of many.
pub(super) fn check_kept(reader: &Reader, kept: &[Note], keys: &Keys, report: &mut Report) -> Result<()> {
    for note in kept {
        let size =
            Checkpoint::parse(note.text()).ok().filter(|kept| kept.origin == reader.checkpoint().origin);
        let size = size.map(|kept| kept.size).filter(|size| note.require(&keys.at(*size)).is_ok());
        let Some(size) = size else {
            report.foreign += 1;
            continue;
        };
        match found(reader.root_at(size))? {
            Err(Error::Pruned { .. }) => report.outlived += 1,
            _ => check_anchors(reader, std::slice::from_ref(note), keys, report)?,
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
        let checked = || {
            let anchor = Checkpoint::parse(note.text())?;
            if anchor.origin != reader.checkpoint().origin {
                return Ok(Some(format!("a kept checkpoint is of another log, `{}`", anchor.origin)));
            }
            note.require(&keys.at(anchor.size))?;
            let other = format!(
                "the log is another than the kept checkpoint of {} entries says: a fork",
                anchor.size
            );
            Ok((reader.root_at(anchor.size)? != anchor.root).then_some(other))
        };
        match found(checked())? {
            Ok(None) => report.anchors += 1,
            Ok(Some(what)) => report.fault(CHECKPOINT, None, what),
            Err(Error::Beyond { index, size }) => {
                let kept = index.saturating_add(1);
                let what = format!(
                    "covers {size} entries, a kept checkpoint {kept}: the log was cut, or copied before that checkpoint"
                );
                report.fault(CHECKPOINT, None, what);
            }
            // Of before what pruning left, only roots at multiples of a bundle are known.
            Err(error @ Error::Pruned { .. }) => {
                let size = Checkpoint::parse(note.text()).map_or(0, |anchor| anchor.size);
                report.unchecked.push(format!("a kept checkpoint of {size} entries: {error}"));
            }
            Err(error) => {
                report.fault(CHECKPOINT, None, format!("a kept checkpoint cannot be compared: {error}"));
            }
        }
    }
    Ok(())
}
