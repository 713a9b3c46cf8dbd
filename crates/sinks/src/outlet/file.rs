//! Files of lines, rotated by size.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_export::{Exported, Format};
use rustix::fs::OFlags;

use super::{Failure, Outlet, Sent, all};

/// What is read at once to find the end of the last whole line.
const BLOCK: u64 = 64 << 10;

/// A file that is put aside at a size.
pub(crate) struct Rotated {
    path: PathBuf,
    rotate_bytes: u64,
    keep: u32,
    format: Format,
    file: File,
    size: u64,
}

impl Rotated {
    /// Opens it, and cuts off the beginning of a line that an agent which was killed has left.
    pub(crate) fn open(path: &Path, rotate_bytes: u64, keep: u32, format: Format) -> io::Result<Self> {
        let (file, size) = open(path)?;
        Ok(Self { path: path.to_owned(), rotate_bytes, keep, format, file, size })
    }

    /// `PATH` becomes `PATH.1`, and so on; the last one is replaced.
    fn rotate(&mut self) -> io::Result<()> {
        let aside = |number: u32| {
            let mut name = OsString::from(&self.path);
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.keep).rev() {
            if let Err(error) = fs::rename(aside(number), aside(number + 1))
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            fs::rename(&self.path, aside(1))?;
        }
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.size += lines.len() as u64,
            // A disk that fills up takes the beginning. What cannot be cut off now, the next opening cuts off.
            Err(_) => _ = self.file.set_len(self.size),
        }
        written
    }
}

impl Rotated {
    /// Writes records, and says how many of them are on the disk whatever comes.
    fn write(&mut self, records: &[Exported], written: &mut usize) -> io::Result<()> {
        let mut lines = Vec::new();
        for (at, exported) in records.iter().enumerate() {
            let mut line = exported.line(self.format);
            line.push(b'\n');
            let full = self.size + (lines.len() + line.len()) as u64 > self.rotate_bytes;
            if full && self.size + lines.len() as u64 != 0 {
                self.append(&lines)?;
                *written = at;
                self.rotate()?;
                lines.clear();
            }
            lines.append(&mut line);
        }
        self.append(&lines)
    }
}

impl Outlet for Rotated {
    fn send(&mut self, records: &[Exported]) -> Result<Sent, Failure> {
        // Whoever rotates it from outside, or removes it, gets the next lines in a new file.
        let is_there = fs::metadata(&self.path).is_ok_and(|found| is_same(&found, &self.file));
        if !is_there {
            (self.file, self.size) = open(&self.path)?;
        }
        let mut written = 0;
        match self.write(records, &mut written) {
            // What is on the disk is not written again: on one that is full, it would rotate others away.
            Err(_) if written != 0 => Ok(Sent { taken: written, refused: 0 }),
            done => Ok(done.map(|()| all(records))?),
        }
    }
}

fn is_same(found: &fs::Metadata, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (found.dev(), found.ino()))
}

/// A regular file, up to the end of its last whole line.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true).mode(0o640);
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    let mut file = options.open(path).map_err(|error| named(path, &error))?;
    if !file.metadata()?.is_file() {
        return Err(named(path, &io::Error::other("is no regular file")));
    }
    let size = whole_lines(&mut file)?;
    file.set_len(size)?;
    Ok((file, size))
}

/// Where the last line ends that has an end.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    while end != 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// An error with the path that it is about.
pub(crate) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
