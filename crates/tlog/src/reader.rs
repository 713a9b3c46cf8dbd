//! The reader: entries and hashes of a log, also while its writer goes on.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::bundle;
use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Error, Result};
use crate::hash::Hash;
use crate::log::CHECKPOINT;
use crate::note::Note;
use crate::pending;
use crate::tile::{self, Row, Tile, WIDTH};

/// Reads a log up to a checkpoint. It takes no lock and writes nothing.
///
/// Neither signatures nor hashes are checked by reading: see [`Checked`](crate::Checked), which is for logs that somebody
/// else has had in their hands, and [`verify`](crate::verify()).
#[derive(Clone, Debug)]
pub struct Reader {
    directory: PathBuf,
    note: Note,
    checkpoint: Checkpoint,
}

impl Reader {
    /// Reads the last checkpoint of the log in a directory.
    ///
    /// # Errors
    ///
    /// If there is none, or it is malformed.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(CHECKPOINT);
        let note = Note::parse(&disk::read_text(&path)?)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        Ok(Self { directory: directory.to_owned(), note, checkpoint })
    }

    /// Reads up to a checkpoint that nobody may have signed.
    pub(crate) fn of(directory: &Path, note: Note, checkpoint: Checkpoint) -> Self {
        Self { directory: directory.to_owned(), note, checkpoint }
    }

    /// Goes on to the newest checkpoint.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`]; the reader then stays where it was.
    pub fn refresh(&mut self) -> Result<()> {
        *self = Self::open(&self.directory)?;
        Ok(())
    }

    /// The log's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The checkpoint that is read up to.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The same with its signatures.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// One entry.
    ///
    /// # Errors
    ///
    /// If the checkpoint does not cover it, or its bundle is missing or damaged.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>> {
        if index >= self.checkpoint.size {
            return Err(Error::Beyond { index, size: self.checkpoint.size });
        }
        let mut entries = self.bundle_of(index)?;
        Ok(entries.swap_remove((index % WIDTH) as usize))
    }

    /// Entries with their indices, as far as the checkpoint covers them. After an error the iterator ends.
    pub fn entries(&self, range: Range<u64>) -> Entries<'_> {
        let end = range.end.min(self.checkpoint.size);
        Entries { reader: self, next: range.start, end, bundle: Vec::new().into_iter() }
    }

    /// Entries on disk that the checkpoint does not cover, with their indices. Nothing protects them yet.
    ///
    /// Where the writer has made a checkpoint since, the first index is beyond this reader's: refresh it.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn unsigned(&self) -> Result<Vec<(u64, Vec<u8>)>> {
        let found = pending::read(&self.directory)?.unwrap_or_default();
        Ok(found.from(self.checkpoint.size).map(|(index, entry)| (index, entry.to_vec())).collect())
    }

    /// Bytes of the file that holds an entry, and those beside it.
    ///
    /// # Errors
    ///
    /// If the checkpoint does not cover the entry, or the file is missing.
    pub fn bundle_bytes(&self, index: u64) -> Result<u64> {
        if index >= self.checkpoint.size {
            return Err(Error::Beyond { index, size: self.checkpoint.size });
        }
        let path = self.directory.join(self.bundle_tile(index).path());
        fs::metadata(&path).map(|data| data.len()).map_err(Error::io("read", &path))
    }

    /// The bundle of an entry that the checkpoint covers, as wide as it does.
    pub(crate) fn bundle_tile(&self, entry: u64) -> Tile {
        let index = entry / WIDTH;
        Tile { row: Row::Entries, index, width: WIDTH.min(self.checkpoint.size - index * WIDTH) }
    }

    /// The signed entries of the bundle of an entry.
    pub(crate) fn bundle_of(&self, entry: u64) -> Result<Vec<Vec<u8>>> {
        let tile = self.bundle_tile(entry);
        let width = tile.width;
        let read = self.read(tile);
        let (path, bytes) = read.map_err(|error| self.pruned(entry, error))?;
        let (entries, _) = bundle::split(&bytes, width)
            .ok_or_else(|| Error::damaged(&path, format!("does not hold {width} entries")))?;
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The error of a file that is not there: pruning may have removed it.
    pub(crate) fn pruned(&self, index: u64, error: Error) -> Error {
        match self.first() {
            Ok(first) if error.is_absent() && index < first => Error::Pruned { index, first },
            _ => error,
        }
    }

    /// The hashes of a tile, as many as the checkpoint covers.
    pub(crate) fn hashes(&self, level: u8, index: u64) -> Result<Vec<Hash>> {
        let width = WIDTH.min((self.checkpoint.size >> (8 * u32::from(level))) - index * WIDTH);
        let (path, bytes) = self.read(Tile { row: Row::Level(level), index, width })?;
        let mut hashes = tile::decode(&bytes).filter(|hashes| hashes.len() as u64 >= width);
        if let Some(hashes) = &mut hashes {
            hashes.truncate(width as usize);
        }
        hashes.ok_or_else(|| Error::damaged(&path, format!("does not hold {width} hashes")))
    }

    /// A tile or bundle of this width. A writer that has gone on replaced it by a wider one, which begins the same.
    pub(crate) fn read(&self, tile: Tile) -> Result<(PathBuf, Vec<u8>)> {
        let (name, most) = (tile.path(), tile.row.most_bytes());
        let path = self.directory.join(&name);
        let absent = match disk::read_below(&self.directory, &name, most) {
            Ok(bytes) => return Ok((path, bytes)),
            Err(error) if error.is_absent() && tile.width < WIDTH => error,
            Err(error) => return Err(error),
        };
        let full = Tile { width: WIDTH, ..tile }.path();
        // Between looking and reading the writer may go on once more.
        for _ in 0..8 {
            let wider = path.parent().and_then(|parent| widest(parent, tile.width));
            let wider = wider.map(|width| Tile { width, ..tile }.path());
            for candidate in wider.iter().chain([&full]) {
                let read = disk::read_below(&self.directory, candidate, most);
                if let Some(bytes) = disk::if_there(read)? {
                    return Ok((self.directory.join(candidate), bytes));
                }
            }
        }
        Err(absent)
    }
}

/// The widest partial tile in a directory, if it is wider than `width`.
fn widest(directory: &Path, width: u64) -> Option<u64> {
    let names = disk::list(directory).ok()??.flatten();
    let widths = names.filter_map(|name| name.file_name().to_str()?.parse::<u64>().ok());
    widths.filter(|&other| width < other && other < WIDTH).max()
}

/// Entries of a log, one after the other; see [`Reader::entries`].
#[derive(Debug)]
pub struct Entries<'r> {
    reader: &'r Reader,
    next: u64,
    end: u64,
    bundle: std::vec::IntoIter<Vec<u8>>,
}

impl Iterator for Entries<'_> {
    type Item = Result<(u64, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let entry = match self.bundle.next() {
            Some(entry) => entry,
            None => match self.reader.bundle_of(self.next) {
                Ok(entries) => {
                    self.bundle = entries.into_iter();
                    // A bundle that was read reaches beyond `next`: both end at the checkpoint.
                    self.bundle.nth((self.next % WIDTH) as usize)?
                }
                Err(error) => {
                    self.end = self.next;
                    return Some(Err(error));
                }
            },
        };
        self.next += 1;
        Some(Ok((self.next - 1, entry)))
    }
}
