//! What a client has verified, over restarts.
//!
//! `tough` keeps files of its own, which it writes in place: a kill at the wrong moment leaves half of one, which it then
//! takes for none, and what is older is taken again. So it works on a copy, and what it has verified is kept as one file
//! that is replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use tempfile::TempDir;

use crate::error::{Error, Result};

/// What was verified: each role's file by its name.
const TRUSTED: &str = "trusted.json";

/// The latest time that was seen. A file of its own: who had a clock that was ahead takes it away, and nothing else.
const TIME: &str = "time.json";

/// The same as `tough` names it.
const TIME_OF_TOUGH: &str = "latest_known_time.json";

pub(crate) const ROLES: [&str; 4] = ["root.json", "timestamp.json", "snapshot.json", "targets.json"];

/// How names of copies begin.
const COPY: &str = "check-";

/// The directory of one repository.
#[derive(Clone, Debug)]
pub(crate) struct Trusted {
    directory: PathBuf,
    roles: BTreeMap<String, String>,
}

impl Trusted {
    /// Reads it. What a killed agent left of a copy is removed.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).map_err(Error::file(directory))?;
        for entry in fs::read_dir(directory).map_err(Error::file(directory))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(COPY) {
                // What stays is in nobody's way.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = directory.join(TRUSTED);
        let roles = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Error::Asked(format!(
                    "{}: it is damaged ({error}), and without it what is older would be taken again; put it back, or \
                     move it away to begin with the first root",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Error::file(&path)(error)),
        };
        Ok(Self { directory: directory.to_owned(), roles })
    }

    /// The newest root that was verified.
    pub(crate) fn root(&self) -> Option<&str> {
        self.roles.get(ROLES[0]).map(String::as_str)
    }

    /// A role's file.
    pub(crate) fn role(&self, name: &str) -> Option<&str> {
        self.roles.get(name).map(String::as_str)
    }

    /// A copy for `tough` to work on.
    pub(crate) fn copy(&self) -> Result<TempDir> {
        let failed = Error::file(&self.directory);
        let copy = tempfile::Builder::new().prefix(COPY).tempdir_in(&self.directory).map_err(&failed)?;
        for (name, text) in &self.roles {
            fs::write(copy.path().join(name), text).map_err(&failed)?;
        }
        match fs::read(self.directory.join(TIME)) {
            Ok(time) => fs::write(copy.path().join(TIME_OF_TOUGH), time).map_err(&failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(copy)
    }

    /// Keeps what was verified in a copy, whether or not the rest of it was: a root that drops somebody holds from then on. Of
    /// a copy that the disk had no room for nothing is kept: half a file is not what was verified.
    pub(crate) fn keep(&mut self, copy: &Path) -> Result<()> {
        let mut roles = BTreeMap::new();
        for name in ROLES {
            match fs::read_to_string(copy.join(name)) {
                Ok(text) if serde_json::from_str::<IgnoredAny>(&text).is_ok() => {
                    roles.insert(name.to_owned(), text);
                }
                Ok(_) => return Err(Error::file(copy)(io::Error::other(format!("{name} is not whole")))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file(copy)(error)),
            }
        }
        // Without its root the rest is what it was: the copy has not come that far.
        if roles.contains_key(ROLES[0]) && roles != self.roles {
            let bytes = serde_json::to_vec(&roles).map_err(io::Error::other);
            bytes.and_then(|bytes| self.replace(TRUSTED, &bytes)).map_err(Error::file(&self.directory))?;
            self.roles = roles;
        }
        match fs::read(copy.join(TIME_OF_TOUGH)) {
            Ok(time) if serde_json::from_slice::<IgnoredAny>(&time).is_ok() => {
                self.replace(TIME, &time).map_err(Error::file(&self.directory))
            }
            _ => Ok(()),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        replace(&self.directory.join(name), bytes)
    }
}

/// How names of files begin that are not yet whole.
pub(crate) const NEW: &str = ".new-";

/// Writes beside a file, then renames, and waits for the disk. Everybody may read it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, 0o644)
}

/// The same with other permissions.
pub(crate) fn replace_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(NEW).tempfile_in(directory)?;
    new.write_all(bytes)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    new.as_file().set_permissions(mode)?;
    new.as_file().sync_all()?;
    new.persist(path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Trusted;

    #[test]
    fn half_a_file_is_not_kept() {
        let state = tempfile::tempdir().unwrap();
        let mut trusted = Trusted::open(state.path()).unwrap();
        let copy = trusted.copy().unwrap();
        let write = |name: &str, text: &str| std::fs::write(copy.path().join(name), text).unwrap();
        write("root.json", r#"{"signed": 1}"#);
        write("timestamp.json", r#"{"signed": 2}"#);
        trusted.keep(copy.path()).unwrap();
        // The disk was full: `tough` writes in place.
        for half in ["", r#"{"sig"#] {
            write("root.json", half);
            assert!(trusted.keep(copy.path()).unwrap_err().to_string().contains("root.json is not whole"));
        }
        write("root.json", r#"{"signed": 3}"#);
        write("timestamp.json", "");
        trusted.keep(copy.path()).unwrap_err();
        let read = Trusted::open(state.path()).unwrap();
        assert_eq!(
            (read.root(), read.role("timestamp.json")),
            (Some(r#"{"signed": 1}"#), Some(r#"{"signed": 2}"#))
        );
    }
}
