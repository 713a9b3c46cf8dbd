//! What a machine remembers of the fleets that people sign and services publish on it. Whoever can write in a fleet directory
//! can put back an older state, all of it signed, or begin another fleet in its place. Hosts know better; so do those who
//! sign, by a file of their own for each fleet.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::draft::{Body, Draft};
use crate::error::{Error, Result};
use crate::files::whole;
use crate::repository::Repository;
use crate::tree::{Identity, Position, Tree, Versions};
use crate::trusted::{NEW, replace_as};

/// No file of it is longer, in bytes.
const LONGEST: u64 = 1 << 20;

/// Places of a fleet that are remembered at most: scripts have new ones each time.
const PLACES: usize = 64;

/// A directory with a file for each fleet.
#[derive(Clone, Debug)]
pub struct Memory(PathBuf);

/// What is known of a fleet directory.
#[derive(Clone, Debug)]
pub struct Known {
    /// Which fleet it has.
    pub identity: Identity,
    /// Whether it was never seen here before.
    pub is_new: bool,
    /// The fleet that its directory had when it was looked at last, if that was another; as its fingerprint.
    pub was: Option<String>,
    /// Why nobody should go on with it: something is older than what was seen, or another. None: nothing is.
    pub refused: Option<String>,
    record: Record,
}

/// The file of one fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The identifier of the fleet.
    fleet: String,
    /// For whoever reads the file.
    fingerprint: Option<String>,
    /// SHA-256 of what is signed of the first roots, hexadecimal.
    policy_root: Option<String>,
    inventory_root: Option<String>,
    /// Where it was seen, the latest last.
    directories: Vec<PathBuf>,
    policy: Seen,
    inventory: Seen,
}

/// The newest that was seen of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// None: no root was published.
    root: Option<One>,
    /// None: nothing was published.
    targets: Option<One>,
    snapshot: Option<u64>,
    timestamp: Option<u64>,
    /// Whose keys freshened: with other ones snapshots and timestamps are counted anew.
    online: Vec<String>,
}

/// A version, and the SHA-256 of what is signed of it, hexadecimal: two of the same version are a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    version: u64,
    sha256: String,
}

impl Seen {
    /// Why a repository is not one that goes on from what was seen.
    fn refuses(&self, repository: Repository, now: &Position) -> Option<String> {
        let older = |what: &str, now: Option<u64>, seen: u64| {
            let now = now.map_or_else(|| format!("has no {what}"), |now| format!("has {what} {now}"));
            format!("{repository} {now}, and {what} {seen} was seen on this machine before")
        };
        let other = |what: &str, version: u64| {
            format!(
                "{repository} has another {what} {version} than the one that was seen on this machine before"
            )
        };
        let newest = now.roots.len() as u64;
        if let Some(root) = &self.root {
            let index = usize::try_from(root.version.saturating_sub(1)).unwrap_or(usize::MAX);
            match now.roots.get(index) {
                None => return Some(older("root", (newest > 0).then_some(newest), root.version)),
                Some((sha256, _)) if *sha256 != root.sha256 => return Some(other("root", root.version)),
                Some(_) => {}
            }
        }
        let published = now.published.as_ref();
        if let Some(targets) = &self.targets {
            match published {
                Some(now) if now.targets > targets.version => {}
                Some(now) if now.targets == targets.version => {
                    if now.targets_sha256 != targets.sha256 {
                        return Some(other("version", targets.version));
                    }
                }
                now => return Some(older("version", now.map(|now| now.targets), targets.version)),
            }
        }
        let published = published.filter(|now| now.online == self.online)?;
        [("snapshot", self.snapshot, published.snapshot), ("timestamp", self.timestamp, published.timestamp)]
            .into_iter()
            .find_map(|(what, seen, now)| {
                seen.filter(|seen| now < *seen).map(|seen| older(what, Some(now), seen))
            })
    }

