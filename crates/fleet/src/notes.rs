//! Notes that people sign for every host: grants, revocations, quarantines and their lifting. Each is verified by itself
//! on the host; what lists them is believed by nobody, and says no more than what there is to be verified.
//!
//! ```text
//! notes/NAME.note  one signed note each, for people
//! notes/SUM.list   all of them, under its SHA-256: a JSON list of texts
//! notes/index.json which list is the newest
//! ```
//!
//! A host asks for the index, and for a list that it has not seen yet: two files, however many notes there are.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client::digest;
use crate::error::{Error, Result};
use crate::files::{regular, whole};
use crate::origin::{Origin, OriginError};
use crate::transport::within;
use crate::trusted::replace;

/// The directory of notes, below the fleet directory.
const DIRECTORY: &str = "notes";

/// Where it is said which list is the newest.
const INDEX: &str = "notes/index.json";

/// No index is longer, in bytes.
const LONGEST_INDEX: u64 = 4 << 10;

/// No list is longer, in bytes.
const LONGEST_LIST: u64 = 1 << 20;

/// No list has more notes.
pub const MOST_NOTES: usize = 1024;

/// No note is longer, in bytes: a text of seven lines and some signatures.
pub const LONGEST_NOTE: usize = 4 << 10;

/// How many lists before the newest stay: whoever has one of them fetches the difference alone.
const EARLIER: usize = 8;

/// How a note's file is named.
const NOTE: &str = ".note";

/// Which list is the newest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The SHA-256 of the newest list, hexadecimal.
    pub list: String,
    /// Its length, bytes.
    pub length: u64,
    /// The SHA-256 of those before, the latest first.
    #[serde(default)]
    pub earlier: Vec<String>,
}

