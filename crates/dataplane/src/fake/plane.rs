//! The data plane of a machine in memory.

use std::io;
use std::path::Path;

use bulkhead_abi::{Counter, TlsCounts};
use bulkhead_api::hook::{Hook, RunningLink};

use super::handle::Fake;
use super::links::FakeLinks;
use super::migration::FakeMigration;
use super::tables::{self, FakeDevices, FakeTables, Group};
use crate::plane::Dataplane;
use crate::{Capacity, KernelError, Pins, Specialisation, Specification};

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
    fn tls_counters(
        &self,
        pins: &Pins,
        generation: u32,
        rules: usize,
    ) -> Result<Vec<TlsCounts>, KernelError> {
        self.rule_counters(pins, generation, rules).map(|counts| vec![TlsCounts::default(); counts.len()])
    }
    fn staged_counters(&self, _pins: &Pins, _generation: u32) -> Result<[Counter; 2], KernelError> {
        self.step("read counters").map_err(KernelError::refused("reading counters"))?;
        Ok([Counter::default(); 2])
    }
    fn rewrite_deadlines(
        &self,
        _pins: &Pins,
        _generation: u32,
        _deadlines: &[u64],
        _of_staged: bool,
    ) -> Result<(), KernelError> {
        self.step("write deadlines").map_err(KernelError::refused("writing deadlines"))
    }
}
