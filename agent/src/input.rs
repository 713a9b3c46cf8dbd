//! Loading a policy and an inventory, as every command does it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

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
    #[arg(long, value_name = "FILE", default_value = "/etc/bulkhead/policy.hujson")]
    pub policy: PathBuf,
    /// The inventory.
    #[arg(long, value_name = "FILE", default_value = "/etc/bulkhead/inventory.json")]
    pub inventory: PathBuf,
}

/// The longest file that is read: an inventory of several million nodes.
const LONGEST: u64 = 1 << 30;

/// Reads a file.
pub fn read(path: &Path) -> Result<Source, Usage> {
    read_within(path, LONGEST)
}

/// How long a file may take that an agent reads, which makes no other change meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a file for an agent: a regular one, that answers. A pipe or a file system that hangs must not keep a
/// policy from going back that is not confirmed.
///
/// # Errors
/// What to do.
pub fn read_regular(path: &Path) -> Result<Source, Usage> {
    let (sender, answer) = mpsc::channel();
    let of = path.to_owned();
    let read = move || sender.send(open_regular(&of).and_then(|file| read_file(file, &of, LONGEST)));
    let fail = |why: &str| Usage(format!("cannot read {}: {why}", path.display()));
    std::thread::Builder::new()
        .name("read".to_owned())
        .spawn(read)
        .map_err(|error| fail(&error.to_string()))?;
    answer.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        Err(fail(&format!("it does not answer within {} s; name a file on a local disk", PATIENCE.as_secs())))
    })
}

/// Opens a regular file, without waiting for whoever writes to a pipe.
fn open_regular(path: &Path) -> Result<File, Usage> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let (found, file) = file.and_then(|file| Ok((file.metadata()?, file))).map_err(missing(path))?;
    if found.is_file() {
        return Ok(file);
    }
    Err(Usage(format!(
        "cannot read {}: it is no regular file; the agent reads it by its name, also later",
        path.display()
    )))
}

fn missing(path: &Path) -> impl Fn(io::Error) -> Usage {
    move |error| Usage(format!("cannot read {}: {error}; name an existing file", path.display()))
}

fn read_within(path: &Path, longest: u64) -> Result<Source, Usage> {
    read_file(File::open(path).map_err(missing(path))?, path, longest)
}

fn read_file(file: File, path: &Path, longest: u64) -> Result<Source, Usage> {
    let mut text = Vec::new();
    // A device has no length to ask for.
    file.take(longest + 1).read_to_end(&mut text).map_err(missing(path))?;
    if text.len() as u64 > longest {
        let message = format!("{} is longer than {longest} bytes: no policy or inventory", path.display());
        return Err(Usage(message));
    }
    let text = text::decode(text)
        .map_err(|error| Usage(format!("cannot read {} as text: {error}", path.display())))?;
    Ok(Source::new(&path.display().to_string(), &text))
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
pub fn load_valid(
    files: &Files,
    dialect: Dialect,
    json: bool,
) -> Result<Option<(Ruleset, Inventory)>, Usage> {
    let loaded = load(&files.policy, Some(&files.inventory), dialect)?;
    match (loaded.ruleset, loaded.inventory) {
        (Some(ruleset), Some(inventory)) if !loaded.findings.has_errors() => Ok(Some((ruleset, inventory))),
        _ => {
            diagnostics::print(&loaded.findings, &loaded.sources, json);
            Ok(None)
        }
    }
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
    fn an_agent_waits_for_no_pipe() {
        let directory = std::env::temp_dir().join(format!("bulkhead-pipe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let pipe = directory.join("policy");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [&*pipe, Path::new("/dev/zero"), Path::new("/")] {
            let error = read_regular(path).map(|_| ()).unwrap_err();
            assert!(error.0.contains("no regular file"), "{}", error.0);
        }
        let file = directory.join("file");
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(read_regular(&file).map(|source| source.text().to_owned()).unwrap(), "{}");
        assert!(read_regular(&directory.join("none")).map(|_| ()).unwrap_err().0.contains("existing file"));
        std::fs::remove_dir_all(directory).unwrap();
    }

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
