//! A kernel in memory, for tests: as far as the daemon can see it behaves as the real one does.
//!
//! Pins, links and tables outlive the process that made them; a link that nobody pins or holds is detached;
//! hooks change one at a time. Every call is a counted step that can be refused or never be made ([`Faults`]).

mod faults;
mod links;
mod machine;
mod migration;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bulkhead_abi::Counter;
use bulkhead_api::hook::{Hook, RunningLink};
use bulkhead_engine::change::leaf;

pub use self::faults::{Crash, Fault, Faults};
pub use self::links::FakeLinks;
use self::machine::Machine;
pub use self::machine::Moment;
pub use self::migration::FakeMigration;
use self::tables::Group;
pub use self::tables::{FakeDevices, FakeTables};
use super::plane::Dataplane;
use super::{Capacity, Device, KernelError, Kind, Pins, Specialisation, Specification};

/// One machine's kernel. Clones are the same machine.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    machine: Arc<Mutex<Machine>>,
    faults: Faults,
}

impl Fake {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, what: &'static str) -> io::Result<()> {
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
        let device = Device { name: name.to_owned(), index, link_type, group: 0, xdp: None, port: None };
        machine.devices.insert(index, device);
        index
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

    /// What this layout has pinned is another layout's from now on, as if its agent had made it.
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

    fn others(&self, pins: &Pins) -> Vec<Pins> {
        let machine = self.machine();
        let is_other = |root: &&Path| root.parent() == pins.root().parent() && *root != pins.root();
        let others = machine.layouts.keys().map(std::path::PathBuf::as_path).filter(is_other);
        others.map(|root| pins.with_version(machine::version(root))).collect()
    }

    fn remove_layout(&self, pins: &Pins) {
        let mut machine = self.machine();
        let keys: Vec<_> = machine.layout(pins).links.keys().cloned().collect();
        keys.iter().for_each(|key| machine.unpin(pins.root(), key));
        machine.layouts.remove(pins.root());
        machine.note("remove pins");
    }
}

impl Dataplane for Fake {
    type Devices = FakeDevices;
    type Links = FakeLinks;
    type Tables = FakeTables;
    type Migration = FakeMigration;

