//! Logs that were set aside: what cannot be gone on with stays as evidence, under another name.

use std::path::{Path, PathBuf};

/// What its name has besides, before the time of that.
const DAMAGED: &str = "damaged-";

/// Where a log goes that is set aside at a time, ns since 1970.
#[must_use]
pub fn aside(directory: &Path, time: u64) -> PathBuf {
    directory.with_extension(format!("{DAMAGED}{time}"))
}

/// The logs that were set aside of the one in a directory; the oldest first. Those that cannot be listed are not.
#[must_use]
pub fn set_aside(directory: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_stem()) else { return Vec::new() };
    let prefix = format!("{}.{DAMAGED}", name.to_string_lossy());
    let listed = parent.read_dir().into_iter().flatten().flatten();
    let mut all: Vec<(u64, PathBuf)> = listed
        .filter_map(|found| {
            let name = found.file_name();
            Some((name.to_str()?.strip_prefix(&prefix)?.parse().ok()?, found.path()))
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, path)| path).collect()
}
