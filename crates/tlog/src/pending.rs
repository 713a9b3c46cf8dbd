//! `pending`: entries that no checkpoint covers yet, so that a killed writer loses nothing that it has flushed.
//!
//! Eight bytes say whether the writer closed the file, eight more give the index of the first entry, big-endian.
//! Each entry follows as in a bundle, and behind it four bytes: the beginning of its leaf's hash, with the low
//! half of its index added by exclusive or. A record that is torn, or that an earlier file left, does not fit.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::bundle;
use crate::disk::{self, PRIVATE};
use crate::error::{Error, Result};
use crate::hash::Hash;

const OPEN: &[u8; 8] = b"tlogopen";
const CLOSED: &[u8; 8] = b"tlogdone";
const HEADER: u64 = 16;

/// Bytes of the longest file. What a writer holds unsigned is bounded so that it has fewer.
const MOST_BYTES: u64 = 32 << 20;

/// What a writer may hold unsigned at most: a record takes six bytes here where an entry takes two, and an entry may
/// be empty.
pub(crate) const MOST_UNSIGNED: usize = (MOST_BYTES / 4) as usize;

/// Records are written when they are this many bytes, flushed or not.
const BUFFER: usize = 64 << 10;

/// The file, open for its one writer.
pub(crate) struct Pending {
    path: PathBuf,
    pub(crate) file: File,
    /// Bytes of the file that are whole; 0 if it could not be begun.
    length: u64,
    buffer: Vec<u8>,
}

/// What the file holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Whether the last writer closed it.
    pub closed: bool,
    /// Index of the first entry.
    pub first: u64,
    /// Entries, and where in the file each ends.
    pub entries: Vec<(Vec<u8>, u64)>,
    /// Bytes behind them that are no whole record.
    pub torn: u64,
}

impl Found {
    /// The index behind the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Entries from `index` on.
    pub(crate) fn from(&self, index: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let numbered = (self.first..).zip(&self.entries).map(|(at, (entry, _))| (at, entry.as_slice()));
        numbered.skip_while(move |&(at, _)| at < index)
    }
}

/// The file's name below the log's directory.
pub(crate) const NAME: &str = "pending";

/// Reads the file of a log in `directory`; `None` if it is not there or was just being begun.
pub(crate) fn read(directory: &Path) -> Result<Option<Found>> {
    let path = directory.join(NAME);
    let Some(bytes) = disk::if_there(disk::read(&path, MOST_BYTES))? else { return Ok(None) };
    let Some((state, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let Some((first, mut rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
    let first = u64::from_be_bytes(*first);
    if *state == [0; 8] && first == 0 {
        // A loss of power left the file's length without what was in it.
        return Ok(Some(Found { torn: rest.len() as u64, ..Found::default() }));
    }
    if ![OPEN, CLOSED].contains(&state) {
        return Err(Error::damaged(&path, "does not begin as a file of pending entries does"));
    }
    if first.checked_add(bytes.len() as u64).is_none() {
        return Err(Error::damaged(&path, format!("begins at entry {first}, which no log has")));
    }
    let mut found = Found { closed: state == CLOSED, first, ..Found::default() };
    while let Some((entry, behind)) = record(rest, found.end()) {
        found.entries.push((entry.to_vec(), (bytes.len() - behind.len()) as u64));
        rest = behind;
    }
    found.torn = rest.len() as u64;
    Ok(Some(found))
}

fn record(bytes: &[u8], index: u64) -> Option<(&[u8], &[u8])> {
    let (entry, behind) = bundle::split_first(bytes)?;
    let (sum, behind) = behind.split_first_chunk::<4>()?;
    (*sum == self::sum(index, &Hash::of_leaf(entry))).then_some((entry, behind))
}

fn sum(index: u64, leaf: &Hash) -> [u8; 4] {
    let low = (index as u32).to_be_bytes();
    std::array::from_fn(|at| leaf.0[at] ^ low[at])
}

impl Pending {
    /// Opens the file to go on with what was `found` there, or to begin it at `size`.
    pub(crate) fn open(directory: &Path, found: Option<&Found>, size: u64) -> Result<Self> {
        let path = directory.join(NAME);
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(PRIVATE).open(&path);
        let file = opened.map_err(Error::io("open", &path))?;
        let mut pending = Self { path, file, length: 0, buffer: Vec::new() };
        match found.filter(|found| found.first == size) {
            Some(found) => {
                pending.length = found.entries.last().map_or(HEADER, |&(_, end)| end);
                pending.cut()?;
                pending.set_state(OPEN)?;
            }
            None => pending.begin(size)?,
        }
        Ok(pending)
    }

    /// Empties the file: the next entry has this index.
    pub(crate) fn begin(&mut self, index: u64) -> Result<()> {
        self.buffer.clear();
        self.length = 0;
        // In this order a kill between both leaves an empty file, never old records behind a new index.
        self.cut()?;
        let mut header = OPEN.to_vec();
        header.extend_from_slice(&index.to_be_bytes());
        self.file.write_all_at(&header, 0).map_err(Error::io("write", &self.path))?;
        self.length = HEADER;
        Ok(())
    }

    /// Adds an entry, in memory at first.
    pub(crate) fn push(&mut self, index: u64, entry: &[u8], leaf: &Hash) -> Result<()> {
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        bundle::push(&mut self.buffer, entry)?;
        self.buffer.extend_from_slice(&sum(index, leaf));
        Ok(())
    }

    /// Hands what is in memory to the system. If that fails, nothing of it is in the file.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.length < HEADER {
            return Err(Error::damaged(&self.path, "could not be begun after the last checkpoint"));
        }
        if let Err(error) = self.file.write_all_at(&self.buffer, self.length) {
            self.cut()?;
            return Err(Error::io("write", &self.path)(error));
        }
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Notes that the writer ends here.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.set_state(CLOSED)
    }

    fn set_state(&self, state: &[u8; 8]) -> Result<()> {
        self.file.write_all_at(state, 0).map_err(Error::io("write", &self.path))
    }

    fn cut(&self) -> Result<()> {
        self.file.set_len(self.length).map_err(Error::io("cut", &self.path))
    }
}