    fn devices(&self) -> io::Result<FakeDevices> {
        Ok(FakeDevices(self.clone()))
    }
    fn create_pins(&self, pins: &Pins) -> Result<(), KernelError> {
        self.step("make directories of pins").map_err(KernelError::refused("making directories"))?;
        self.machine().layout(pins);
        Ok(())
    }
    fn other_layouts(&self, pins: &Pins) -> Result<Vec<Pins>, KernelError> {
        Ok(self.others(pins))
    }
    fn generations(&self, pins: &Pins) -> Result<Vec<u32>, KernelError> {
        self.step("list generations").map_err(KernelError::refused("reading pins"))?;
        let machine = self.machine();
        Ok(machine.find(pins).map(|layout| layout.generations.keys().copied().collect()).unwrap_or_default())
    }
    fn pinned_links(&self, pins: &Pins) -> Result<Vec<(String, Hook)>, KernelError> {
        self.step("list links").map_err(KernelError::refused("reading pins"))?;
        let machine = self.machine();
        Ok(machine.find(pins).map(|layout| layout.links.keys().cloned().collect()).unwrap_or_default())
    }
    fn running(&self, pins: &Pins) -> Result<Vec<RunningLink>, KernelError> {
        self.step("ask what runs").map_err(KernelError::refused("asking what runs"))?;
        Ok(self.machine().running(pins))
    }
    fn remove_generation(&self, pins: &Pins, number: u32) -> Result<(), KernelError> {
        self.step("remove a generation").map_err(KernelError::refused("removing a generation"))?;
        self.machine().remove_generation(pins.root(), number, pins.role());
        Ok(())
    }
    fn remove_all(&self, pins: &Pins) -> Result<(), KernelError> {
        for layout in self.others(pins).iter().chain([pins]) {
            let links = self.machine().find(layout).map(|layout| layout.links.clone()).unwrap_or_default();
            for key in links.keys() {
                self.step("remove a link's pin").map_err(KernelError::refused("removing pins"))?;
                self.machine().unpin(layout.root(), key);
                self.machine().note("remove a link's pin");
            }
            self.step("remove pins").map_err(KernelError::refused("removing pins"))?;
            self.remove_layout(layout);
        }
        Ok(())
    }
    fn detach(&self, pins: &Pins) -> Result<Vec<(String, Hook)>, KernelError> {
        let links =
            self.machine().running(pins).into_iter().map(|link| (link.interface, link.hook)).collect();
        self.remove_all(pins)?;
        Ok(links)
    }
    fn open_links(&self, pins: &Pins) -> Result<FakeLinks, KernelError> {
        self.step("open links").map_err(KernelError::refused("opening links"))?;
        Ok(FakeLinks::open(self, pins))
    }
    fn load(
        &self,
        specification: &Specification,
        wanted: &[(Specialisation, Vec<Hook>)],
        pins: &Pins,
    ) -> Result<FakeTables, KernelError> {
        let number = specification.number;
        self.step("make tables").map_err(KernelError::refused("making tables"))?;
        let key = tables::key(pins, number);
        {
            let mut machine = self.machine();
            let (root, _, role) = &key;
            let state = pins.state("FLOWS");
            let directory = state.parent().and_then(Path::file_name).unwrap_or_default();
            let directory = directory.to_string_lossy().into_owned();
            let layout = machine.layouts.entry(root.clone()).or_default();
            layout.generations.entry(number).or_default().insert(role);
            layout.states.entry(directory).or_insert(specification.capacity.flows);
            machine.tables.insert(key.clone(), specification.tables.clone());
        }
        if let Err(error) = self.step("load programs") {
            self.machine().remove_generation(pins.root(), number, pins.role());
            return Err(KernelError::refused("loading programs")(error));
        }
        let mut machine = self.machine();
        let mut load = || {
            let id = machine.next_id();
            machine.programs.insert(id, key.clone());
            id
        };
        let groups = wanted.iter().map(|(specialisation, _)| Group {
            specialisation: *specialisation,
            programs: [load(), load(), load()],
        });
        let groups = groups.collect();
        drop(machine);
        Ok(FakeTables { fake: self.clone(), key, groups })
    }
    fn migration(
        &self,
        pins: &Pins,
        capacity: &Capacity,
        generation: u32,
    ) -> Result<FakeMigration, KernelError> {
        self.step("plan a migration").map_err(KernelError::refused("planning a migration"))?;
        Ok(FakeMigration::plan(self, pins, capacity, generation))
    }
    fn wait_for_programs(&self) -> Result<(), KernelError> {
        self.step("wait for programs").map_err(KernelError::refused("waiting for programs"))
    }
    fn rule_counters(&self, pins: &Pins, generation: u32, rules: usize) -> Result<Vec<Counter>, KernelError> {
        self.step("read counters").map_err(KernelError::refused("reading counters"))?;
        let machine = self.machine();
        let is_pinned = machine.find(pins).is_some_and(|layout| layout.generations.contains_key(&generation));
        let missing = || io::Error::from_raw_os_error(libc::ENOENT);
        is_pinned
            .then(|| vec![Counter::default(); rules])
            .ok_or_else(missing)
            .map_err(KernelError::refused("reading counters"))
    }
    fn shadow_counters(&self, _pins: &Pins, _generation: u32) -> Result<[Counter; 2], KernelError> {
        self.step("read counters").map_err(KernelError::refused("reading counters"))?;
        Ok([Counter::default(); 2])
    }
    fn rewrite_deadlines(
        &self,
        _pins: &Pins,
        _generation: u32,
        _deadlines: &[u64],
        _of_shadow: bool,
    ) -> Result<(), KernelError> {
        self.step("write deadlines").map_err(KernelError::refused("writing deadlines"))
    }
}

/// The generations of a moment, each once.
#[must_use]
pub fn generations(moment: &Moment) -> BTreeSet<u32> {
    moment.values().flatten().copied().collect()
}
