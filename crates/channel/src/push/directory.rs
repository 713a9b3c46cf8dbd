//! What of a fleet directory hosts may ask for: of TUF's metadata each root and the last two of the others, of targets
//! those that these name, and the lists of notes that people have signed for hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bulkhead_fleet::below;
use serde::Deserialize;

use super::make::read;
use crate::delta::LONGEST;
use crate::error::{Error, Result};
use crate::head::is_digest;

/// How many versions of snapshot and targets metadata there are: a host may be in the midst of reading the one before.
const VERSIONS: usize = 2;

/// From how many earlier versions of a target there are differences.
const DIFFERENCES: usize = 8;

/// The repositories of a fleet directory.
const REPOSITORIES: [&str; 2] = ["policy", "inventory"];

/// A target, with the digests of its newest version and of earlier ones, the latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lineage {
    /// Where they are, below the fleet directory.
    pub(super) files: String,
    pub(super) newest: String,
    pub(super) earlier: Vec<String>,
}

/// What is to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Paths below the directory; whether every host reads it after each change.
    pub(super) files: BTreeMap<String, bool>,
    pub(super) lineages: Vec<Lineage>,
}

/// The part of targets metadata that is needed to find files.
#[derive(Deserialize)]
struct Metadata {
    signed: Signed,
}

#[derive(Deserialize)]
struct Signed {
    targets: BTreeMap<String, Target>,
}

#[derive(Deserialize)]
struct Target {
    hashes: Hashes,
}

#[derive(Deserialize)]
struct Hashes {
    sha256: String,
}

/// Names in a directory; none if there is no such directory.
fn names(path: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::file(path, error);
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let names = entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<Result<_>>()?;
    // Of a publisher that works there.
    Ok(names.into_iter().filter(|name| !name.starts_with('.')).collect())
}

/// The number and role of `3.targets.json`.
fn versioned(name: &str) -> Option<(u64, &str)> {
    let (number, rest) = name.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// Lists what is to be had of a fleet directory.
///
/// # Errors
/// There is no repository in it, or a file cannot be read.
pub(super) fn list(directory: &Path) -> Result<Listed> {
    let mut listed = Listed::default();
    for repository in REPOSITORIES {
        list_repository(directory, repository, &mut listed)?;
    }
    if listed.files.is_empty() {
        return Err(Error::Settings(format!(
            "{} is no fleet directory: `bulkhead fleet init` makes one",
            directory.display()
        )));
    }
    list_notes(directory, &mut listed)?;
    Ok(listed)
}

/// What says which list of notes is the newest.
#[derive(Deserialize)]
struct Index {
    list: String,
    #[serde(default)]
    earlier: Vec<String>,
}

/// Lists the newest list of notes and the one before, with ways to it from earlier ones: however many notes there are, a
/// head has these alone.
fn list_notes(directory: &Path, listed: &mut Listed) -> Result<()> {
    let path = directory.join("notes/index.json");
    let bytes = match below(directory, "notes/index.json", LONGEST) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        bytes => bytes.map_err(|error| Error::file(&path, error))?,
    };
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Content(format!("{}: {error}", path.display())))?;
    listed.files.insert("notes/index.json".to_owned(), true);
    let file = |sum: &String| format!("{sum}.list");
    let is_there = |sum: &&String| is_digest(sum) && directory.join("notes").join(file(sum)).is_file();
    let lists: Vec<String> = std::iter::once(&index.list)
        .chain(&index.earlier)
        .filter(is_there)
        .take(DIFFERENCES + 1)
        .map(file)
        .collect();
    for name in lists.iter().take(VERSIONS) {
        listed.files.insert(format!("notes/{name}"), false);
    }
    let Some((newest, earlier)) = lists.split_first().filter(|(newest, _)| **newest == file(&index.list))
    else {
        return Err(Error::Content(format!("{}: the list that it names is not there", path.display())));
    };
    let (newest, earlier) = (newest.clone(), earlier.to_vec());
    listed.lineages.push(Lineage { files: "notes".to_owned(), newest, earlier });
    Ok(())
}

