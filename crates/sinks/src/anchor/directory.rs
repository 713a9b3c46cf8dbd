//! Checkpoints to a directory, each a file that is written once.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_tlog::{Checkpoint, Note};

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
        let log = last.reader.directory();
        // What is not there has its own words below.
        if let (Ok(here), Ok(log)) = (self.path.canonicalize(), log.canonicalize())
            && here.starts_with(log)
        {
            let words = "lies in the log itself, and is rewritten with it; name one of another file system";
            return Err(named(&self.path, &io::Error::other(words)).into());
        }
        let path = self.path.join(file_name(last.checkpoint()));
        match write(&self.path, &path, &last.note().to_string()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match Note::read(&path) {
                Ok(kept) if kept.text() == last.note().text() => Ok(()),
                Ok(_) => Err(named(&path, &io::Error::other("something else is there, and stays")).into()),
                Err(error) => Err(io::Error::other(error).into()),
            },
            written => Ok(written.map_err(|error| named(&path, &error))?),
        }
    }
}

/// `bulkhead_engine-1-000000012345-0a1b2c3d.checkpoint`: hosts may share a directory, and a log that begins anew has
/// other roots.
fn file_name(checkpoint: &Checkpoint) -> String {
    let fit = |of: char| if of.is_ascii_alphanumeric() || matches!(of, '.' | '-') { of } else { '_' };
    let origin: String = checkpoint.origin.chars().map(fit).collect();
    let root: String = checkpoint.root.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{origin}-{:012}-{root}.checkpoint", checkpoint.size)
}

/// Under its own name at once, so that a directory will do in which nothing can be renamed or removed. One that a kill
/// cuts short is the only one of its size and root, and the next is of another. A directory that is missing stays so:
/// it may be one of a file system that is not mounted.
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    // Whoever verifies need not be root.
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}
