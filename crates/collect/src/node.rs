//! What is kept of one node.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_tlog::{Checkpoint, Mirror, Refused, SKIPPED_ENTRIES, SignerKey, Taken, VerifierKey, cosign};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::finding::{self, FindingKind, Findings};
use crate::records::Records;
use crate::report::Report;

const REPORT: &str = "report.json";
const FINDINGS: &str = "findings.json";

/// The log's mirror in a node's directory.
pub(crate) const LOG: &str = "log";
/// Its lines.
pub(crate) const RECORDS: &str = "records";

/// How far ahead of the collector's a node's clock may be, ns.
const AHEAD: u64 = 300 * 1_000_000_000;

/// Longest of these files.
const MOST_BYTES: u64 = 1 << 20;

/// The last report of a node, and when it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The node's name.
    pub node: String,
    /// When it was made, by the node's clock, ns since 1970.
    pub made: u64,
    /// When it came, by the collector's.
    pub heard: u64,
    /// Records that are here.
    pub records: u64,
    /// Records that the node's log had then.
    pub of: u64,
    /// What it says.
    pub report: Report,
}

/// A node that is open.
#[derive(Debug)]
pub(crate) struct Node {
    directory: PathBuf,
    mirror: Mirror,
    records: Records,
    pub heard: Heard,
}

/// Why a batch was not taken: what is wrong with it, or with this host.
pub(crate) enum Failure {
    Found(FindingKind, String),
    Own(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Own(error)
    }
}

impl Node {
    /// Opens what is kept in a directory. `key`: what is pinned if nothing is kept yet.
    pub(crate) fn open(directory: &Path, name: &str, key: &VerifierKey) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mirror = Mirror::open(&directory.join(LOG), Some(key)).map_err(io::Error::other)?;
        let records = Records::open(&directory.join(RECORDS), name)?;
        // The next report replaces one that cannot be read.
        let heard = match read(&directory.join(REPORT)) {
            Err(error) if is_malformed(&error) => Heard::default(),
            read => read?.unwrap_or_default(),
        };
        Ok(Self { directory: directory.to_owned(), mirror, records, heard })
    }

    /// Entries that are here.
    pub(crate) fn size(&self) -> u64 {
        self.mirror.size()
    }

    /// Bytes, about, that a batch's new entries take here once: in the mirror, or as lines.
    pub(crate) fn cost(&self, batch: &Batch) -> u64 {
        let skipped = batch.part.skipped.len() as u64;
        let first = batch.part.from.saturating_add(skipped.saturating_mul(SKIPPED_ENTRIES));
        let known = usize::try_from(self.size().saturating_sub(first)).unwrap_or(usize::MAX);
        let entries = batch.part.entries.iter().skip(known).map(|entry| entry.len() as u64 + 128);
        entries.sum::<u64>() + skipped * 64
    }

    /// Takes a batch: first the mirror, then the cosignature, lines, and the report. Each is made up for by the next
    /// batch, or the next opening, if this process is killed before it. Returns how many records are new.
    /// Unless it `may_grow`, nothing new is taken but the report.
    pub(crate) fn take(
        &mut self,
        batch: &Batch,
        witness: Option<&SignerKey>,
        may_grow: bool,
    ) -> Result<u64, Failure> {
        let keys = self.mirror.keys_for(&batch.part);
        let is_known = keys.is_ok_and(|keys| keys.contains(&batch.key));
        if !is_known {
            let what =
                format!("it is signed by {}, and the node's key is {}", batch.key, self.mirror.pinned());
            return Err(Failure::Found(FindingKind::OtherKey, what));
        }
        let before = self.mirror.size();
        let is_new = batch.part.end().is_none_or(|end| end > before);
        let taken = if is_new && !may_grow {
            let what = "it has sent more today than a node may: no more is taken until tomorrow, UTC";
            Err(Failure::Found(FindingKind::TooMuch, what.to_owned()))
        } else {
            self.mirror.take(&batch.part).map_err(failure)
        };
        if let Err(Failure::Own(error)) = taken {
            return Err(error.into());
        }
        self.finish(witness)?;
        let had = self.mirror.signed().size;
        let is_news = batch.made > self.heard.made;
        // One that is not was sent again, or held back on the way; or the node's clock was ahead before.
        let ahead = now().saturating_add(AHEAD);
        if is_news || self.heard.made > ahead && batch.made <= ahead {
            self.heard = Heard {
                node: batch.node.clone(),
                made: batch.made,
                heard: now(),
                records: self.mirror.size(),
                of: Checkpoint::parse(batch.part.note.text()).map_or(0, |of| of.size),
                report: batch.report.clone(),
            };
            write(&self.directory.join(REPORT), &self.heard)?;
        }
        match taken? {
            Taken::Known(has) if has < had && is_news => {
                let what =
                    format!("its log has {has} records, and had {had}: it was cut or restored from a copy");
                Err(Failure::Found(FindingKind::Rollback, what))
            }
            _ => Ok(self.mirror.size() - before),
        }
    }

    /// Cosigns what is here, and writes the lines of it.
    pub(crate) fn finish(&mut self, witness: Option<&SignerKey>) -> io::Result<()> {
        let signed = self.mirror.signed();
        let is_signed = self.mirror.directory().join("checkpoint").exists();
        if let Some(witness) = witness.filter(|_| is_signed && signed.size > 0)
            && !is_cosigned(self.mirror.directory(), self.mirror.note().text())?
        {
            let mut note = self.mirror.note().clone();
            note.sign(witness, now() / 1_000_000_000);
            cosign(self.mirror.directory(), &note, std::slice::from_ref(witness.public()))
                .map_err(io::Error::other)?;
        }
        let first = self.mirror.first().map_err(io::Error::other)?;
        self.records.follow(&self.mirror.reader(), first, &day(now()))?;
        Ok(())
    }
}

