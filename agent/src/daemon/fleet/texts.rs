//! Texts of bundles that were verified: kept, so that one of two can be changed without asking for the other again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bulkhead_fleet::{Repository, digest};

/// The directory of a state directory that has all of the fleet.
pub(super) const DIRECTORY: &str = "fleet-trust";

fn path(state: &Path, repository: Repository, sum: &str) -> PathBuf {
    state.join(DIRECTORY).join(repository.name()).join(format!("{sum}.{}", repository.target()))
}

/// A text that was kept, if it still is what was signed.
pub(super) fn get(state: &Path, repository: Repository, sum: &str) -> Option<String> {
    let text = fs::read_to_string(path(state, repository, sum)).ok()?;
    (digest(text.as_bytes()) == sum).then_some(text)
}

/// The directory of the last list of notes.
fn lists(state: &Path) -> PathBuf {
    state.join(DIRECTORY).join("notes")
}

/// The list of notes that came last, if it is that one.
pub(super) fn get_list(state: &Path, sum: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(lists(state).join(format!("{sum}.list"))).ok()?;
    (digest(&bytes) == sum).then_some(bytes)
}

/// Keeps a list of notes, and forgets others: the next is fetched as a difference. It is nothing that a host needs.
pub(super) fn keep_list(state: &Path, sum: &str, bytes: &[u8]) {
    let directory = lists(state);
    let name = format!("{sum}.list");
    let kept = fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join(&name), bytes));
    if let Err(error) = kept {
        tracing::debug!("{}: {error}", directory.display());
    }
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        if *entry.file_name() != *name {
            // What stays is forgotten next time.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether any text was ever kept: the fleet had something for this host.
pub(super) fn any(state: &Path) -> bool {
    Repository::ALL.into_iter().any(|of| {
        let entries = fs::read_dir(state.join(DIRECTORY).join(of.name())).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().ends_with(of.target()))
    })
}

/// Keeps one, and forgets others than those that are named.
pub(super) fn keep(
    state: &Path,
    repository: Repository,
    sum: &str,
    text: &str,
    others: &[&str],
) -> anyhow::Result<()> {
    let path = path(state, repository, sum);
    let directory = path.parent().context("a path below the state directory")?;
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        let new = path.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, &path)
    };
    write().with_context(|| format!("{}: writing", path.display()))?;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_bundle = name.ends_with(repository.target());
        let is_kept = name.starts_with(sum) || others.iter().any(|other| name.starts_with(other));
        if is_bundle && !is_kept {
            // What stays is forgotten next time.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bulkhead_fleet::{Repository, digest};

    use super::{get, keep};

    #[test]
    fn a_text_that_was_changed_is_none() {
        let state = tempfile::tempdir().unwrap();
        let sums: Vec<String> = ["one", "two", "three"].iter().map(|text| digest(text.as_bytes())).collect();
        let put = |which: usize, text: &str, others: &[&str]| {
            keep(state.path(), Repository::Policy, &sums[which], text, others).unwrap();
        };
        let has = |which: usize| get(state.path(), Repository::Policy, &sums[which]).is_some();
        put(0, "one", &[]);
        put(1, "two", &[&sums[0]]);
        assert!(has(0) && has(1) && !has(2));
        put(2, "three", &[&sums[1]]);
        assert!(!has(0) && has(1) && has(2));
        put(1, "other", &[]);
        assert!(!has(1));
    }
}
