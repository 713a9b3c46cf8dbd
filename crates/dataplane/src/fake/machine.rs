//! What the fake kernel holds: devices, links, programs and pins.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bulkhead_api::hook::{Fault, Hook, RunningLink};
use bulkhead_engine::memory::Tables;

use super::super::{Device, Pins};

/// Whose tables a program reads: the directory of the layout's pins, the generation, and the role's directory.
pub(super) type TablesKey = (PathBuf, u32, &'static str);

/// A link: attached to a device as long as it is pinned or held.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// 0 once it is detached.
    pub(super) index: u32,
    pub(super) hook: Hook,
    pub(super) program: u32,
    pub(super) pins: usize,
    pub(super) holders: usize,
}

/// The pins of one map ABI version.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pub(super) generations: BTreeMap<u32, BTreeSet<&'static str>>,
    pub(super) links: BTreeMap<(String, Hook), u32>,
    /// Places in the table of flows, by directory.
    pub(super) states: BTreeMap<String, u32>,
}

/// Which generations the programs of each device run at one moment, by the device's name and whether packets
/// leave there.
pub type Moment = BTreeMap<(String, bool), BTreeSet<u32>>;

#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) devices: BTreeMap<u32, Device>,
    /// Addresses by the device's index.
    pub(super) addresses: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// Devices whose driver has no native XDP.
    pub(super) without_xdp: BTreeSet<u32>,
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) programs: BTreeMap<u32, TablesKey>,
    pub(super) tables: BTreeMap<TablesKey, Tables>,
    pub(super) layouts: BTreeMap<PathBuf, Layout>,
    pub(super) history: Vec<(&'static str, Moment)>,
    last: u32,
}

impl Machine {
    pub(super) fn next_id(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    pub(super) fn layout(&mut self, pins: &Pins) -> &mut Layout {
        self.layouts.entry(pins.root().to_owned()).or_default()
    }

    pub(super) fn find(&self, pins: &Pins) -> Option<&Layout> {
        self.layouts.get(pins.root())
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Device> {
        self.devices.values().find(|device| device.name == name)
    }

    /// Notes what runs after something has changed.
    pub(super) fn note(&mut self, what: &'static str) {
        let mut moment = Moment::new();
        for link in self.links.values() {
            let Some(device) = self.devices.get(&link.index) else { continue };
            let generation = self.programs.get(&link.program).map_or(0, |(_, number, _)| *number);
            let is_egress = link.hook == Hook::TcxEgress;
            moment.entry((device.name.clone(), is_egress)).or_default().insert(generation);
        }
        self.history.push((what, moment));
    }

    /// What nobody pins or holds is gone.
    pub(super) fn collect(&mut self) {
        self.links.retain(|_, link| link.pins + link.holders != 0);
    }

    pub(super) fn pin(&mut self, pins: &Pins, key: (String, Hook), link: u32) {
        let before = self.layout(pins).links.insert(key, link);
        if before == Some(link) {
            return;
        }
        if let Some(link) = self.links.get_mut(&link) {
            link.pins += 1;
        }
        self.unpinned(before);
    }

    pub(super) fn unpin(&mut self, root: &Path, key: &(String, Hook)) {
        let before = self.layouts.get_mut(root).and_then(|layout| layout.links.remove(key));
        self.unpinned(before);
    }

    fn unpinned(&mut self, link: Option<u32>) {
        if let Some(link) = link.and_then(|link| self.links.get_mut(&link)) {
            link.pins -= 1;
        }
        self.collect();
    }

    /// Removes a generation's tables, or those of one role.
    pub(super) fn remove_generation(&mut self, root: &Path, number: u32, role: &str) {
        let Some(layout) = self.layouts.get_mut(root) else { return };
        if role.is_empty() {
            layout.generations.remove(&number);
        } else if let Some(roles) = layout.generations.get_mut(&number) {
            roles.remove(role);
        }
    }

    /// What is wrong with a link that is to be on the device of a name.
    pub(super) fn fault(&self, link: u32, device: Option<&Device>) -> Option<Fault> {
        let Some(device) = device else { return Some(Fault::NoDevice) };
        match self.links.get(&link) {
            None | Some(Link { index: 0, .. }) => Some(Fault::Detached),
            Some(link) if link.index != device.index => Some(Fault::Elsewhere { index: link.index }),
            Some(_) => None,
        }
    }

    pub(super) fn running(&self, pins: &Pins) -> Vec<RunningLink> {
        let mut running = Vec::new();
        let instance = pins.root().parent();
        for (root, layout) in self.layouts.iter().filter(|(root, _)| root.parent() == instance) {
            for ((interface, hook), id) in &layout.links {
                let Some(link) = self.links.get(id) else { continue };
                let is_pinned = |(root, number, _): &&TablesKey| {
                    self.layouts.get(root).is_some_and(|layout| layout.generations.contains_key(number))
                };
                let generation = self.programs.get(&link.program).filter(is_pinned);
                running.push(RunningLink {
                    interface: interface.clone(),
                    hook: *hook,
                    index: link.index,
                    program: link.program,
                    generation: generation.map(|(_, number, _)| *number),
                    layout: version(root),
                    fault: self.fault(*id, self.by_name(interface)),
                });
            }
        }
        running
    }
}

/// The map ABI version of a directory of pins.
pub(super) fn version(root: &Path) -> u32 {
    let name = root.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix('v').and_then(|version| version.parse().ok()).unwrap_or(0)
}