    fn of(now: &Position) -> Self {
        let root = now
            .roots
            .last()
            .map(|(sha256, _)| One { version: now.roots.len() as u64, sha256: sha256.clone() });
        let Some(Versions { targets, targets_sha256, snapshot, timestamp, online }) = now.published.clone()
        else {
            return Self { root, ..Self::default() };
        };
        let targets = Some(One { version: targets, sha256: targets_sha256 });
        Self { root, targets, snapshot: Some(snapshot), timestamp: Some(timestamp), online }
    }
}

impl Record {
    fn first(&self) -> [&Option<String>; 2] {
        [&self.policy_root, &self.inventory_root]
    }

    fn seen(&self, repository: Repository) -> &Seen {
        match repository {
            Repository::Policy => &self.policy,
            Repository::Inventory => &self.inventory,
        }
    }

    /// Why a directory is not one that goes on from what was seen. Of what cannot be read nothing is said: nobody goes on
    /// with that repository.
    fn refuses(&self, identity: &Identity, positions: &[Option<Position>; 2]) -> Option<String> {
        for (index, repository) in Repository::ALL.into_iter().enumerate() {
            let (seen, now) = (self.first()[index], &identity.first[index]);
            if seen.is_some() && seen != now && !identity.is_unread[index] {
                return Some(match now {
                    Some(_) => format!(
                        "{repository} begins with another root than the one that was seen on this machine before: it is \
                         another fleet under the same identifier"
                    ),
                    None => format!("{repository} has no root any more"),
                });
            }
            let position = positions[index].as_ref();
            if let Some(words) = position.and_then(|now| self.seen(repository).refuses(repository, now)) {
                return Some(words);
            }
        }
        None
    }

    /// Keeps what there is now.
    fn keep(&mut self, identity: &Identity, [policy, inventory]: [Option<Position>; 2]) {
        self.fleet.clone_from(&identity.id);
        let [policy_root, inventory_root] = identity.first.clone();
        self.policy_root = policy_root.or(self.policy_root.take());
        self.inventory_root = inventory_root.or(self.inventory_root.take());
        self.fingerprint = identity.fingerprint().or(self.fingerprint.take());
        self.policy = policy.as_ref().map_or_else(|| self.policy.clone(), Seen::of);
        self.inventory = inventory.as_ref().map_or_else(|| self.inventory.clone(), Seen::of);
    }
}

impl Known {
    /// Why a draft is not one to sign: whoever wrote it has counted on from something older than what was seen here.
    #[must_use]
    pub fn refuses(&self, draft: &Draft) -> Option<String> {
        let seen = self.record.seen(draft.repository);
        let seen = match &draft.body {
            Body::Root(_) => &seen.root,
            Body::Targets(_) => &seen.targets,
        };
        let seen = seen.as_ref().filter(|seen| seen.version >= draft.version())?;
        Some(format!(
            "{} is drafted, and version {} was seen on this machine before",
            draft.name(),
            seen.version
        ))
    }
}

impl Memory {
    /// In a directory, which is made once there is something to remember.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of a fleet: removing it forgets the fleet.
    #[must_use]
    pub fn file(&self, identity: &Identity) -> PathBuf {
        self.0.join(format!("{}.json", identity.id))
    }

    /// Compares a fleet directory with what was seen of it, and remembers nothing. None: it has no fleet.
    ///
    /// # Errors
    /// If its files, or what is remembered, cannot be read.
    pub fn look(&self, tree: &Tree) -> Result<Option<Known>> {
        let Some(identity) = tree.identity()? else { return Ok(None) };
        let positions = Repository::ALL.map(|repository| tree.position(repository).ok());
        let places = places(tree)?;
        let known = self.read(&self.file(&identity))?;
        let next = |file: &Path| {
            format!(
                "somebody has put it back, or this copy is not up to date: bring it up to date, or ask the others who sign. \
                 If it is meant, remove {} to forget what was seen",
                file.display()
            )
        };
        let other = self.elsewhere(&places, &identity.id);
        let named = |other: &Record| other.fingerprint.clone().unwrap_or_else(|| other.fleet.clone());
        let found = match (&known, &other) {
            (Some(record), _) => {
                record.refuses(&identity, &positions).map(|words| (words, self.file(&identity)))
            }
            // One that is known may be put anywhere.
            (None, Some((file, other))) => {
                let words = format!(
                    "it has a fleet that was never seen on this machine, {}, and had {} when it was seen before",
                    identity.fingerprint().unwrap_or_default(),
                    named(other)
                );
                Some((words, file.clone()))
            }
            (None, None) => None,
        };
        let refused =
            found.map(|(words, file)| format!("{}: {words}; {}", tree.path().display(), next(&file)));
        let (is_new, was) = (known.is_none(), other.as_ref().map(|(_, other)| named(other)));
        let mut record = known.unwrap_or_default();
        if refused.is_none() {
            record.keep(&identity, positions);
            record.directories.retain(|known| !places.contains(known));
            record.directories.extend(places);
            let many = record.directories.len().saturating_sub(PLACES);
            record.directories.drain(..many);
        }
        Ok(Some(Known { identity, is_new, was, refused, record }))
    }

