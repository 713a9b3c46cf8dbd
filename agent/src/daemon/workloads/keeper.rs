//! Holds workloads to their addresses: which cgroups they are now, and the programs there.
//!
//! In the order of every step here nothing is open in between: programs are on a cgroup before it may use an address,
//! and a cgroup that was not looked at yet uses no overlay address at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context as _;
use bulkhead_dataplane::{
    CgroupFault, CgroupLinks, CgroupSet, CgroupSpecification, Pins, Place, WorkloadAddresses,
};
use bulkhead_policy::compile::Workloads;

use super::found::{Found, find, warnings};
use super::tree::{Cgroup, Tree, is_gone, mount_point};
use crate::daemon::state::held;

/// Which cgroup each workload that runs is: its id, and how far below the root it lies.
pub type Assigned = BTreeMap<String, (u64, u32)>;

/// What holds this host's workloads to their addresses.
#[derive(Default)]
pub struct Keeper(Mutex<Kept>);

/// What is known.
#[derive(Default)]
pub(super) struct Kept {
    /// What is enforced.
    wanted: Workloads,
    /// What was found of each.
    pub(super) found: BTreeMap<String, Found>,
    /// Why the last look failed.
    pub(super) problem: Option<String>,
    /// What an operator should know of cgroups that match.
    warnings: Vec<String>,
    /// Up to which id the set takes cgroups for known.
    seen: u64,
    set: Option<CgroupSet>,
    /// The set is not attached everywhere yet.
    is_new: bool,
    /// Others are about to be enforced: whoever is none of theirs stays what it is until then.
    is_preparing: bool,
    links: Option<CgroupLinks>,
    /// What nobody was told of yet.
    untold: Looked,
    root: Option<PathBuf>,
}

/// What one look has brought.
#[derive(Debug, Default)]
pub struct Looked {
    /// Workloads of which something else was found than before.
    pub changed: Vec<(String, Found)>,
    /// Programs that somebody had taken away, and that are there again: of which workload (none: of the root cgroup).
    pub restored: Vec<(Option<String>, CgroupFault)>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// Which cgroups workloads are now: none, if they cannot be read. Without workloads nothing is asked.
    ///
    /// # Errors
    /// If there are no cgroups.
    pub fn assigned(&self, workloads: &Workloads) -> anyhow::Result<Assigned> {
        if workloads.each.is_empty() {
            return Ok(Assigned::new());
        }
        let tree = held(&self.0).tree_or_nobody()?;
        Ok(assigned(&find(workloads, &tree)))
    }

    /// Before other workloads are enforced: holds these to their addresses, and keeps those of the ones before from
    /// everybody else.
    ///
    /// # Errors
    /// If the kernel refuses. What was held before still is.
    pub fn prepare(&self, pins: &Pins, next: &Workloads, to_all: bool) -> anyhow::Result<()> {
        let mut kept = held(&self.0);
        let is_former = |address: &IpAddr| !next.each.iter().any(|one| one.addresses.contains(address));
        // Whichever agent has attached what holds them.
        let before = kept.links(pins)?.held()?.into_iter();
        let former = before.filter(is_former).filter(|address| !next.host.contains(address)).collect();
        let specification = specification(next, former, to_all);
        if specification.is_empty() {
            return Ok(());
        }
        kept.put(pins, specification)?;
        kept.wanted = next.clone();
        kept.is_preparing = true;
        let tree = kept.tree_or_nobody()?;
        kept.look(&tree, pins, |_| Ok(()))
    }

    /// Once these workloads are enforced: holds these, and lets go of all else.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn settle(&self, pins: &Pins, now: &Workloads, to_all: bool) -> anyhow::Result<()> {
        let mut kept = held(&self.0);
        kept.wanted = now.clone();
        kept.is_preparing = false;
        let specification = specification(now, Vec::new(), to_all);
        if specification.is_empty() {
            return kept.release(pins);
        }
        kept.put(pins, specification)?;
        let tree = kept.tree_or_nobody()?;
        kept.look(&tree, pins, |_| Ok(()))
    }

    /// Looks at the cgroups, and at what is attached to them, and restores it. `publish` tells the programs on
    /// interfaces which cgroups workloads are, after the programs on these are attached.
    ///
    /// # Errors
    /// If the kernel refuses. Who is not known by then uses no overlay address.
    pub fn look(
        &self,
        pins: &Pins,
        publish: impl FnOnce(&Assigned) -> anyhow::Result<()>,
    ) -> anyhow::Result<Looked> {
        let mut kept = held(&self.0);
        if kept.set.is_none() {
            kept.problem = None;
            return Ok(Looked::default());
        }
        let looked = kept.tree().and_then(|tree| kept.look(&tree, pins, publish));
        kept.problem = looked.as_ref().err().map(|error| format!("{error:#}"));
        looked.map(|()| std::mem::take(&mut kept.untold))
    }

    /// Whether there are workloads to be held to anything.
    pub fn has_any(&self) -> bool {
        held(&self.0).set.is_some()
    }

    /// Where cgroup2 is mounted, once that was asked.
    pub fn root(&self) -> Option<PathBuf> {
        held(&self.0).root.clone()
    }

    /// Lets go of everything; what is not pinned is detached. Until others are to be held nothing is looked at.
    pub fn clear(&self) {
        let mut kept = held(&self.0);
        kept.links = None;
        kept.set = None;
        kept.wanted = Workloads::default();
        kept.found.clear();
        kept.warnings.clear();
    }

    /// What is known, for `status`.
    pub(super) fn known<T>(
        &self,
        of: impl FnOnce(&Workloads, &BTreeMap<String, Found>, &[String]) -> T,
    ) -> T {
        let kept = held(&self.0);
        of(&kept.wanted, &kept.found, &kept.warnings)
    }

    /// Why the cgroups are not known as they are now.
    pub fn problem(&self) -> Option<String> {
        let problem = held(&self.0).problem.clone()?;
        Some(format!("workloads are not looked at, and new cgroups stay off the overlay: {problem}"))
    }
}

