//! What this machine remembers of fleets: those who sign and publish go on from what they have seen.

use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use bulkhead_api::text::plain;
use bulkhead_fleet::{Known, Memory, Tree};

use super::wrong;
use crate::exit::Usage;

/// The variable that names the directory, for services and scripts.
const VARIABLE: &str = "BULKHEAD_FLEET_STATE";

/// Where it is.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Remembered {
    /// Where this machine remembers what it has seen of fleets.
    ///
    /// A file for each, by which an older state of a fleet directory that somebody has put back, or another fleet in its
    /// place, is refused. Without this BULKHEAD_FLEET_STATE of the environment, or bulkhead/fleets below XDG_STATE_HOME or
    /// ~/.local/state.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Remembered {
    /// In a directory of a test's own.
    #[cfg(test)]
    pub(super) fn at(directory: &std::path::Path) -> Self {
        Self { state: Some(directory.to_owned()) }
    }

    /// The directory, if there is any, and whether somebody has named it.
    fn directory(&self) -> Option<(PathBuf, bool)> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(named) = self.state.clone().or_else(|| variable(VARIABLE)) {
            return Some((named, true));
        }
        // A relative path is none, by the XDG Base Directory Specification.
        let home = || variable("HOME").map(|home| home.join(".local/state"));
        let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute()).or_else(home);
        let state = state.filter(|path| path.is_absolute())?;
        Some((state.join("bulkhead/fleets"), false))
    }

    /// None: there is nowhere to remember anything, and nothing can have been; it is told to what that leads.
    fn memory(&self) -> Result<Option<Memory>, Usage> {
        let without = |why: &str| {
            eprintln!(
                "bulkhead: {why}: nothing is remembered of this fleet, and an older state that somebody puts back is not \
                 noticed; name a directory by --state or {VARIABLE}"
            );
        };
        let Some((directory, is_named)) = self.directory() else {
            without("there is no HOME");
            return Ok(None);
        };
        if !directory.exists()
            && let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&directory)
        {
            let why = format!("{}: {error}", directory.display());
            if is_named {
                return Err(Usage(why));
            }
            without(&why);
            return Ok(None);
        }
        Ok(Some(Memory::new(&directory)))
    }

    /// Goes on with a fleet directory, and remembers it. None: it has no fleet, or nothing is remembered here.
    ///
    /// # Errors
    /// If it is not what was seen before or newer, or that cannot be told.
    pub(super) fn goes_on(&self, tree: &Tree) -> Result<Option<Known>, Usage> {
        let Some(memory) = self.memory()? else { return Ok(None) };
        let Some(known) = memory.remember(tree).map_err(wrong)? else { return Ok(None) };
        if let Some(refused) = known.refused {
            return Err(Usage(refused));
        }
        let fingerprint = known.identity.fingerprint().unwrap_or_default();
        if known.is_new {
            eprintln!(
                "bulkhead: fleet {fingerprint} is seen for the first time on this machine: compare this with the others who sign"
            );
        }
        if let Some(was) = &known.was {
            let place = tree.path().display().to_string();
            eprintln!("bulkhead: {} has fleet {fingerprint} now, and had {was} before", plain(&place));
        }
        Ok(Some(known))
    }

    /// The same for one who has just begun a fleet there.
    ///
    /// # Errors
    /// As [`Self::goes_on`].
    pub(super) fn begun(&self, tree: &Tree) -> Result<(), Usage> {
        // Nobody is told to compare what they have just made with what others see.
        let Some(memory) = self.memory()? else { return Ok(()) };
        memory.begin(tree).map(drop).map_err(wrong)
    }

    /// Warns of a fleet directory that is not what was seen before or newer, for those who only look.
    pub(super) fn warns(&self, tree: &Tree) {
        let Some((directory, _)) = self.directory() else { return };
        let warning = match Memory::new(&directory).look(tree) {
            Ok(known) => known.and_then(|known| known.refused),
            Err(error) => Some(error.to_string()),
        };
        if let Some(warning) = warning {
            eprintln!("bulkhead: {}", plain(&warning));
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_fleet::Tree;

    use super::Remembered;

    #[test]
    fn a_directory_that_somebody_names_must_do() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let tree = Tree::new(directory.path());
        assert!(Remembered::at(&file.join("below")).goes_on(&tree).is_err());
        // There is no fleet, which is told by whoever needs one.
        assert!(Remembered::at(&directory.path().join("below")).goes_on(&tree).unwrap().is_none());
    }
}
