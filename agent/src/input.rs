//! Loading a policy and an inventory, as every command does it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

pub use bulkhead_api::change::LONGEST;
#[cfg(feature = "agent")]
use bulkhead_api::change::Text;
use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::resolve::Ruleset;
use bulkhead_policy::source::Source;

use crate::diagnostics;
use crate::exit::Usage;
use crate::text;

/// Where the policy and the inventory are.
#[derive(Clone, Debug, clap::Args)]
pub struct Files {
    /// The policy.
    #[arg(value_name = "POLICY", default_value = "/etc/bulkhead/policy.hujson")]
    pub policy: PathBuf,
    /// The inventory.
    #[arg(long, value_name = "FILE", default_value = "/etc/bulkhead/inventory.json")]
    pub inventory: PathBuf,
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Source, Usage> {
    read_within(path, LONGEST)
}

pub(crate) fn missing(path: &Path) -> impl Fn(io::Error) -> Usage {
    move |error| Usage(format!("cannot read {}: {error}; name an existing file", path.display()))
}

fn read_within(path: &Path, longest: u64) -> Result<Source, Usage> {
    read_file(File::open(path).map_err(missing(path))?, path, longest)
}

fn read_text(file: File, path: &Path, longest: u64) -> Result<String, Usage> {
    let mut text = Vec::new();
    // A device has no length to ask for.
    file.take(longest + 1).read_to_end(&mut text).map_err(missing(path))?;
    if text.len() as u64 > longest {
        let message = format!("{} is longer than {longest} bytes: no policy or inventory", path.display());
        return Err(Usage(message));
    }
    text::decode(text).map_err(|error| Usage(format!("cannot read {} as text: {error}", path.display())))
}

pub(crate) fn read_file(file: File, path: &Path, longest: u64) -> Result<Source, Usage> {
    Ok(Source::new(&path.display().to_string(), &read_text(file, path, longest)?))
}

/// Reads a file for an agent, which need not see it: in a message it has the name that it has here.
///
/// # Errors
/// What to do.
#[cfg(feature = "agent")]
pub fn text(path: &Path) -> Result<Text, Usage> {
    let name = std::path::absolute(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    let text = read_text(File::open(&name).map_err(missing(&name))?, &name, LONGEST)?;
    Ok(Text { name: name.display().to_string(), text })
}

/// Loads both files. What is wrong in them is among the findings; only a file that cannot be
/// read at all is an error here.
pub fn load(policy: &Path, inventory: Option<&Path>, dialect: Dialect) -> Result<Loaded, Usage> {
    load_for(policy, inventory, &Scope { dialect, ..Scope::default() })
}

/// [`load`] for whom a scope says.
pub fn load_for(policy: &Path, inventory: Option<&Path>, scope: &Scope) -> Result<Loaded, Usage> {
    Ok(Loaded::new(read(policy)?, inventory.map(read).transpose()?, scope))
}

/// Loads both files for a command that needs them whole. `None` if there is an error in them,
/// which has been printed then.
pub fn load_valid(files: &Files, scope: &Scope, json: bool) -> Result<Option<(Ruleset, Inventory)>, Usage> {
    let loaded = load_for(&files.policy, Some(&files.inventory), scope)?;
    match (loaded.ruleset, loaded.inventory) {
        (Some(ruleset), Some(inventory)) if !loaded.findings.has_errors() => Ok(Some((ruleset, inventory))),
        _ => {
            diagnostics::print(&loaded.findings, &loaded.sources, json);
            Ok(None)
        }
    }
}

/// Where the note over a policy is, unless another place is named: the policy's name with `.note` behind it.
pub fn note_beside(policy: &Path) -> PathBuf {
    let mut name = policy.as_os_str().to_owned();
    name.push(".note");
    name.into()
}

/// Reads the note over a policy for an agent: the one that is named, else the one beside the policy, if it is there.
///
/// # Errors
/// What to do.
#[cfg(feature = "agent")]
pub fn note(policy: Option<&Path>, named: Option<&Path>) -> Result<Option<String>, Usage> {
    let beside = policy.map(note_beside).filter(|path| path.exists());
    let Some(path) = named.map(Path::to_owned).or(beside) else { return Ok(None) };
    let file = File::open(&path).map_err(missing(&path))?;
    read_text(file, &path, bulkhead_grants::MAX_BYTES as u64).map(Some)
}

/// The present time, ns since the Unix epoch.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused() {
        let error = read_within(Path::new("/dev/zero"), 1000).map(|_| ()).unwrap_err();
        assert_eq!(error.0, "/dev/zero is longer than 1000 bytes: no policy or inventory");
        assert!(read(Path::new("/")).is_err());
        assert_eq!(
            read_within(Path::new("/dev/null"), 1000).map(|source| source.text().len()).unwrap_or(1),
            0
        );
    }
}
