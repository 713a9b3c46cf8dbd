//! What waits for signatures: files below `drafts`, each signature a file of its own. Whoever signs apart puts theirs
//! beside the others', by whatever carries files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_grants::PublicKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tough::schema::{RoleType, Root, Signature, Signed, Targets};

use crate::error::{Error, Result};
use crate::files::whole;
use crate::keys::{Holder, KeyId, canonical, hex, unhex};
use crate::repository::Repository;
use crate::roles::{holders, ids};
use crate::stamp::Stamp;
use crate::trusted::replace;

/// What is to be signed.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Root(Box<Root>),
    Targets(Box<Targets>),
}

impl Body {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Root(_) => "root",
            Self::Targets(_) => "targets",
        }
    }

    fn version(&self) -> u64 {
        match self {
            Self::Root(root) => root.version.get(),
            Self::Targets(targets) => targets.version.get(),
        }
    }

    /// The bytes that are signed.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Root(root) => canonical(root),
            Self::Targets(targets) => canonical(targets),
        }
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Of which repository.
    pub repository: Repository,
    pub(crate) body: Body,
    directory: PathBuf,
    /// Whose signatures count: how many of whom. A root needs enough of those of the root before, too.
    needs: Vec<Need>,
    /// Of a root: the one before.
    before: Option<Box<Root>>,
}

#[derive(Clone, Debug)]
struct Need {
    what: &'static str,
    holders: Vec<Holder>,
    threshold: u64,
}

impl Need {
    fn of(what: &'static str, root: &Root, role: RoleType) -> Self {
        let threshold = root.roles.get(&role).map_or(u64::MAX, |role| role.threshold.get());
        debug_assert!(ids(root, role).len() as u64 >= threshold);
        Self { what, holders: holders(root, role), threshold }
    }
}

/// How many of whom sign for a role, for people.
fn who(root: &Root, role: RoleType) -> String {
    let threshold = root.roles.get(&role).map_or(0, |role| role.threshold.get());
    let holders = holders(root, role);
    let names: Vec<_> = holders.iter().map(|of| format!("{} {}", of.name, of.key.fingerprint())).collect();
    format!("{threshold} of {}", names.join(", "))
}

/// No signature's file is longer, in bytes.
const SIGNATURE: u64 = 64 << 10;

/// A signature's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    key: String,
    signature: String,
}

impl Draft {
    pub(crate) fn new(
        repository: Repository,
        body: Body,
        directory: &Path,
        before: Option<&Root>,
        root: &Root,
    ) -> Self {
        let mut needs = Vec::new();
        match &body {
            Body::Root(new) => {
                needs.extend(before.map(|before| Need::of("of the root before", before, RoleType::Root)));
                needs.push(Need::of("of this root", new, RoleType::Root));
            }
            Body::Targets(_) => needs.push(Need::of("", root, RoleType::Targets)),
        }
        let before = before.cloned().map(Box::new);
        Self { repository, body, directory: directory.to_owned(), needs, before }
    }

    /// What it is called: `policy version 3`, `root 2 of inventory`.
    #[must_use]
    pub fn name(&self) -> String {
        let (repository, version) = (self.repository, self.body.version());
        match self.body {
            Body::Root(_) => format!("root {version} of {repository}"),
            Body::Targets(_) => format!("{repository} version {version}"),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.body.version()
    }

    /// What is signed, for people: lines. Of a root, what was otherwise before is beside it.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.name()];
        let extra = match &self.body {
            Body::Root(root) => &root._extra,
            Body::Targets(targets) => &targets._extra,
        };
        // The same people may sign for another fleet, and a name says nothing of which one a directory is.
        lines.extend(Stamp::of(extra).map(|stamp| format!("  x-bulkhead-fleet {}", stamp.fleet)));
        match &self.body {
            Body::Root(root) => {
                for (role, what) in [
                    (RoleType::Root, "roots"),
                    (RoleType::Targets, self.repository.target()),
                    // And snapshots: no draft is read where another signs them.
                    (RoleType::Timestamp, "freshness"),
                ] {
                    let (now, before) = (who(root, role), self.before.as_ref().map(|root| who(root, role)));
                    lines.push(format!("  {what}: {now}"));
                    lines.extend(before.filter(|before| *before != now).map(|was| format!("    was {was}")));
                }
                lines.push(format!("  good until {}", root.expires));
            }
            Body::Targets(targets) => {
                for (name, target) in &targets.targets {
                    let digest = hex(&target.hashes.sha256);
                    lines.push(format!("  {}: {} bytes, SHA-256 {digest}", name.raw(), target.length));
                }
                lines.push(format!("  good until {}", targets.expires));
            }
        }
        lines
    }

