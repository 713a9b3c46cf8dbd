//! Where records are read from, and what is believed of it.

use std::path::PathBuf;

use anyhow::Context as _;
use bulkhead_api::event::Timestamp;
use bulkhead_api::record::Record;
use bulkhead_tlog::{Checked, Error, VerifierKey, key_beside};

use super::keys;
use crate::exit::Usage;
use crate::global::Global;
use crate::paths::Paths;

/// Which log.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Source {
    /// Read a copy of a log instead of this host's.
    #[arg(long, value_name = "DIRECTORY")]
    pub log: Option<PathBuf>,
    /// The log's key, or a file with it; else the one beside the log.
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
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
        // A link that leads nowhere is something: reading it says what.
        if directory.join("checkpoint").symlink_metadata().is_err() {
            let words =
                "no event log is there, or not for you to read: name a copy with --log, or run this as root";
            return Err(Usage(format!("{}: {words}", directory.display())).into());
        }
        Ok(directory)
    }

    /// The keys that were given; else that of the log itself.
    ///
    /// # Errors
    /// [`Usage`] if one is none, or there is none beside the log; else what is wrong with that.
    pub fn keys(&self, directory: &std::path::Path) -> anyhow::Result<Vec<VerifierKey>> {
        if !self.key.is_empty() {
            return self.key.iter().map(|text| keys::key(text)).collect();
        }
        match key_beside(directory) {
            Err(Error::Io { path, .. }) => {
                let words = "cannot be read: give the log's key with --key";
                Err(Usage(format!("{}: {words}", path.display())).into())
            }
            key => Ok(vec![key?]),
        }
    }

    /// The log, up to its last checkpoint, which its key has signed.
    ///
    /// # Errors
    /// [`Usage`] if there is no log or no key; else what is wrong with it.
    pub fn checked(&self, global: &Global) -> anyhow::Result<(Checked, Vec<VerifierKey>)> {
        let directory = self.directory(global)?;
        let keys = self.keys(&directory)?;
        Ok((Checked::open(&directory, &keys).context(READING)?, keys))
    }
}

/// What is being done.
const READING: &str = "reading the event log; `bulkhead audit verify` says what is wrong with it";

/// One record.
pub struct Shown {
    /// Its number.
    pub number: u64,
    /// As it is in the log.
    pub bytes: Vec<u8>,
    /// What it says.
    pub record: Record,
    /// Whether a checkpoint covers it. What is not signed yet anybody may have written who can write the file.
    pub is_signed: bool,
}

/// The records of a log in their order, each checked against what is signed.
pub struct Records {
    log: Checked,
    keys: Vec<VerifierKey>,
    next: u64,
    bundle: std::vec::IntoIter<(u64, Vec<u8>)>,
    rest: Rest,
}

/// What is read of what the checkpoint does not cover.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    No,
    /// All of it; checkpoints that were made meanwhile are followed so often.
    Follow(u8),
    /// It is being read.
    Reading,
}

/// Checkpoints that are followed.
const FOLLOWED: u8 = 8;

/// So many bundles of older records in a row, and all before them are older: more than what a ring of the usual size
/// holds of drops that are told of late, since no agent ran.
const OLDER: u64 = 64;

/// Records of a bundle.
const BUNDLE: u64 = 256;

/// What is read of a record to learn its time.
#[derive(serde::Deserialize)]
struct Timed {
    event: Time,
}

#[derive(serde::Deserialize)]
struct Time {
    time: Timestamp,
}

impl Records {
    /// Opens those that are signed.
    ///
    /// # Errors
    /// As [`Source::checked`].
    pub fn open(source: &Source, global: &Global) -> anyhow::Result<Self> {
        let (log, keys) = source.checked(global)?;
        Ok(Self::of(log, keys))
    }

    /// Those of a log that is open.
    pub fn of(log: Checked, keys: Vec<VerifierKey>) -> Self {
        Self { next: log.first(), log, keys, bundle: Vec::new().into_iter(), rest: Rest::No }
    }

    /// The same with those behind them that are not signed yet.
    pub fn with_unsigned(self) -> Self {
        Self { rest: Rest::Follow(FOLLOWED), ..self }
    }

    /// Those since a time and all that were written between them, without reading the whole log for it.
    ///
    /// # Errors
    /// What is wrong with the log.
    pub fn since(mut self, since: Timestamp) -> anyhow::Result<Self> {
        let size = self.log.size();
        let (mut begin, mut bundle) = (size, size.div_ceil(BUNDLE));
        while bundle > self.next / BUNDLE && begin.saturating_sub(bundle * BUNDLE) < OLDER * BUNDLE {
            bundle -= 1;
            let from = self.next.max(bundle * BUNDLE);
            for entry in self.log.reader().entries(from..(bundle + 1) * BUNDLE) {
                let (number, bytes) = entry.context(READING)?;
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

    /// The number of the record that is read next, before any was read.
    pub fn begin(&self) -> u64 {
        self.next
    }

    /// How many are behind those that are signed.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn unsigned(&self) -> anyhow::Result<u64> {
        Ok(self.log.reader().unsigned().context(READING)?.len() as u64)
    }

    /// Reads on, and says whether there was anything to read.
    fn fill(&mut self) -> bulkhead_tlog::Result<bool> {
        while self.next >= self.log.size() {
            let Rest::Follow(times @ 1..) = self.rest else { return Ok(false) };
            self.rest = Rest::Follow(times - 1);
            // Where a checkpoint was made since, records are signed now that were not.
            self.log = Checked::open(self.log.reader().directory(), &self.keys)?;
            let unsigned = self.log.reader().unsigned()?;
            // And where one was made in between, they begin later.
            if self.next >= self.log.size() && unsigned.first().is_none_or(|&(first, _)| first <= self.next) {
                self.rest = Rest::Reading;
                let next = self.next;
                let new: Vec<_> = unsigned.into_iter().filter(|&(number, _)| number >= next).collect();
                self.bundle = new.into_iter();
                return Ok(true);
            }
        }
        let entries = self.log.entries(self.next)?;
        self.next += entries.len() as u64;
        self.bundle = entries.into_iter();
        Ok(true)
    }

    /// Reads an entry; `None` if it is no record, but a new key of the log.
    fn shown(&self, number: u64, bytes: Vec<u8>) -> bulkhead_tlog::Result<Option<Shown>> {
        let what = match Record::read(&bytes) {
            Ok(record) if record.sequence != number => {
                format!("record {number} says that it is record {}", record.sequence)
            }
            // It would be two lines to whoever reads line by line.
            Ok(_) if bytes.contains(&b'\n') => format!("record {number} is not in its canonical form"),
            Ok(record) => {
                return Ok(Some(Shown { number, bytes, record, is_signed: self.rest != Rest::Reading }));
            }
            Err(_) if self.log.is_rotation(&bytes) => return Ok(None),
            Err(error) => format!("record {number} is none that this version knows: {error}"),
        };
        Err(Error::Damaged { path: self.log.reader().directory().to_owned(), what })
    }
}

impl Iterator for Records {
    type Item = anyhow::Result<Shown>;

    /// After a record that is none the next one follows; after a file that cannot be read, or believed, nothing.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((number, bytes)) = self.bundle.next() {
                match self.shown(number, bytes) {
                    Ok(None) => continue,
                    Ok(Some(shown)) => return Some(Ok(shown)),
                    Err(error) => return Some(Err(error.into())),
                }
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    (self.next, self.rest) = (u64::MAX, Rest::No);
                    return Some(Err(error).context(READING));
                }
            }
        }
    }
}
