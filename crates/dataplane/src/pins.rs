//! Where things are pinned: one bpffs directory an instance and map ABI version.
//!
//! ```text
//! <bpffs>/bulkhead/<instance>/v<layout>/state/<MAP>           outlives generations
//! <bpffs>/bulkhead/<instance>/v<layout>/state-<N>/<MAP>       takes its place, once generation N runs
//! <bpffs>/bulkhead/<instance>/v<layout>/generation-<N>/<MAP>  tables of one generation
//! <bpffs>/bulkhead/<instance>/v<layout>/generation-<N>/exchange/<MAP>  those of exchange interfaces
//! <bpffs>/bulkhead/<instance>/v<layout>/generation-<N>/underlay/<MAP>  those of underlay interfaces
//! <bpffs>/bulkhead/<instance>/v<layout>/generation-<N>/local/<MAP>     those of lo
//! <bpffs>/bulkhead/<instance>/v<layout>/links/<IFACE>/<HOOK>  the attached programs
//! <bpffs>/bulkhead/<instance>/v<layout>/cgroups/host/<HOOK>   those of the root cgroup
//! <bpffs>/bulkhead/<instance>/v<layout>/cgroups/<ID>/<HOOK>   those of a workload's cgroup
//! <bpffs>/bulkhead/<instance>/v<layout>/cgroups/loading/<MAP>   what they look up, while they are loaded
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{CgroupHook, Hook, KernelError, Place};

/// Maps that outlive generations.
pub const STATE_MAPS: &[&str] = &[
    "FLOWS",
    "EVICTED",
    "FRAGMENTS",
    "REASON_COUNTERS",
    "REASON_COUNTERS_1",
    "UNREPORTED",
    "AGGREGATES_0",
    "AGGREGATES_1",
    "AGGREGATE_EPOCH",
    "EVENTS",
    "LOST_EVENTS",
    "LOST_EVENTS_1",
    "LOST_FLOWS",
    "INITIATORS",
    "ANSWERS",
];

/// Maps of one generation.
pub const TABLE_MAPS: &[&str] = &[
    "TRIE4",
    "HOST_TABLE",
    "PREFIX6",
    "ROUTES",
    "ICMP_MISSES",
    "PORTS",
    "PAIRS",
    "CELLS",
    "DEADLINES",
    "WORKLOADS",
    "LIMITS",
    "LIMIT_STATES",
    "RULE_COUNTERS",
    "TLS_COUNTERS",
    "BUDGET",
];

/// Maps of a generation that only observes, beside those of the one that is enforced.
pub const STAGED_MAPS: &[&str] = &[
    "STAGED_TRIE4",
    "STAGED_HOST_TABLE",
    "STAGED_PREFIX6",
    "STAGED_PORTS",
    "STAGED_PAIRS",
    "STAGED_CELLS",
    "STAGED_DEADLINES",
    "STAGED_WORKLOADS",
    "STAGED_COUNTERS",
];

/// Maps of one group's programs while a staged policy observes: how they reach the enforced ones. Pinned, since the kernel empties such a map when the last process lets go of it.
pub const CHAIN_MAPS: &[&str] = &["XDP_ENFORCED", "TC_ENFORCED"];

/// The pins of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    version: u32,
    prepared: Vec<(&'static str, PathBuf)>,
    tables: &'static str,
}

/// Maps that all sets of tables of a generation share.
const SHARED_MAPS: &[&str] = &["RULE_COUNTERS", "TLS_COUNTERS", "BUDGET", "STAGED_COUNTERS"];

impl Pins {
    /// The pins of `instance` below the bpffs directory `base`.
    #[must_use]
    pub fn new(base: &Path, instance: &str) -> Self {
        Self::of_version(&base.join(instance), bulkhead_abi::VERSION)
    }

    fn of_version(instance: &Path, version: u32) -> Self {
        Self { root: instance.join(format!("v{version}")), version, prepared: Vec::new(), tables: "" }
    }

