//! Loaded tables of the fake kernel.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use bulkhead_abi::{Leaf, Workload};
use bulkhead_api::hook::{Attached, Hook};
use bulkhead_engine::change::{change, leaf};

use super::super::plane::{LoadedTables, Seeded};
use super::super::quarantine::does;
use super::super::{Interface, KernelError, Pins, QuarantineError, Specialisation};
use super::handle::Fake;
use super::links::FakeLinks;
use super::machine::TablesKey;

/// The programs of one specialisation: those for TCX at ingress, for TCX at egress and for XDP.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) specialisation: Specialisation,
    pub(super) programs: [u32; 3],
}

impl Group {
    fn program(&self, hook: Hook) -> u32 {
        self.programs[match hook {
            Hook::TcxIngress => 0,
            Hook::TcxEgress => 1,
            Hook::XdpNative | Hook::XdpGeneric => 2,
        }]
    }
}

/// Tables of one role, and the programs that read them.
#[derive(Debug)]
pub struct FakeTables {
    pub(super) fake: Fake,
    pub(super) key: TablesKey,
    pub(super) groups: Vec<Group>,
}

impl FakeTables {
    /// The first of the candidates that the kernel takes, and why it is not the first of them.
    fn attach_ingress(
        &self,
        group: &Group,
        interface: &Interface,
        candidates: &[Hook],
        pins: &Pins,
        links: &mut FakeLinks,
    ) -> Result<(Hook, Option<String>), KernelError> {
        let generic = (interface.name.clone(), Hook::XdpGeneric);
        let has_generic = self.fake.machine().find(pins).is_some_and(|l| l.links.contains_key(&generic));
        if candidates.contains(&Hook::XdpNative) && has_generic {
            links.put(interface, Hook::TcxIngress, group.program(Hook::TcxIngress), pins)?;
            links.remove(&interface.name, Hook::XdpGeneric, pins)?;
        }
        let mut fallback = None;
        for (place, hook) in candidates.iter().enumerate() {
            match links.put(interface, *hook, group.program(*hook), pins) {
                Ok(()) => return Ok((*hook, fallback)),
                Err(error) if place + 1 == candidates.len() => return Err(error),
                Err(error) => fallback = Some(error.to_string()),
            }
        }
        Err(KernelError::NoInterface(interface.name.clone()))
    }
}

impl LoadedTables for FakeTables {
    type Links = FakeLinks;

    fn attach(
        &mut self,
        specialisation: Specialisation,
        interface: &Interface,
        ingress: &[Hook],
        pins: &Pins,
        links: &mut FakeLinks,
    ) -> Result<Option<Attached>, KernelError> {
        let Some(group) = self.groups.iter().find(|group| group.specialisation == specialisation) else {
            return Ok(None);
        };
        self.fake.step("make a directory of links").map_err(KernelError::refused("making it"))?;
        let (hook, fallback) = self.attach_ingress(group, interface, ingress, pins, links)?;
        links.put(interface, Hook::TcxEgress, group.program(Hook::TcxEgress), pins)?;
        links.evict(&interface.name, interface.index, pins)?;
        let hooks = vec![hook, Hook::TcxEgress];
        let programs: Vec<u32> = hooks.iter().map(|hook| group.program(*hook)).collect();
        let tags = programs.iter().map(|program| format!("{program:016x}")).collect();
        let Interface { name, device, index, group: in_group, .. } = interface.clone();
        Ok(Some(Attached {
            device,
            index,
            group: in_group,
            hooks,
            programs,
            tags,
            fallback,
            ..Attached::absent(&name)
        }))
    }

    fn keep_pinned(&self, pins: &Pins) -> Result<bool, KernelError> {
        let (_, number, role) = &self.key;
        Ok(self.fake.machine().layout(pins).generations.entry(*number).or_default().insert(role))
    }

    fn leaf(&self, address: IpAddr) -> Result<Leaf, QuarantineError> {
        let machine = self.fake.machine();
        Ok(leaf(&machine.tables[&self.key], address)?)
    }

    fn set_quarantine(&mut self, address: IpAddr, on: bool) -> Result<(), QuarantineError> {
        match self.fake.step("write an address") {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Err(QuarantineError::Full),
            written => written.map_err(KernelError::refused("writing an address"))?,
        }
        let mut machine = self.fake.machine();
        let tables = machine.tables.get_mut(&self.key).ok_or(QuarantineError::Broken)?;
        Ok(change(tables, address, |leaf| leaf.with_quarantine(on))?)
    }

