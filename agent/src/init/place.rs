//! Puts the files into a directory: all of them, or none over one that somebody has written.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Draft;
use crate::exit::Usage;

/// The files' names.
pub const NAMES: [&str; 3] = ["agent.toml", "inventory.json", "policy.hujson"];

/// The configuration as packages bring it: it says nothing of the host, so nothing is lost with it.
const PRISTINE: &str = include_str!("../../../packaging/agent.toml");

/// Everybody may read them, as what packages bring; there is no secret in them.
const MODE: u32 = 0o644;

/// A directory for the files.
pub struct Place {
    /// Where it is.
    pub directory: PathBuf,
    /// Whether files that are there may be replaced.
    pub force: bool,
}

impl Place {
    /// Whether the files may be written.
    ///
    /// # Errors
    /// Which are there already.
    pub fn check(&self) -> Result<(), Usage> {
        let taken: Vec<String> = NAMES
            .iter()
            .map(|name| self.directory.join(name))
            .filter(|path| !self.force && !is_free(path))
            .map(|path| path.display().to_string())
            .collect();
        if taken.is_empty() {
            return Ok(());
        }
        let taken = taken.join(", ");
        Err(Usage(format!(
            "already there: {taken}; look at what would be written with --dry-run, write it elsewhere with \
             --directory, or replace what is there with --force"
        )))
    }

    /// Writes the files, each whole or not at all.
    ///
    /// # Errors
    /// If one is there that may not be replaced, or the disk refuses.
    pub fn write(&self, draft: &Draft) -> anyhow::Result<Vec<PathBuf>> {
        self.check()?;
        let directory = &self.directory;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .with_context(|| format!("making {}", directory.display()))?;
        let mut written = Vec::new();
        for (name, text) in draft.files() {
            let path = directory.join(name);
            self.put(&path, text).with_context(|| format!("writing {}", path.display()))?;
            written.push(path);
        }
        File::open(directory)
            .and_then(|open| open.sync_all())
            .with_context(|| format!("writing {}", directory.display()))?;
        Ok(written)
    }

    /// Writes beside the file, then gives it its name.
    fn put(&self, path: &Path, text: &str) -> io::Result<()> {
        let new = path.with_extension("init-new");
        // One that was left behind by a process that was killed.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(MODE).open(&new)?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if self.force || is_pristine(path) {
            return fs::rename(&new, path);
        }
        // Unlike a rename, this fails if somebody has made the file meanwhile.
        let linked = fs::hard_link(&new, path);
        fs::remove_file(&new)?;
        linked
    }
}

fn is_free(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) || is_pristine(path)
}

fn is_pristine(path: &Path) -> bool {
    path.ends_with(NAMES[0]) && fs::read_to_string(path).is_ok_and(|text| text == PRISTINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Draft {
        let text = text.to_owned();
        Draft {
            node: "n".to_owned(),
            interfaces: Vec::new(),
            uplinks: Vec::new(),
            nodes: 1,
            services: Vec::new(),
            management: Default::default(),
            warnings: Vec::new(),
            config: text.clone(),
            inventory: text.clone(),
            policy: text,
        }
    }

    #[test]
    fn nothing_that_somebody_wrote_is_replaced_without_force() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("etc");
        let place = |force| Place { directory: directory.clone(), force };
        let read = |name| fs::read_to_string(directory.join(name)).unwrap();
        assert_eq!(place(false).write(&draft("1")).unwrap().len(), 3);
        for name in NAMES {
            assert_eq!(read(name), "1");
            assert_eq!(fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o7777, MODE);
        }
        // One of them is enough, and none of the others is written then.
        fs::remove_file(directory.join("agent.toml")).unwrap();
        fs::remove_file(directory.join("policy.hujson")).unwrap();
        let error = place(false).write(&draft("2")).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("inventory.json"), "{error:#}");
        assert!(!directory.join("agent.toml").exists() && read("inventory.json") == "1");
        place(true).write(&draft("3")).unwrap();
        assert!(NAMES.iter().all(|name| read(name) == "3"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 3, "nothing is left beside them");
    }

    #[test]
    fn the_configuration_of_a_package_is_replaced_as_long_as_nobody_has_changed_it() {
        let base = tempfile::tempdir().unwrap();
        let place = Place { directory: base.path().to_owned(), force: false };
        let config = base.path().join("agent.toml");
        fs::write(&config, format!("{PRISTINE}\n")).unwrap();
        assert!(place.check().is_err());
        fs::write(&config, PRISTINE).unwrap();
        place.write(&draft("1")).unwrap();
        assert_eq!(fs::read_to_string(&config).unwrap(), "1");
    }

    #[test]
    fn a_link_to_nowhere_is_somebodys() {
        let base = tempfile::tempdir().unwrap();
        let place = Place { directory: base.path().to_owned(), force: false };
        std::os::unix::fs::symlink("/nonexistent", base.path().join("policy.hujson")).unwrap();
        assert!(place.check().is_err());
    }
}