/// What programs on cgroups are made for.
fn specification(workloads: &Workloads, former: Vec<IpAddr>, to_all: bool) -> CgroupSpecification {
    let each = workloads.each.iter().map(|workload| WorkloadAddresses {
        name: workload.name.clone(),
        addresses: workload.addresses.clone(),
    });
    CgroupSpecification {
        workloads: each.collect(),
        host: workloads.host.clone(),
        former,
        overlay: workloads.overlay.iter().map(|prefix| (prefix.addr(), prefix.prefix_len())).collect(),
        refuse_bypass_to_all: to_all,
    }
}

fn assigned(found: &BTreeMap<String, Found>) -> Assigned {
    found.iter().filter_map(|(name, found)| Some((name.clone(), found.holder()?))).collect()
}

impl Kept {
    fn root(&mut self) -> anyhow::Result<PathBuf> {
        if self.root.is_none() {
            self.root = Some(mount_point().context("workloads are cgroups, which cannot be read")?);
        }
        self.root.clone().context("no cgroups")
    }

    fn tree(&mut self) -> anyhow::Result<Tree> {
        let root = self.root()?;
        Tree::read(&root).with_context(|| format!("{}: reading the cgroups", root.display()))
    }

    /// The same, or none of them: nobody has a workload's addresses until they can be read.
    fn tree_or_nobody(&mut self) -> anyhow::Result<Tree> {
        self.root()?;
        Ok(self.tree().unwrap_or_else(|error| {
            tracing::error!("no workload runs until its cgroup can be read: {error:#}");
            self.problem = Some(format!("{error:#}"));
            Tree::default()
        }))
    }

    /// The links, those of an earlier agent included.
    fn links(&mut self, pins: &Pins) -> anyhow::Result<&mut CgroupLinks> {
        if self.links.is_none() {
            self.links = Some(CgroupLinks::open(pins)?);
        }
        self.links.as_mut().context("no links")
    }

    /// Loads programs for other addresses, unless they are loaded. The next look puts them where the ones before are.
    fn put(&mut self, pins: &Pins, specification: CgroupSpecification) -> anyhow::Result<()> {
        if self.set.as_ref().is_none_or(|set| *set.specification() != specification) {
            self.set = Some(CgroupSet::load(specification, pins)?);
            self.is_new = true;
            self.seen = 0;
        }
        Ok(())
    }

