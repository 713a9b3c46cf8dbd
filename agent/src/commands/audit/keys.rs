//! Keys and checkpoints that the caller has from elsewhere.

use std::path::Path;

use anyhow::Context as _;
use bulkhead_tlog::{Note, VerifierKey};

use crate::exit::Usage;

/// A key, or a file that has one.
///
/// # Errors
/// [`Usage`] if it is neither.
pub fn key(text: &str) -> anyhow::Result<VerifierKey> {
    let own = VerifierKey::parse(text);
    if let Ok(key) = own {
        return Ok(key);
    }
    let file = std::fs::read_to_string(text);
    let key = file.ok().and_then(|text| VerifierKey::parse(text.trim_end()).ok());
    let words =
        || Usage(format!("'{text}' is neither a verifier key nor a file with one, such as the log's vkey"));
    Ok(key.ok_or_else(words)?)
}

/// A checkpoint that was kept elsewhere.
///
/// # Errors
/// [`Usage`] if it is none.
pub fn anchor(path: &Path) -> anyhow::Result<Note> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    Note::parse(&text).with_context(|| format!("{}: no checkpoint", path.display()))
}