    /// The pins of the same instance that agents of other map ABIs made.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn others(&self) -> Result<Vec<Self>, KernelError> {
        let Some(instance) = self.root.parent() else { return Ok(Vec::new()) };
        let mut versions: Vec<u32> = names(instance)?
            .iter()
            .filter_map(|name| name.strip_prefix('v')?.parse().ok())
            .filter(|version| *version != self.version)
            .collect();
        versions.sort_unstable();
        Ok(versions.into_iter().map(|version| Self::of_version(instance, version)).collect())
    }

    /// The map ABI version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The same pins, but for maps that have not their place yet.
    #[must_use]
    pub(super) fn with_prepared(&self, prepared: Vec<(&'static str, PathBuf)>) -> Self {
        Self { prepared, ..self.clone() }
    }

    /// The directory that holds them.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The pin of a map that outlives generations.
    #[must_use]
    pub fn state(&self, map: &str) -> PathBuf {
        let prepared = self.prepared.iter().find(|(name, _)| *name == map);
        prepared.map_or_else(|| self.root.join("state").join(map), |(_, path)| path.clone())
    }

    /// The directory of maps that take the place of those in `state` once a generation runs.
    pub(super) fn next_state(&self, generation: u32) -> PathBuf {
        self.root.join(format!("state-{generation}"))
    }

    /// Every directory of maps that outlive generations, the one in place first.
    pub(super) fn states(&self) -> Result<Vec<PathBuf>, KernelError> {
        let mut states: Vec<_> = names(&self.root)?
            .into_iter()
            .filter(|name| name == "state" || name.starts_with("state-"))
            .collect();
        states.sort_unstable();
        Ok(states.into_iter().map(|name| self.root.join(name)).collect())
    }

    /// The same pins, but for the tables, which are those of exchange interfaces.
    #[must_use]
    pub fn exchange(&self) -> Self {
        Self { tables: "exchange", ..self.clone() }
    }

    /// The same pins, but for the tables, which are those of underlay interfaces.
    #[must_use]
    pub fn underlay(&self) -> Self {
        Self { tables: "underlay", ..self.clone() }
    }

    /// The same pins, but for the tables, which are those of `lo`.
    #[must_use]
    pub fn local(&self) -> Self {
        Self { tables: "local", ..self.clone() }
    }

    /// The directory of the tables of one role within a generation's; empty: they lie in it.
    pub(super) fn role(&self) -> &'static str {
        self.tables
    }

    /// The pins of the same instance that agents of a map ABI made.
    pub(super) fn with_version(&self, version: u32) -> Self {
        Self::of_version(self.root.parent().unwrap_or(&self.root), version)
    }

    /// The directory of one generation's tables.
    #[must_use]
    pub fn generation(&self, number: u32) -> PathBuf {
        self.root.join(format!("generation-{number}")).join(self.tables)
    }

    /// The pin of a map of one generation.
    #[must_use]
    pub fn table(&self, number: u32, map: &str) -> PathBuf {
        let is_shared = SHARED_MAPS.contains(&map);
        let directory = self.root.join(format!("generation-{number}"));
        if is_shared { directory.join(map) } else { self.generation(number).join(map) }
    }

    /// The pin of a map that one group's programs have for themselves; `position` is the group's among
    /// the generation's.
    #[must_use]
    pub fn chain(&self, number: u32, map: &str, position: usize) -> PathBuf {
        self.generation(number).join(format!("{map}-{position}"))
    }

    /// The pin of the program attached to one hook.
    #[must_use]
    pub fn link(&self, interface: &str, hook: Hook) -> PathBuf {
        self.link_directory(interface).join(hook.name())
    }

    /// The directory of all links.
    #[must_use]
    pub fn links_directory(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The directory of an interface's links. bpffs refuses names with a dot, interfaces' names never have a
    /// colon.
    #[must_use]
    pub fn link_directory(&self, interface: &str) -> PathBuf {
        self.links_directory().join(interface.replace('.', ":"))
    }

    /// The directory of the links on a cgroup.
    #[must_use]
    pub fn cgroup_directory(&self, place: Place) -> PathBuf {
        let cgroups = self.root.join("cgroups");
        match place {
            Place::Host => cgroups.join("host"),
            Place::Cgroup(id) => cgroups.join(id.to_string()),
        }
    }

    /// The pin of the program attached to one hook of a cgroup.
    #[must_use]
    pub fn cgroup_link(&self, place: Place, hook: CgroupHook) -> PathBuf {
        self.cgroup_directory(place).join(hook.name())
    }

    /// Where programs are attached to cgroups, by their pins.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn cgroup_links(&self) -> Result<Vec<(Place, CgroupHook)>, KernelError> {
        let cgroups = self.root.join("cgroups");
        let mut links = Vec::new();
        for name in names(&cgroups)? {
            let place = match name.parse() {
                Ok(id) => Place::Cgroup(id),
                Err(_) if name == "host" => Place::Host,
                Err(_) => continue,
            };
            let hooks = names(&cgroups.join(name))?;
            links.extend(hooks.iter().filter_map(|hook| Some((place, CgroupHook::from_name(hook)?))));
        }
        links.sort_unstable();
        Ok(links)
    }

    /// The directory of the maps of programs on cgroups while these are loaded.
    pub(super) fn cgroup_maps(&self) -> PathBuf {
        self.root.join("cgroups").join("loading")
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
        let mut numbers: Vec<u32> = names(&self.root)?
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
        let named = self.named_links()?.into_iter();
        Ok(named.filter_map(|(interface, hook)| Some((interface, Hook::from_name(&hook)?))).collect())
    }

    /// The same with the hooks' names, which an agent of another map ABI may have more of.
    pub(super) fn named_links(&self) -> Result<Vec<(String, String)>, KernelError> {
        let mut links = Vec::new();
        let root = self.links_directory();
        for directory in names(&root)? {
            let interface = directory.replace(':', ".");
            let hooks = names(&root.join(directory))?;
            links.extend(hooks.into_iter().map(|hook| (interface.clone(), hook)));
        }
        Ok(links)
    }

    /// Removes a generation's pins; the kernel frees the tables with their last program.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn remove_generation(&self, number: u32) -> Result<(), KernelError> {
        remove(&self.generation(number))
    }

    /// Removes every pin of this map ABI version.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub(super) fn remove_version(&self) -> Result<(), KernelError> {
        remove(&self.root)
    }

    /// Removes every pin of the instance, of every map ABI version.
    ///
    /// # Errors
    /// If bpffs refuses.
    pub fn remove_all(&self) -> Result<(), KernelError> {
        self.root.parent().map_or(Ok(()), remove)
    }
}