    fn set_leaf(&mut self, address: IpAddr, wanted: Leaf) -> Result<(), QuarantineError> {
        match self.fake.step("write an address") {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Err(QuarantineError::Full),
            written => written.map_err(KernelError::refused("writing an address"))?,
        }
        let mut machine = self.fake.machine();
        let tables = machine.tables.get_mut(&self.key).ok_or(QuarantineError::Broken)?;
        Ok(change(tables, address, |leaf| wanted.with_quarantine(leaf.quarantined()))?)
    }

    fn cell(&self, index: u32) -> Result<u32, QuarantineError> {
        let machine = self.fake.machine();
        machine.tables[&self.key].cells.get(index as usize).map(does).ok_or(QuarantineError::Broken)
    }

    fn set_cell(&mut self, index: u32, word: u32) -> Result<(), QuarantineError> {
        self.fake.step("write a cell").map_err(KernelError::refused("writing a cell"))?;
        let mut machine = self.fake.machine();
        let tables = machine.tables.get_mut(&self.key).ok_or(QuarantineError::Broken)?;
        let cell = tables.cells.get_mut(index as usize).ok_or(QuarantineError::Broken)?;
        [cell.action, cell.flags, ..] = word.to_ne_bytes();
        Ok(())
    }

    fn port_class(&self, point: u32) -> Result<u16, QuarantineError> {
        let machine = self.fake.machine();
        let ports = machine.tables[&self.key].ports.as_flattened();
        ports.get(point as usize).copied().ok_or(QuarantineError::Broken)
    }

    fn set_port_class(&mut self, point: u32, class: u16) -> Result<(), QuarantineError> {
        self.fake.step("write a port's class").map_err(KernelError::refused("writing a port's class"))?;
        let mut machine = self.fake.machine();
        let tables = machine.tables.get_mut(&self.key).ok_or(QuarantineError::Broken)?;
        let ports = tables.ports.as_flattened_mut();
        *ports.get_mut(point as usize).ok_or(QuarantineError::Broken)? = class;
        Ok(())
    }

    fn set_workload(&mut self, class: u32, workload: Workload) -> Result<(), QuarantineError> {
        self.fake.step("write a workload").map_err(KernelError::refused("writing a workload"))?;
        let mut machine = self.fake.machine();
        let tables = machine.tables.get_mut(&self.key).ok_or(QuarantineError::Broken)?;
        *tables.workloads.get_mut(class as usize).ok_or(QuarantineError::Broken)? = workload;
        Ok(())
    }

    fn seed(&mut self, _zones: &[u16]) -> Result<Seeded, KernelError> {
        self.fake.step("seed flows").map_err(KernelError::refused("seeding flows"))?;
        Ok(Seeded::default())
    }
}

/// Devices of the fake kernel.
#[derive(Debug)]
pub struct FakeDevices(pub(super) Fake);

impl super::super::plane::DeviceTable for FakeDevices {
    fn by_name(&self, name: &str) -> io::Result<Option<super::super::Device>> {
        self.0.step("ask for a device")?;
        Ok(self.0.machine().by_name(name).cloned())
    }
    fn by_index(&self, index: u32) -> io::Result<Option<super::super::Device>> {
        self.0.step("ask for a device")?;
        Ok(self.0.machine().devices.get(&index).cloned())
    }
    fn addresses(&self, index: u32) -> io::Result<BTreeSet<IpAddr>> {
        self.0.step("ask for addresses")?;
        let machine = self.0.machine();
        let is_there = machine.devices.contains_key(&index);
        Ok(machine.addresses.get(&index).filter(|_| is_there).cloned().unwrap_or_default())
    }
    fn set_group(&self, index: u32, group: u32) -> io::Result<()> {
        self.0.step("put a device into a group")?;
        self.0.machine().devices.entry(index).and_modify(|device| device.group = group);
        Ok(())
    }
}

/// Where a process finds the tables that its programs read.
pub(super) fn key(pins: &Pins, number: u32) -> TablesKey {
    let root: PathBuf = pins.root().to_owned();
    (root, number, pins.role())
}