    /// The SHA-256 of the bundle that it names, hexadecimal; none: it is a root.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        let Body::Targets(targets) = &self.body else { return None };
        let name = self.repository.target();
        let (_, target) = targets.targets.iter().find(|(known, _)| known.raw() == name)?;
        Some(hex(&target.hashes.sha256))
    }

    /// The bytes to sign.
    ///
    /// # Errors
    /// If it cannot be written as canonical JSON.
    pub fn message(&self) -> Result<Vec<u8>> {
        self.body.bytes()
    }

    /// Under which name a key may sign it.
    #[must_use]
    pub fn holder(&self, key: &PublicKey) -> Option<&Holder> {
        let mut holders = self.needs.iter().flat_map(|need| &need.holders);
        holders.find(|holder| holder.key.is_of_same_pair(key))
    }

    /// Who may sign it.
    #[must_use]
    pub fn may_sign(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.needs.iter().flat_map(|need| &need.holders).map(|holder| holder.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Who has signed it: each whose signature is good, once.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn signed(&self) -> Result<Vec<String>> {
        Ok(self.good()?.into_iter().map(|(holder, _)| holder.name).collect())
    }

    /// What is missing of its signatures; none: nothing.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn missing(&self) -> Result<Option<String>> {
        let good = self.good()?;
        for need in &self.needs {
            let is_good = |holder: &&Holder| good.iter().any(|(by, _)| by.key.is_of_same_pair(&holder.key));
            let have = need.holders.iter().filter(is_good).count() as u64;
            if have < need.threshold {
                let others = need.holders.iter().filter(|holder| !is_good(holder));
                let others: Vec<&str> = others.map(|holder| &*holder.name).collect();
                let what = if need.what.is_empty() { String::new() } else { format!(" {}", need.what) };
                return Ok(Some(format!(
                    "{} has {have} of {} signatures{what}; these may sign: {}",
                    self.name(),
                    need.threshold,
                    others.join(", ")
                )));
            }
        }
        Ok(None)
    }

    /// Adds a signature by a key that may.
    ///
    /// # Errors
    /// If the key may not, the signature is none over this, or the disk refuses.
    pub fn add(&self, key: &PublicKey, signature: &[u8]) -> Result<String> {
        let holder = self.holder(key).ok_or_else(|| {
            Error::Asked(format!(
                "{} is no key that may sign {}; these may: {}",
                key.fingerprint(),
                self.name(),
                self.may_sign().join(", ")
            ))
        })?;
        if !key.has_signed(&self.message()?, signature) {
            return Err(Error::Asked(format!(
                "the signature is none of {} over {}",
                holder.name,
                self.name()
            )));
        }
        let kept = Kept { key: key.to_string(), signature: hex(signature) };
        let path = self.directory.join(format!("{}.{}.sig", self.stem(), holder.name));
        let bytes = serde_json::to_vec_pretty(&kept).map_err(std::io::Error::other);
        bytes.and_then(|bytes| replace(&path, &bytes)).map_err(Error::file(&path))?;
        Ok(holder.name.clone())
    }

    /// The good signatures, each holder's once.
    fn good(&self) -> Result<Vec<(Holder, Vec<u8>)>> {
        let message = self.message()?;
        let mut good: Vec<(Holder, Vec<u8>)> = Vec::new();
        let prefix = format!("{}.", self.stem());
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(Error::file(&self.directory))? {
            let path = entry.map_err(Error::file(&self.directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&prefix) && name.ends_with(".sig") {
                names.push(path);
            }
        }
        names.sort();
        for path in names {
            // A file that is none, or cannot be read, and a signature of an earlier draft, count as nobody's.
            let Ok(bytes) = whole(&path, SIGNATURE) else { continue };
            let Ok(Kept { key, signature }) = serde_json::from_slice(&bytes) else { continue };
            let (Ok(key), Some(signature)) = (PublicKey::parse(&key), unhex(&signature)) else { continue };
            let Some(holder) = self.holder(&key) else { continue };
            let is_new = !good.iter().any(|(known, _)| known.key.is_of_same_pair(&key));
            if is_new && key.has_signed(&message, &signature) {
                good.push((holder.clone(), signature));
            }
        }
        Ok(good)
    }

    /// Its signatures as TUF writes them.
    pub(crate) fn signatures(&self) -> Result<Vec<Signature>> {
        let good = self.good()?.into_iter();
        good.map(|(holder, bytes)| {
            let keyid: KeyId = holder.tuf()?.0;
            Ok(Signature { keyid, sig: bytes.into() })
        })
        .collect()
    }

    fn stem(&self) -> String {
        format!("{}.{}", self.body.version(), self.body.kind())
    }

    /// Writes what is to be signed.
    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(&self.directory).map_err(Error::file(&self.directory))?;
        let bytes = match &self.body {
            Body::Root(root) => serde_json::to_vec_pretty(root),
            Body::Targets(targets) => serde_json::to_vec_pretty(targets),
        };
        let path = self.directory.join(format!("{}.json", self.stem()));
        bytes
            .map_err(std::io::Error::other)
            .and_then(|bytes| replace(&path, &bytes))
            .map_err(Error::file(&path))
    }

    /// Takes it and its signatures away.
    pub(crate) fn remove(&self) -> Result<()> {
        let prefix = format!("{}.", self.stem());
        for entry in fs::read_dir(&self.directory).map_err(Error::file(&self.directory))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // What is no file, and stays, is nobody's signature.
                let _ = fs::remove_file(entry.path());
            }
        }
        let path = self.directory.join(format!("{}.json", self.stem()));
        match path.try_exists() {
            Ok(false) => Ok(()),
            _ => fs::remove_file(&path).map_err(Error::file(&path)),
        }
    }

    /// Reads what is to be signed, of a version.
    pub(crate) fn read<T: DeserializeOwned>(directory: &Path, version: u64, kind: &str) -> Result<Option<T>> {
        crate::tree::read(&directory.join(format!("{version}.{kind}.json")))
    }
}

/// Signed, with these signatures.
pub(crate) fn signed<T>(signed: T, signatures: Vec<Signature>) -> Signed<T> {
    Signed { signed, signatures }
}

/// Members that nobody knows.
pub(crate) fn no_extra<V>() -> HashMap<String, V> {
    HashMap::new()
}