    fn look(
        &mut self,
        tree: &Tree,
        pins: &Pins,
        publish: impl FnOnce(&Assigned) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let root = self.root()?;
        let now = find(&self.wanted, tree);
        self.warnings = warnings(&self.wanted, tree, &now);
        let mut restored = Vec::new();
        let before = self.found.clone();
        self.links(pins)?;
        let Self { set: Some(set), links: Some(links), .. } = self else { return Ok(()) };
        // Whoever does not run any more, first: another may be about to get the address.
        for name in before.keys().chain(now.keys()) {
            let holder = now.get(name).and_then(Found::holder);
            if before.get(name).and_then(Found::holder) != holder {
                set.hold(name, None)?;
            }
        }
        let mut gone = BTreeSet::new();
        // Whoever may be a workload and could not be held is not taken for known.
        let (mut known, mut failed) = (tree.last, None);
        let mut in_use = BTreeSet::new();
        for (name, found) in &now {
            // Also where nobody may say whose they are: none of them speaks as the host.
            for cgroup in found.cgroups() {
                if !in_use.insert(cgroup.id) {
                    continue;
                }
                let place = Place::Cgroup(cgroup.id);
                let Some(fault) = links.fault(set, place, Some(name), pins)? else { continue };
                let attached = open(&root, cgroup).and_then(|directory| {
                    let Some(directory) = directory else { return Ok(false) };
                    match links.attach(set, place, Some(name), directory.as_fd(), pins) {
                        Err(_) if matches!(open(&root, cgroup), Ok(None)) => Ok(false),
                        attached => Ok(attached.map(|()| true)?),
                    }
                });
                match attached {
                    Ok(true) => {}
                    // It has ended meanwhile, and another may be there under its name: the next look tells.
                    Ok(false) => {
                        gone.insert(name.clone());
                        continue;
                    }
                    Err(error) => {
                        known = known.min(cgroup.id.saturating_sub(1));
                        failed.get_or_insert(error.context(format!("workload {name}")));
                        gone.insert(name.clone());
                        continue;
                    }
                }
                if before.get(name) == Some(found) && !self.is_new {
                    restored.push((Some(name.clone()), fault));
                }
            }
        }
        let mut now = now;
        for name in gone {
            now.insert(name, Found::NotRunning);
        }
        for (name, found) in &now {
            set.hold(name, found.holder())?;
        }
        publish(&assigned(&now))?;
        self.seen = self.seen.max(known);
        set.see(self.seen)?;
        // Programs of another set know by now whom they let pass.
        if let Some(fault) = links.fault(set, Place::Host, None, pins)? {
            let directory = File::open(&root).with_context(|| format!("{}: opening it", root.display()))?;
            links.attach(set, Place::Host, None, directory.as_fd(), pins)?;
            if !self.is_new {
                restored.push((None, fault));
            }
        }
        self.is_new = false;
        let there: BTreeSet<u64> = tree.cgroups.iter().map(|cgroup| cgroup.id).collect();
        for place in links.places() {
            let Place::Cgroup(id) = place else { continue };
            if self.is_preparing || in_use.contains(&id) {
                continue;
            }
            // The sockets of a cgroup that is gone may live on. They do not become the host's.
            if there.contains(&id) || links.is_dead(place)? {
                links.detach(place, pins)?;
            }
        }
        let changed = now.iter().filter(|(name, found)| before.get(*name) != Some(found));
        let changed = changed.map(|(name, found)| (name.clone(), found.clone()));
        self.untold.changed.extend(changed);
        self.untold.restored.extend(restored);
        self.found = now;
        failed.map_or(Ok(()), Err)
    }

    /// Detaches everything: there are no workloads any more.
    fn release(&mut self, pins: &Pins) -> anyhow::Result<()> {
        let links = self.links(pins)?;
        // The workloads' own first: whoever is one no longer is the host's.
        for place in links.places().into_iter().rev() {
            links.detach(place, pins)?;
        }
        self.set = None;
        self.found.clear();
        self.warnings.clear();
        self.problem = None;
        Ok(())
    }
}

/// Opens a cgroup; none if it is gone, and perhaps another there under its name.
fn open(root: &Path, cgroup: &Cgroup) -> anyhow::Result<Option<File>> {
    use std::os::unix::fs::MetadataExt as _;
    let path = root.join(&cgroup.directory);
    let opened = File::open(&path).and_then(|directory| {
        let id = directory.metadata()?.ino();
        Ok((id == cgroup.id).then_some(directory))
    });
    match opened {
        Err(error) if is_gone(&error) => Ok(None),
        opened => opened.with_context(|| format!("{}: opening it", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};

    use bulkhead_policy::compile::{CompiledWorkload, Workloads};
    use bulkhead_policy::inventory::Matches;

    use super::{Cgroup, Keeper, held, open};

    #[test]
    fn without_a_look_nobody_runs_and_it_is_told() {
        let engine = CompiledWorkload {
            name: "h/engine".to_owned(),
            addresses: Vec::new(),
            classes: Vec::new(),
            matches: Matches { units: vec!["engine.service".to_owned()], cgroups: Vec::new() },
        };
        let keeper = Keeper::default();
        held(&keeper.0).root = Some("/proc/no/such".into());
        let assigned = keeper.assigned(&Workloads { each: vec![engine], ..Workloads::default() }).unwrap();
        assert!(assigned.is_empty());
        assert!(
            keeper.problem().unwrap().contains("/proc/no/such: reading the cgroups"),
            "{:?}",
            keeper.problem()
        );
    }

    #[test]
    fn only_what_is_gone_is_gone() {
        let base = std::env::temp_dir().join(format!("bulkhead-open-{}", std::process::id()));
        std::fs::create_dir_all(base.join("a")).unwrap();
        std::fs::write(base.join("file"), "").unwrap();
        let id = std::fs::metadata(base.join("a")).unwrap().ino();
        let at = |directory: &str, id| {
            let cgroup = Cgroup {
                path: String::new(),
                directory: PathBuf::from(directory),
                id,
                level: 1,
                is_roots: true,
                is_agents: false,
            };
            open(Path::new(&base), &cgroup).map(|directory| directory.is_some())
        };
        assert!(at("a", id).unwrap());
        assert!(!at("a", id + 1).unwrap() && !at("b", id).unwrap() && !at("file/b", id).unwrap());
        assert!(at(&"x".repeat(300), id).is_err());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
