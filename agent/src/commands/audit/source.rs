//! Where records are read from.

use std::path::PathBuf;

use anyhow::Context as _;
use bulkhead_api::event::Timestamp;
use bulkhead_api::record::Record;
use bulkhead_tlog::Reader;

use crate::exit::Usage;
use crate::global::Global;
use crate::paths::Paths;

/// Which log.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Source {
    /// Read a copy of a log instead of this host's.
    #[arg(long, value_name = "DIRECTORY")]
    pub log: Option<PathBuf>,
}

impl Source {
    /// The log's directory.
    ///
    /// # Errors
    /// [`Usage`] if there is none.
    pub fn directory(&self, global: &Global) -> anyhow::Result<PathBuf> {
        let directory = match &self.log {
            Some(directory) => directory.clone(),
            None => Paths::of(&global.instance)?.state.join(bulkhead_events::DIRECTORY),
        };
        if !directory.join("checkpoint").exists() {
            let words =
                "no event log is there, or not for you to read: name a copy with --log, or run this as root";
            return Err(Usage(format!("{}: {words}", directory.display())).into());
        }
        Ok(directory)
    }
}

/// The records of a log in their order, those that are not signed yet at the end.
pub struct Records {
    reader: Reader,
    next: u64,
    bundle: std::vec::IntoIter<(u64, Vec<u8>)>,
    has_unsigned: bool,
}

/// So many bundles of older records in a row, and all before them are older: more than what a ring of the usual size
/// holds of drops that are told of late, since no agent ran.
const OLDER: u64 = 64;

/// What is read of a record to learn its time.
#[derive(serde::Deserialize)]
struct Timed {
    event: Time,
}

#[derive(serde::Deserialize)]
struct Time {
    time: Timestamp,
}

/// Records that are read at once: those of one bundle.
const BUNDLE: u64 = 256;

impl Records {
    /// Opens them.
    ///
    /// # Errors
    /// [`Usage`] if there is no log; else what is wrong with it.
    pub fn open(source: &Source, global: &Global) -> anyhow::Result<Self> {
        let directory = source.directory(global)?;
        let reader = Reader::open(&directory).with_context(|| not_read(&directory.display().to_string()))?;
        let next = reader.first().with_context(|| not_read(&directory.display().to_string()))?;
        Ok(Self { reader, next, bundle: Vec::new().into_iter(), has_unsigned: true })
    }

    /// Those since a time and all that were written between them, without reading the whole log for it.
    ///
    /// # Errors
    /// What is wrong with the log.
    pub fn since(mut self, since: Timestamp) -> anyhow::Result<Self> {
        let what = || not_read(&self.reader.directory().display().to_string());
        let size = self.reader.checkpoint().size;
        let (mut begin, mut bundle) = (size, size.div_ceil(BUNDLE));
        while bundle > self.next / BUNDLE && begin.saturating_sub(bundle * BUNDLE) < OLDER * BUNDLE {
            bundle -= 1;
            let from = self.next.max(bundle * BUNDLE);
            for entry in self.reader.entries(from..(bundle + 1) * BUNDLE) {
                let (number, bytes) = entry.with_context(what)?;
                // What is no record has no time.
                let timed = serde_json::from_slice::<Timed>(&bytes);
                if timed.is_ok_and(|timed| timed.event.time >= since) {
                    begin = number;
                    break;
                }
            }
        }
        self.next = begin;
        Ok(self)
    }

    /// The number after the last record that was read from the disk.
    pub fn end(&self) -> u64 {
        self.next
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let size = self.reader.checkpoint().size;
        let end = (self.next / BUNDLE + 1) * BUNDLE;
        let what = || not_read(&self.reader.directory().display().to_string());
        let entries: Vec<_> = if self.next < size {
            self.reader.entries(self.next..end).collect::<Result<_, _>>().with_context(what)?
        } else {
            self.has_unsigned = false;
            // Where a checkpoint was made since the log was opened, they begin later; those in between are signed.
            let mut later = self.reader.clone();
            later.refresh().with_context(what)?;
            let signed =
                later.entries(self.next..u64::MAX).collect::<Result<Vec<_>, _>>().with_context(what)?;
            let unsigned = later.unsigned().with_context(what)?;
            signed.into_iter().chain(unsigned).collect()
        };
        self.next = entries.last().map_or(end, |(number, _)| number + 1);
        self.bundle = entries.into_iter();
        Ok(())
    }
}

fn not_read(directory: &str) -> String {
    format!("{directory}: reading the event log; `bulkhead audit verify` says what is wrong with it")
}

impl Iterator for Records {
    type Item = anyhow::Result<(u64, Record)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((number, bytes)) = self.bundle.next() {
                // A new key of the log is an entry of its own, and no record: a signed note.
                if bytes.first() != Some(&b'{') {
                    continue;
                }
                let record = Record::read(&bytes);
                let what = || format!("record {number} is none that this version knows");
                return Some(record.with_context(what).map(|record| (number, record)));
            }
            if !self.has_unsigned {
                return None;
            }
            if let Err(error) = self.fill() {
                self.has_unsigned = false;
                return Some(Err(error));
            }
        }
    }
}