fn list_repository(directory: &Path, repository: &'static str, listed: &mut Listed) -> Result<()> {
    let metadata = directory.join(repository).join("metadata");
    let mut roles: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for name in names(&metadata)? {
        match versioned(&name) {
            Some((number, role)) => _ = roles.entry(role.to_owned()).or_default().insert(number),
            None if name.ends_with(".json") => {
                _ = listed.files.insert(format!("{repository}/metadata/{name}"), true);
            }
            None => {}
        }
    }
    for (role, numbers) in &roles {
        let kept = if role == "root.json" { usize::MAX } else { VERSIONS };
        for (back, number) in numbers.iter().rev().enumerate().take(kept) {
            listed.files.insert(format!("{repository}/metadata/{number}.{role}"), back == 0);
        }
    }
    let there: BTreeSet<String> = names(&directory.join(repository).join("targets"))?.into_iter().collect();
    let mut lineages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let versions = roles.get("targets.json").into_iter().flatten().rev();
    for (back, number) in versions.enumerate().take(DIFFERENCES + 1) {
        let path = format!("{repository}/metadata/{number}.targets.json");
        let read: Metadata = serde_json::from_slice(&read(directory, &path)?)
            .map_err(|error| Error::Content(format!("{}: {error}", directory.join(&path).display())))?;
        for (name, target) in read.signed.targets {
            let digest = target.hashes.sha256;
            let file = format!("{digest}.{name}");
            if !is_digest(&digest) || !there.contains(&file) {
                continue;
            }
            if back < VERSIONS {
                listed.files.insert(format!("{repository}/targets/{file}"), false);
            }
            let known = lineages.entry(name).or_default();
            // A target that is named no more has no way to it.
            if !known.contains(&file) && (back == 0 || !known.is_empty()) {
                known.push(file);
            }
        }
    }
    let lineages = lineages.into_values().filter_map(|files| {
        let (newest, earlier) = files.split_first()?;
        let below = format!("{repository}/targets");
        Some(Lineage { files: below, newest: newest.clone(), earlier: earlier.to_vec() })
    });
    listed.lineages.extend(lineages);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::list;

    fn targets(directory: &Path, number: u32, digest: &str) {
        let text = format!(
            r#"{{"signed":{{"targets":{{"p.hujson":{{"hashes":{{"sha256":"{digest}"}},"length":1}}}}}}}}"#
        );
        fs::write(directory.join(format!("policy/metadata/{number}.targets.json")), text).unwrap();
        fs::write(directory.join(format!("policy/targets/{digest}.p.hujson")), digest).unwrap();
    }

    /// What stands for a digest.
    fn of(number: u32) -> String {
        format!("{number:064}")
    }

    /// Whoever can write in the directory, and has no key, has nobody publish one.
    #[test]
    fn what_is_linked_to_is_not_handed_on() {
        let (directory, secret) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = directory.path();
        for below in ["policy/metadata", "policy/targets"] {
            fs::create_dir_all(path.join(below)).unwrap();
        }
        targets(path, 1, &of(1));
        fs::write(secret.path().join("operator.nk"), "SO").unwrap();
        let made = || crate::push::make::make(path, &crate::head::Head::default());
        assert_eq!(made().unwrap().head.files.len(), 2);
        let refused = || {
            let error = made().unwrap_err().to_string();
            assert!(error.contains("it is a link, or behind one"), "{error}");
        };
        for link in
            ["policy/metadata/x.json", "policy/metadata/2.snapshot.json", "policy/metadata/2.targets.json"]
        {
            std::os::unix::fs::symlink(secret.path().join("operator.nk"), path.join(link)).unwrap();
            refused();
            fs::remove_file(path.join(link)).unwrap();
        }
        std::os::unix::fs::symlink(secret.path(), path.join("notes")).unwrap();
        refused();
    }

    #[test]
    fn what_hosts_may_ask_for_is_listed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(list(path).unwrap_err().to_string().contains("fleet init"));
        for below in ["policy/metadata", "policy/targets", "notes"] {
            fs::create_dir_all(path.join(below)).unwrap();
        }
        for number in 1..=12 {
            targets(path, number, &of(number));
            fs::write(path.join(format!("policy/metadata/{number}.snapshot.json")), "{}").unwrap();
        }
        for name in ["1.root.json", "2.root.json", "timestamp.json", ".unfinished"] {
            fs::write(path.join("policy/metadata").join(name), "{}").unwrap();
        }
        fs::write(path.join("notes/one.note"), "n").unwrap();
        for number in 20..=24 {
            fs::write(path.join(format!("notes/{}.list", of(number))), "[]").unwrap();
        }
        let index = format!(r#"{{"list":"{}","length":2,"earlier":["{}","{}"]}}"#, of(24), of(23), of(22));
        fs::write(path.join("notes/index.json"), index).unwrap();
        let listed = list(path).unwrap();
        let files: Vec<&str> = listed.files.keys().map(String::as_str).collect();
        assert_eq!(
            files,
            [
                &format!("notes/{}.list", of(23)),
                &format!("notes/{}.list", of(24)),
                "notes/index.json",
                "policy/metadata/1.root.json",
                "policy/metadata/11.snapshot.json",
                "policy/metadata/11.targets.json",
                "policy/metadata/12.snapshot.json",
                "policy/metadata/12.targets.json",
                "policy/metadata/2.root.json",
                "policy/metadata/timestamp.json",
                &format!("policy/targets/{}.p.hujson", of(11)),
                &format!("policy/targets/{}.p.hujson", of(12)),
            ]
        );
        assert_eq!(listed.lineages.len(), 2);
        assert_eq!(listed.lineages[1].earlier, [format!("{}.list", of(23)), format!("{}.list", of(22))]);
        assert!(listed.lineages[0].newest.starts_with(&of(12)));
        assert_eq!(listed.lineages[0].earlier.len(), 8);
        assert!(listed.lineages[0].earlier[0].starts_with(&of(11)));
    }
}
