//! Files of the configuration: regular ones, of a bounded length. A pipe or a device would be waited for without end.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::{SourceError, down};

/// The text of a file.
pub(crate) fn read(path: &Path, longest: u64) -> Result<String, SourceError> {
    let read = || -> io::Result<String> {
        let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("is no regular file"));
        }
        let mut text = String::new();
        file.take(longest + 1).read_to_string(&mut text)?;
        if text.len() as u64 > longest {
            return Err(io::Error::other(format!("is longer than {longest} bytes")));
        }
        Ok(text)
    };
    read().map_err(|error| down(&format!("{}: {error}", path.display())))
}
