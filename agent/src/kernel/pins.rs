//! Where things are pinned: one bpffs directory an instance and layout version.
//!
//! ```text
//! <bpffs>/bulkhead/<instance>/v<layout>/state/<MAP>           outlives generations
//! <bpffs>/bulkhead/<instance>/v<layout>/generation-<N>/<MAP>  tables of one generation
//! <bpffs>/bulkhead/<instance>/v<layout>/links/<IFACE>/<HOOK>  the attached programs
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bulkhead_engine::layout;

use super::{Hook, KernelError};

/// Maps that outlive generations.
pub const STATE_MAPS: &[&str] = &[
    "UNREPLIED",
    "ESTABLISHED",
    "FRAGMENTS",
    "REASON_COUNTERS",
    "AGGREGATES_0",
    "AGGREGATES_1",
    "AGGREGATE_EPOCH",
    "EVENTS",
    "LOST_EVENTS",
    "INITIATORS",
    "BUDGET",
];

/// Maps of one generation.
pub const TABLE_MAPS: &[&str] = &[
    "TRIE4",
    "EXACT6",
    "PREFIX6",
    "PORTS",
    "PAIRS",
    "CELLS",
    "DEADLINES",
    "LIMITS",
    "LIMIT_STATES",
    "RULE_COUNTERS",
];

/// Maps of a generation that only observes, beside those of the one that is enforced.
pub const SHADOW_MAPS: &[&str] = &[
    "SHADOW_TRIE4",
    "SHADOW_EXACT6",
    "SHADOW_PREFIX6",
    "SHADOW_PORTS",
    "SHADOW_PAIRS",
    "SHADOW_CELLS",
    "SHADOW_DEADLINES",
    "SHADOW_COUNTERS",
];

/// The pins of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pins of `instance` below the bpffs directory `base`.
    #[must_use]
    pub fn new(base: &Path, instance: &str) -> Self {
        Self { root: base.join(instance).join(format!("v{}", layout::VERSION)) }
    }

    /// The directory that holds them.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The pin of a map that outlives generations.
    #[must_use]
    pub fn state(&self, map: &str) -> PathBuf {
        self.root.join("state").join(map)
    }

    /// The directory of one generation's tables.
    #[must_use]
    pub fn generation(&self, number: u32) -> PathBuf {
        self.root.join(format!("generation-{number}"))
    }

    /// The pin of the program attached to one hook.
    #[must_use]
    pub fn link(&self, interface: &str, hook: Hook) -> PathBuf {
        self.link_directory(interface).join(hook.name())
    }

    /// bpffs refuses names with a dot, interfaces' names never have a colon.
    fn link_directory(&self, interface: &str) -> PathBuf {
        self.root.join("links").join(interface.replace('.', ":"))
    }

    /// Makes the directory of an interface's links.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn create_links(&self, interface: &str) -> Result<(), KernelError> {
        let path = self.link_directory(interface);
        fs::create_dir_all(&path).map_err(KernelError::refused(format!("{}: creating it", path.display())))
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn create(&self) -> Result<(), KernelError> {
        for directory in ["state", "links"] {
            let path = self.root.join(directory);
            fs::create_dir_all(&path)
                .map_err(KernelError::refused(format!("{}: creating it", path.display())))?;
        }
        Ok(())
    }

    /// The numbers of the generations that are pinned, ascending.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn generations(&self) -> Result<Vec<u32>, KernelError> {
        let mut numbers: Vec<u32> = self
            .names("")?
            .iter()
            .filter_map(|name| name.strip_prefix("generation-")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The (interface, hook) pairs that have a pinned link.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn links(&self) -> Result<Vec<(String, Hook)>, KernelError> {
        let mut links = Vec::new();
        for directory in self.names("links")? {
            let hooks = self.names(&format!("links/{directory}"))?;
            let interface = directory.replace(':', ".");
            links.extend(hooks.iter().filter_map(|hook| Some((interface.clone(), Hook::from_name(hook)?))));
        }
        Ok(links)
    }

    fn names(&self, below: &str) -> Result<Vec<String>, KernelError> {
        let path = self.root.join(below);
        match fs::read_dir(&path) {
            Ok(entries) => {
                Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(KernelError::refused(format!("{}: reading it", path.display()))(error)),
        }
    }

    /// Removes a generation's pins; the kernel frees the tables with their last program.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn remove_generation(&self, number: u32) -> Result<(), KernelError> {
        remove(&self.generation(number))
    }

    /// Removes every pin of the instance, of every layout version.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn remove_all(&self) -> Result<(), KernelError> {
        self.root.parent().map_or(Ok(()), remove)
    }
}

fn remove(path: &Path) -> Result<(), KernelError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(KernelError::refused(format!("{}: removing it", path.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Hook, Pins};

    #[test]
    fn link_names_have_no_dot_and_come_back() {
        let base = std::env::temp_dir().join(format!("bulkhead-pins-{}", std::process::id()));
        let pins = Pins::new(&base, "x");
        pins.create_links("eth0.100").unwrap();
        let link = pins.link("eth0.100", Hook::TcxEgress);
        assert!(!link.strip_prefix(Path::new(&base)).unwrap().to_str().unwrap().contains('.'));
        std::fs::write(&link, "").unwrap();
        assert_eq!(pins.links().unwrap(), [("eth0.100".to_owned(), Hook::TcxEgress)]);
        std::fs::remove_dir_all(base).unwrap();
    }
}
