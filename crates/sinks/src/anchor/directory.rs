//! Checkpoints to a directory, each a file that is written once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_tlog::{Checkpoint, Note};
use rustix::fs::OFlags;

use super::{Keeper, Last};
use crate::outlet::{Failure, named};

/// A directory.
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

impl Keeper for Directory {
    fn give(&mut self, last: &Last) -> Result<(), Failure> {
        let path = self.path.join(file_name(last.checkpoint()));
        match fs::read_to_string(&path) {
            Ok(text) if is_same(&text, last.note()) => return Ok(()),
            Ok(_) => {
                let error = io::Error::other("another checkpoint of as many records is there, and stays");
                return Err(named(&path, &error).into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(named(&path, &error).into()),
        }
        Ok(write(&self.path, &path, &last.note().to_string())?)
    }
}

/// `bulkhead_engine-1-000000012345.checkpoint`: hosts may share a directory.
fn file_name(checkpoint: &Checkpoint) -> String {
    let fit = |of: char| if of.is_ascii_alphanumeric() || matches!(of, '.' | '-') { of } else { '_' };
    let origin: String = checkpoint.origin.chars().map(fit).collect();
    format!("{origin}-{:012}.checkpoint", checkpoint.size)
}

fn is_same(text: &str, note: &Note) -> bool {
    Note::parse(text).is_ok_and(|kept| kept.text() == note.text())
}

/// It is whole before it has its name. A directory that is missing stays so: it may be one of a file system that is
/// not mounted.
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let written = || {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o444);
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
        // One that a killed agent has left cannot be written to: its mode forbids it.
        drop(fs::remove_file(&new));
        let mut file = options.open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(directory)?.sync_all()
    };
    written().map_err(|error| named(path, &error))
}