/// Why notes do not come. What comes is no note of anybody by that.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unlisted {
    /// The origin does not have it, or not as such.
    #[error("{0}")]
    Origin(#[from] OriginError),
    /// It is no list.
    #[error("{path}: {problem}")]
    Malformed {
        /// Which file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Unlisted {
    /// What kind of refusal it is.
    #[must_use]
    pub const fn cause(&self) -> crate::Cause {
        match self {
            Self::Origin(OriginError::Down(_)) => crate::Cause::Down,
            Self::Origin(OriginError::TooLong { .. }) => crate::Cause::TooLong,
            Self::Malformed { .. } => crate::Cause::Malformed,
        }
    }
}

fn malformed(path: &str, problem: impl std::fmt::Display) -> Unlisted {
    Unlisted::Malformed { path: path.to_owned(), problem: problem.to_string() }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn list_path(sum: &str) -> String {
    format!("{DIRECTORY}/{sum}.list")
}

/// Which list an origin has; none: it has no notes.
///
/// # Errors
/// If it does not come, or says no such thing.
pub async fn index(origin: &dyn Origin) -> std::result::Result<Option<Index>, Unlisted> {
    let Some(bytes) = within(origin, INDEX, LONGEST_INDEX).await? else { return Ok(None) };
    let index: Index = serde_json::from_slice(&bytes).map_err(|error| malformed(INDEX, error))?;
    if !is_digest(&index.list) {
        return Err(malformed(INDEX, "it names no list"));
    }
    if index.length > LONGEST_LIST {
        let path = list_path(&index.list);
        return Err(OriginError::TooLong { path, longest: LONGEST_LIST }.into());
    }
    Ok(Some(index))
}

/// The texts of a list, and the list as it came.
///
/// # Errors
/// If it does not come, is another one, or has more than a list has.
pub async fn list(
    origin: &dyn Origin,
    index: &Index,
) -> std::result::Result<(Vec<String>, Vec<u8>), Unlisted> {
    let path = list_path(&index.list);
    let bytes = within(origin, &path, index.length.min(LONGEST_LIST)).await?;
    let bytes = bytes.ok_or_else(|| malformed(&path, "it is not there"))?;
    if digest(&bytes) != index.list {
        return Err(malformed(&path, "it is not what its name says"));
    }
    Ok((texts(&path, &bytes)?, bytes))
}

fn texts(path: &str, bytes: &[u8]) -> std::result::Result<Vec<String>, Unlisted> {
    let notes: Vec<String> = serde_json::from_slice(bytes).map_err(|error| malformed(path, error))?;
    if notes.len() > MOST_NOTES {
        return Err(malformed(path, format!("it has {} notes, and {MOST_NOTES} are taken", notes.len())));
    }
    if let Some(note) = notes.iter().find(|note| note.len() > LONGEST_NOTE) {
        let problem = format!("a note of it has {} bytes, and {LONGEST_NOTE} are taken", note.len());
        return Err(malformed(path, problem));
    }
    Ok(notes)
}

/// The notes of a fleet directory. Whoever changes them has [`Tree::alone`](crate::Tree::alone).
#[derive(Clone, Debug)]
pub struct Notes(PathBuf);

impl Notes {
    /// Those of a fleet directory.
    #[must_use]
    pub fn new(fleet: &Path) -> Self {
        Self(fleet.join(DIRECTORY))
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn all(&self) -> Result<Vec<(String, String)>> {
        let failed = Error::file(&self.0);
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(&failed)?.file_name().to_string_lossy().into_owned();
            if let Some(name) = name.strip_suffix(NOTE).filter(|name| !name.starts_with('.')) {
                names.insert(name.to_owned());
            }
        }
        let read = |name: String| {
            let path = self.path(&name);
            let bytes = whole(&path, LONGEST_NOTE as u64).map_err(Error::file(&path))?;
            let text = String::from_utf8(bytes).map_err(io::Error::other).map_err(Error::file(&path))?;
            Ok((name, text))
        };
        names.into_iter().map(read).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}{NOTE}"))
    }

    /// Adds notes, each under a name, takes others away, and lists what there is then. Whether anything is new.
    ///
    /// # Errors
    /// If they would be more than hosts take, or the disk refuses.
    pub fn change(&self, add: &[(String, String)], remove: &[String]) -> Result<bool> {
        let mut all: Vec<(String, String)> = self.all()?;
        all.retain(|(name, _)| !remove.contains(name) && add.iter().all(|(new, _)| new != name));
        all.extend(add.iter().cloned());
        all.sort();
        let notes: Vec<&str> = all.iter().map(|(_, text)| &**text).collect();
        let bytes = serde_json::to_vec(&notes).map_err(|error| Error::Asked(error.to_string()))?;
        let is_too_long = bytes.len() as u64 > LONGEST_LIST;
        if notes.len() > MOST_NOTES || is_too_long {
            return Err(Error::Asked(format!(
                "hosts take {MOST_NOTES} notes of {LONGEST_LIST} bytes together, and these are {} of {}: lift quarantines and \
                 let grants end before you post more",
                notes.len(),
                bytes.len()
            )));
        }
        fs::create_dir_all(&self.0).map_err(Error::file(&self.0))?;
        for (name, text) in add {
            let path = self.path(name);
            replace(&path, text.as_bytes()).map_err(Error::file(&path))?;
        }
        let is_new = self.write(&bytes)?;
        // What is listed no more; a note that is left behind here is listed the next time.
        for name in remove {
            let path = self.path(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::file(&path)(error));
                }
                _ => {}
            }
        }
        Ok(is_new)
    }

    /// Puts a list where hosts find it: the list, then what names it.
    fn write(&self, bytes: &[u8]) -> Result<bool> {
        let at = self.0.join("index.json");
        let before: Index = regular(&at, LONGEST_INDEX)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let sum = digest(bytes);
        let path = self.0.join(format!("{sum}.list"));
        if before.list == sum && path.is_file() {
            return Ok(false);
        }
        let known = std::iter::once(before.list).chain(before.earlier);
        let mut earlier: Vec<String> = known.filter(|known| is_digest(known) && *known != sum).collect();
        earlier.truncate(EARLIER);
        replace(&path, bytes).map_err(Error::file(&path))?;
        let index = Index { list: sum.clone(), length: bytes.len() as u64, earlier };
        let text = serde_json::to_vec(&index).map_err(|error| Error::Asked(error.to_string()))?;
        replace(&at, &text).map_err(Error::file(&at))?;
        for entry in fs::read_dir(&self.0).map_err(Error::file(&self.0))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_old = name
                .strip_suffix(".list")
                .is_some_and(|known| known != sum && !index.earlier.iter().any(|earlier| earlier == known));
            if is_old {
                // What stays is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::{Index, LONGEST_LIST, LONGEST_NOTE, MOST_NOTES, Notes, Unlisted, index, list, list_path};
    use crate::client::digest;
    use crate::origin::Directory;

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn note(name: &str) -> (String, String) {
        (name.to_owned(), format!("text of {name}\n\n"))
    }

    fn listed(fleet: &std::path::Path) -> Result<Option<Vec<String>>, Unlisted> {
        let origin = Directory::new(fleet);
        block(async {
            let Some(index) = index(&origin).await? else { return Ok(None) };
            list(&origin, &index).await.map(|(notes, _)| Some(notes))
        })
    }

    #[test]
    fn hosts_find_what_was_posted_and_what_was_taken_away_is_gone() {
        let fleet = tempfile::tempdir().unwrap();
        let notes = Notes::new(fleet.path());
        assert!(listed(fleet.path()).unwrap().is_none());
        assert!(notes.change(&[note("b"), note("a")], &[]).unwrap());
        assert_eq!(listed(fleet.path()).unwrap().unwrap(), [note("a").1, note("b").1]);
        assert!(!notes.change(&[note("a")], &[]).unwrap(), "nothing is new");
        assert!(notes.change(&[note("c")], &["a".to_owned()]).unwrap());
        assert_eq!(notes.all().unwrap(), [note("b"), note("c")]);
        for round in 0..12 {
            notes.change(&[note(&format!("d{round}"))], &[]).unwrap();
        }
        let lists = fs::read_dir(fleet.path().join("notes")).unwrap().flatten();
        let lists = lists.filter(|entry| entry.file_name().to_string_lossy().ends_with(".list")).count();
        assert_eq!(lists, 9, "the newest and eight before");
    }

    #[test]
    fn no_more_is_posted_than_hosts_take() {
        let fleet = tempfile::tempdir().unwrap();
        let notes = Notes::new(fleet.path());
        fs::create_dir(fleet.path().join("notes")).unwrap();
        for number in 0..MOST_NOTES {
            fs::write(fleet.path().join(format!("notes/{number}.note")), note(&number.to_string()).1)
                .unwrap();
        }
        notes.change(&[], &[]).unwrap();
        let error = notes.change(&[note("more")], &[]).unwrap_err().to_string();
        assert!(error.contains("hosts take 1024 notes"), "{error}");
        assert_eq!(listed(fleet.path()).unwrap().unwrap().len(), MOST_NOTES);
        notes.change(&[note("more")], &["7".to_owned()]).unwrap();
    }

    #[test]
    fn whoever_carries_them_makes_a_host_hold_no_more() {
        let fleet = tempfile::tempdir().unwrap();
        let at = |path: &str| fleet.path().join(path);
        fs::create_dir(at("notes")).unwrap();
        let serve = |bytes: &[u8], length: Option<u64>| {
            let sum = digest(bytes);
            fs::write(at(&list_path(&sum)), bytes).unwrap();
            let index =
                Index { list: sum, length: length.unwrap_or(bytes.len() as u64), earlier: Vec::new() };
            fs::write(at("notes/index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
            listed(fleet.path()).map(|_| ()).map_err(|error| error.to_string())
        };
        let notes =
            |count: usize, length: usize| serde_json::to_vec(&vec!["x".repeat(length); count]).unwrap();
        assert!(serve(&notes(MOST_NOTES, 10), None).is_ok());
        assert!(serve(&notes(MOST_NOTES + 1, 1), None).unwrap_err().contains("1025 notes"));
        assert!(serve(&notes(1, LONGEST_NOTE + 1), None).unwrap_err().contains("4097 bytes"));
        let long = notes(700, 2_000);
        assert!(serve(&long, None).unwrap_err().contains("longer than 1048576 bytes"));
        // It says less than it is.
        assert!(serve(&long, Some(LONGEST_LIST)).unwrap_err().contains("longer than"));
        assert!(serve(b"{}", None).is_err() && serve(b"", None).is_err());
        for index in [
            "{}".to_owned(),
            format!(r#"{{"list": "../{}", "length": 1}}"#, "a".repeat(61)),
            " ".repeat(5_000),
            format!(r#"{{"list": "{}", "length": 1}}"#, "a".repeat(64)),
        ] {
            fs::write(at("notes/index.json"), index).unwrap();
            assert!(listed(fleet.path()).is_err());
        }
        // What has another name than its text.
        let text = notes(1, 1);
        serve(&text, None).unwrap();
        fs::write(at(&list_path(&digest(&text))), notes(1, 2)).unwrap();
        assert!(listed(fleet.path()).is_err());
    }
}
