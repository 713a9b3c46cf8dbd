//! The handle by which tests and the data plane reach a machine.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_api::hook::Kind;
use bulkhead_engine::change::leaf;

use super::faults::Faults;
use super::machine::{self, Machine, Moment};
use crate::device::Device;
use crate::pins::Pins;

/// One machine's kernel. Clones are the same machine.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    machine: Arc<Mutex<Machine>>,
    faults: Faults,
}

impl Fake {
    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn step(&self, what: &'static str) -> io::Result<()> {
        self.faults.step(what)
    }

    /// Where it breaks.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Adds a device of a kind.
    pub fn add_device(&self, name: &str, kind: Kind) -> u32 {
        let mut machine = self.machine();
        let index = machine.next_id();
        let link_type = if kind == Kind::Ethernet { 1 } else { 0xfffe };
        let device =
            Device { name: name.to_owned(), index, link_type, group: 0, mtu: 1500, xdp: None, port: None };
        machine.devices.insert(index, device);
        index
    }

    /// Gives a device these addresses and no others.
    pub fn set_addresses(&self, index: u32, addresses: impl IntoIterator<Item = IpAddr>) {
        self.machine().addresses.insert(index, addresses.into_iter().collect());
    }

    /// The device's driver has no native XDP.
    pub fn refuse_native_xdp(&self, index: u32) {
        self.machine().without_xdp.insert(index);
    }

    /// Removes a device; its links are detached.
    pub fn remove_device(&self, index: u32) {
        let mut machine = self.machine();
        machine.devices.remove(&index);
        machine.links.values_mut().filter(|link| link.index == index).for_each(|link| link.index = 0);
        machine.note("remove a device");
    }

    /// The machine starts again: pins and all else but its devices are gone.
    pub fn reboot(&self) {
        let mut machine = self.machine();
        machine.links.clear();
        machine.layouts.clear();
        machine.tables.clear();
        machine.history.clear();
    }

    /// What ran on the devices after each change, in order, since this was asked for last.
    #[must_use]
    pub fn take_history(&self) -> Vec<(&'static str, Moment)> {
        std::mem::take(&mut self.machine().history)
    }

    /// What runs on the devices now.
    #[must_use]
    pub fn now(&self) -> Moment {
        let mut machine = self.machine();
        machine.note("asked");
        machine.history.pop().map(|(_, moment)| moment).unwrap_or_default()
    }

    /// Whether every program that is attached drops what is from or to an address.
    #[must_use]
    pub fn is_cut_off(&self, address: IpAddr) -> bool {
        let machine = self.machine();
        let mut attached = machine.links.values().filter(|link| link.index != 0);
        attached.all(|link| {
            let tables = machine.programs.get(&link.program).and_then(|key| machine.tables.get(key));
            tables.is_some_and(|tables| leaf(tables, address).is_ok_and(|leaf| leaf.quarantined()))
        })
    }

    /// What is pinned below the directory of an instance: layouts' directories, each with its entries.
    #[must_use]
    pub fn pinned(&self, pins: &Pins) -> Vec<String> {
        let machine = self.machine();
        let instance = pins.root().parent();
        let mut all = Vec::new();
        for (root, layout) in machine.layouts.iter().filter(|(root, _)| root.parent() == instance) {
            let version = machine::version(root);
            all.extend(layout.generations.keys().map(|number| format!("v{version}/generation-{number}")));
            let links = layout.links.keys();
            all.extend(links.map(|(name, hook)| format!("v{version}/links/{name}/{}", hook.name())));
            all.extend(layout.states.keys().map(|state| format!("v{version}/{state}")));
        }
        all
    }

    /// What this map ABI has pinned is another map ABI's from now on, as if its agent had made it.
    pub fn age(&self, pins: &Pins) {
        let mut machine = self.machine();
        let Some(old) = machine.layouts.remove(pins.root()) else { return };
        let root = pins.root().with_file_name(format!("v{}", pins.version() - 1));
        for (path, _, _) in machine.programs.values_mut() {
            if path == pins.root() {
                path.clone_from(&root);
            }
        }
        let tables = std::mem::take(&mut machine.tables);
        let rename = |path: std::path::PathBuf| if path == pins.root() { root.clone() } else { path };
        machine.tables =
            tables.into_iter().map(|((path, number, role), t)| ((rename(path), number, role), t)).collect();
        machine.layouts.insert(root, old);
    }

    pub(super) fn others(&self, pins: &Pins) -> Vec<Pins> {
        let machine = self.machine();
        let is_other = |root: &&Path| root.parent() == pins.root().parent() && *root != pins.root();
        let others = machine.layouts.keys().map(std::path::PathBuf::as_path).filter(is_other);
        others.map(|root| pins.with_version(machine::version(root))).collect()
    }

    pub(super) fn remove_layout(&self, pins: &Pins) {
        let mut machine = self.machine();
        let keys: Vec<_> = machine.layout(pins).links.keys().cloned().collect();
        keys.iter().for_each(|key| machine.unpin(pins.root(), key));
        machine.layouts.remove(pins.root());
        machine.note("remove pins");
    }
}