/// Whether the collector's last cosignature is of this text.
fn is_cosigned(log: &Path, text: &str) -> io::Result<bool> {
    match fs::read_to_string(log.join(bulkhead_tlog::COSIGNED)) {
        Ok(cosigned) => Ok(cosigned.starts_with(text) || cosigned.contains(&format!("\n{text}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn failure(refused: Refused) -> Failure {
    let words = refused.to_string();
    let kind = match refused {
        Refused::Own(error) => return Failure::Own(io::Error::other(error)),
        Refused::Malformed(_) => FindingKind::Malformed,
        Refused::OtherLog(_) => FindingKind::OtherLog,
        Refused::OtherKey(_) => FindingKind::OtherKey,
        Refused::Gap { .. } => FindingKind::Gap,
        Refused::Fork { .. } => FindingKind::Fork,
        Refused::Altered { .. } => FindingKind::Altered,
    };
    Failure::Found(kind, words)
}

/// What is wrong with a node. That this cannot be read is a finding, too.
pub(crate) fn findings(directory: &Path) -> io::Result<Findings> {
    match read(&directory.join(FINDINGS)) {
        Err(error) if is_malformed(&error) => {
            let mut findings = Findings::new();
            finding::note(&mut findings, FindingKind::Failed, now(), error.to_string());
            Ok(findings)
        }
        read => Ok(read?.unwrap_or_default()),
    }
}

/// Keeps what is wrong with a node.
pub(crate) fn keep_findings(directory: &Path, findings: &Findings) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    write(&directory.join(FINDINGS), findings)
}

/// Forgets what is wrong with a node.
pub(crate) fn forget_findings(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(FINDINGS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The last report of a node.
pub(crate) fn heard(directory: &Path) -> io::Result<Option<Heard>> {
    read(&directory.join(REPORT))
}

/// Reads a file of JSON, if it is there.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(error)),
    };
    let reader = io::BufReader::new(io::Read::take(file, MOST_BYTES));
    serde_json::from_reader(reader).map(Some).map_err(|error| named(error.into()))
}

/// Whether a file was read, and is not what it should be.
pub(crate) fn is_malformed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Replaces a file of JSON.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_data()?;
    fs::rename(new, path)
}

/// The time, ns since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// The day of a time, UTC.
pub(crate) fn day(time: u64) -> String {
    let date = time::OffsetDateTime::from_unix_timestamp((time / 1_000_000_000) as i64)
        .map_or(time::Date::MIN, time::OffsetDateTime::date);
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}