    /// The same, and remembers what there is unless it is refused. One at a time, so that nothing of what others have seen
    /// is lost.
    ///
    /// # Errors
    /// As [`Self::look`], and if it cannot be remembered.
    pub fn remember(&self, tree: &Tree) -> Result<Option<Known>> {
        if tree.identity()?.is_none() {
            return Ok(None);
        }
        let _alone = self.alone().map_err(Error::file(&self.0))?;
        let Some(known) = self.look(tree)? else { return Ok(None) };
        if known.refused.is_none() {
            self.forget_place(tree, &known.identity.id)?;
            self.write(&known.record)?;
        }
        Ok(Some(known))
    }

    /// The same for one who has just begun a fleet there, whatever was there before.
    ///
    /// # Errors
    /// As [`Self::remember`].
    pub fn begin(&self, tree: &Tree) -> Result<Option<Known>> {
        {
            let _alone = self.alone().map_err(Error::file(&self.0))?;
            self.forget_place(tree, "")?;
        }
        self.remember(tree)
    }

    /// Has no other fleet than this one at a place any more.
    fn forget_place(&self, tree: &Tree, id: &str) -> Result<()> {
        let places = places(tree)?;
        while let Some((_, mut other)) = self.elsewhere(&places, id) {
            other.directories.retain(|known| !places.contains(known));
            self.write(&other)?;
        }
        Ok(())
    }

    fn alone(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let directory = File::open(&self.0)?;
        directory.lock()?;
        // What a killed process has left; nobody else writes now.
        for entry in fs::read_dir(&self.0)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(NEW) {
                // What stays is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(directory)
    }

    fn write(&self, record: &Record) -> Result<()> {
        let path = self.0.join(format!("{}.json", record.fleet));
        if self.read(&path).is_ok_and(|known| known.as_ref() == Some(record)) {
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(record).map_err(io::Error::other);
        bytes.and_then(|bytes| replace_as(&path, &bytes, 0o600)).map_err(Error::file(&path))
    }

    fn read(&self, path: &Path) -> Result<Option<Record>> {
        let bytes = match whole(path, LONGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file(path)(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::Asked(format!(
                "{}: what was seen of this fleet is damaged, or of a newer Bulkhead ({error}); put it back, or compare the \
                 fleet's fingerprint with the others who sign, and remove the file",
                path.display()
            ))
        })
    }

    /// Another fleet than this one that was seen at a place the last time. What cannot be read is another fleet's, and is told of there.
    fn elsewhere(&self, places: &[PathBuf], id: &str) -> Option<(PathBuf, Record)> {
        let files = fs::read_dir(&self.0).ok()?.flatten().map(|entry| entry.path());
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.filter_map(|path| Some((path.clone(), self.read(&path).ok()??))).find(|(_, record)| {
            record.fleet != id && record.directories.iter().any(|known| places.contains(known))
        })
    }
}

/// Where a fleet directory is: as it was named, from the root on, and without links. A link in its place is that place too.
fn places(tree: &Tree) -> Result<Vec<PathBuf>> {
    let failed = || Error::file(tree.path());
    let named = std::path::absolute(tree.path()).map_err(failed())?;
    let real = fs::canonicalize(tree.path()).map_err(failed())?;
    Ok(if named == real { vec![real] } else { vec![named, real] })
}
