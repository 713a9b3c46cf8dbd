//! Checkpoints to a directory, each a file that is written once.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bulkhead_tlog::{Checkpoint, Note};
use rustix::fs::OFlags;

use super::{Keeper, Last};
use crate::outlet::{Failure, named};

/// No checkpoint is longer.
const MOST: u64 = 1 << 20;

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
        match write(&self.path, &path, &last.note().to_string()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match read(&path) {
                Ok(text) if is_same(&text, last.note()) => Ok(()),
                Ok(_) => Err(named(&path, &io::Error::other("something else is there, and stays")).into()),
                Err(error) => Err(named(&path, &error).into()),
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

fn is_same(text: &str, note: &Note) -> bool {
    Note::parse(text).is_ok_and(|kept| kept.text() == note.text())
}

/// Nothing else than a regular file is waited for.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// Under its own name at once, so that a directory will do in which nothing can be renamed or removed. One that a kill
/// cuts short is the only one of its size and root, and the next is of another. A directory that is missing stays so:
/// it may be one of a file system that is not mounted.
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).custom_flags(flags()).open(path)?;
    file.write_all(text.as_bytes())?;
    // Whoever verifies need not be root.
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

fn read(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(flags()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}