fn names(path: &Path) -> Result<Vec<String>, KernelError> {
    match fs::read_dir(path) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(KernelError::refused(format!("{}: reading it", path.display()))(error)),
    }
}

/// Removes a directory with all that is in it. What cannot be removed keeps nothing else there: a pin that stays is a
/// program that runs.
pub(super) fn remove(path: &Path) -> Result<(), KernelError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(KernelError::refused(format!("{}: removing it", path.display()))(error)),
    };
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return failed(error),
    };
    let mut first = Ok(());
    for entry in entries.flatten() {
        let path = entry.path();
        let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&path)
        } else {
            fs::remove_file(&path).map_err(KernelError::refused(format!("{}: removing it", path.display())))
        };
        first = first.and(removed);
    }
    first.and_then(|()| fs::remove_dir(path).or_else(failed))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Hook, Pins};

    #[test]
    fn pins_of_other_layouts_are_found_and_told_apart() {
        let base = std::env::temp_dir().join(format!("bulkhead-layouts-{}", std::process::id()));
        let pins = Pins::new(&base, "x");
        assert!(pins.others().unwrap().is_empty(), "nothing is there yet");
        pins.create().unwrap();
        for other in ["v90", "v70", "w8", "v", "v7x"] {
            std::fs::create_dir_all(base.join("x").join(other)).unwrap();
        }
        let versions: Vec<_> = pins.others().unwrap().iter().map(Pins::version).collect();
        assert_eq!(versions, [70, 90]);
        let prepared = pins.with_prepared(vec![("EVENTS", pins.next_state(5).join("EVENTS"))]);
        assert_ne!(prepared.state("EVENTS"), pins.state("EVENTS"));
        assert_eq!(prepared.state("FRAGMENTS"), pins.state("FRAGMENTS"));
        std::fs::create_dir_all(pins.next_state(5)).unwrap();
        assert_eq!(pins.states().unwrap(), [pins.root().join("state"), pins.root().join("state-5")]);
        std::fs::remove_dir_all(base).unwrap();
    }

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
