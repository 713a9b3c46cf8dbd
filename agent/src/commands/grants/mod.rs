//! `bulkhead request`, `approve`, `sign`, `grant`, `grants` and `revoke`: access that ends, and policies by two.

#[cfg(feature = "agent")]
mod hand_in;
pub(super) mod key;
mod request;
mod sign;

#[cfg(feature = "agent")]
pub use hand_in::{GrantCommand, Grants, Revoke, ask, line};
pub use request::Request;
#[cfg(feature = "agent")]
pub(super) use sign::agrees;
pub use sign::{Approve, Sign};

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use bulkhead_grants::{MAX_BYTES, Note};

use crate::exit::Usage;

/// Reads a note's file. More than a note has is not read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Usage> {
    let failed = |error: std::io::Error| Usage(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Note, Usage> {
    Note::parse(bytes).map_err(|error| Usage(format!("{}: {error}", path.display())))
}

/// Replaces a note's file whole, so that nobody finds half of it.
pub(super) fn write(path: &Path, note: &Note) -> Result<(), Usage> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = || {
        // Nobody's file, and no link of somebody else's.
        let mut file = OpenOptions::new().write(true).create_new(true).open(&new)?;
        file.write_all(note.to_string().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    written().map_err(|error| Usage(format!("{}: {error}", path.display())))
}

/// Who runs this, unless they say another name.
pub(super) fn own_name(given: Option<&String>) -> Result<String, Usage> {
    let name = given
        .cloned()
        .or_else(|| ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()));
    let name = name.ok_or_else(|| Usage("who you are is not known: name yourself with --as".to_owned()))?;
    bulkhead_grants::check_name(&name).map_err(|error| Usage(format!("--as: {error}")))?;
    Ok(name)
}
