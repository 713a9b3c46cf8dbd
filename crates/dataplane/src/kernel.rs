//! The data plane that the kernel is.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use bulkhead_abi::{Counter, Leaf, TlsCounts, Workload};
use bulkhead_engine::change::leaf;

use super::plane::{Dataplane, DeviceTable, HookLinks, LoadedTables, Seeded, StateMigration};
use super::{
    AddressTables, Attached, Capacity, Device, Devices, Fault, Generation, Hook, Interface, KernelError,
    Links, Migration, OrphanedEvents, Pins, QuarantineError, RunningLink, Specialisation, Specification,
    attach, attached_hooks, connections, conntrack, detach, flow_clock, rewrite_deadlines, rule_counters,
    running, seed, staged_counters, tls_counters, wait_for_programs,
};

/// The kernel, in the calling thread's network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

/// Tables and programs of one role in the kernel.
pub struct KernelTables {
    generation: Generation,
    addresses: AddressTables,
}

impl Dataplane for Kernel {
    type Devices = Devices;
    type Links = Links;
    type Tables = KernelTables;
    type Migration = Migration;

    fn devices(&self) -> io::Result<Devices> {
        Devices::open()
    }
    fn create_pins(&self, pins: &Pins) -> Result<(), KernelError> {
        pins.create()
    }
    fn other_layouts(&self, pins: &Pins) -> Result<Vec<Pins>, KernelError> {
        pins.others()
    }
    fn generations(&self, pins: &Pins) -> Result<Vec<u32>, KernelError> {
        pins.generations()
    }
    fn pinned_links(&self, pins: &Pins) -> Result<Vec<(String, Hook)>, KernelError> {
        attached_hooks(pins)
    }
    fn running(&self, pins: &Pins) -> Result<Vec<RunningLink>, KernelError> {
        running(pins)
    }
    fn remove_generation(&self, pins: &Pins, number: u32) -> Result<(), KernelError> {
        pins.remove_generation(number)
    }
    fn remove_all(&self, pins: &Pins) -> Result<(), KernelError> {
        pins.remove_all()
    }
    fn detach(&self, pins: &Pins) -> Result<Vec<(String, Hook)>, KernelError> {
        detach(pins)
    }
    fn open_links(&self, pins: &Pins) -> Result<Links, KernelError> {
        Links::open(pins)
    }
    fn load(
        &self,
        specification: &Specification,
        wanted: &[(Specialisation, Vec<Hook>)],
        pins: &Pins,
    ) -> Result<KernelTables, KernelError> {
        let generation = Generation::build(specification, wanted, Some(pins))?;
        let addresses = AddressTables::open(pins, specification.number)?;
        Ok(KernelTables { generation, addresses })
    }
    fn migration(&self, pins: &Pins, capacity: &Capacity, generation: u32) -> Result<Migration, KernelError> {
        Migration::plan(pins, capacity, generation)
    }
    fn wait_for_programs(&self) -> Result<(), KernelError> {
        wait_for_programs()
    }
    fn rule_counters(&self, pins: &Pins, generation: u32, rules: usize) -> Result<Vec<Counter>, KernelError> {
        rule_counters(pins, generation, rules)
    }
    fn tls_counters(
        &self,
        pins: &Pins,
        generation: u32,
        rules: usize,
    ) -> Result<Vec<TlsCounts>, KernelError> {
        tls_counters(pins, generation, rules)
    }
    fn staged_counters(&self, pins: &Pins, generation: u32) -> Result<[Counter; 2], KernelError> {
        staged_counters(pins, generation)
    }
    fn rewrite_deadlines(
        &self,
        pins: &Pins,
        generation: u32,
        deadlines: &[u64],
        of_staged: bool,
    ) -> Result<(), KernelError> {
        rewrite_deadlines(pins, generation, deadlines, of_staged)
    }
}

impl DeviceTable for Devices {
    fn by_name(&self, name: &str) -> io::Result<Option<Device>> {
        Self::by_name(self, name)
    }
    fn by_index(&self, index: u32) -> io::Result<Option<Device>> {
        Self::by_index(self, index)
    }
    fn addresses(&self, index: u32) -> io::Result<BTreeSet<IpAddr>> {
        Self::addresses(self, index)
    }
    fn set_group(&self, index: u32, group: u32) -> io::Result<()> {
        Self::set_group(self, index, group)
    }
}

impl HookLinks for Links {
    fn fault(
        &self,
        interface: &str,
        hook: Hook,
        device: &Device,
        program: u32,
    ) -> Result<Option<Fault>, KernelError> {
        Self::fault(self, interface, hook, device, program)
    }
    fn fault_without_news(
        &self,
        interface: &str,
        hook: Hook,
        index: u32,
        program: u32,
    ) -> Result<Option<Fault>, KernelError> {
        Self::fault_without_news(self, interface, hook, index, program)
    }
    fn is_pinned(&self, interface: &str, hook: Hook, pins: &Pins) -> Result<bool, KernelError> {
        Self::is_pinned(self, interface, hook, pins)
    }
    fn undo(&mut self, pins: &Pins, before: &[(String, Hook)]) {
        Self::undo(self, pins, before);
    }
    fn detach_former(&mut self, attached: &[Attached], pins: &Pins) -> Result<(), KernelError> {
        Self::detach_former(self, attached, pins)
    }
    fn detach_others(&mut self, pins: &Pins, managed: &[&str]) -> Result<Vec<(String, Hook)>, KernelError> {
        Self::detach_others(self, pins, managed)
    }
    fn clear(&mut self) {
        Self::clear(self);
    }
}

impl LoadedTables for KernelTables {
    type Links = Links;

    fn attach(
        &mut self,
        specialisation: Specialisation,
        interface: &Interface,
        ingress: &[Hook],
        pins: &Pins,
        links: &mut Links,
    ) -> Result<Option<Attached>, KernelError> {
        let Some(group) = self.generation.group(specialisation) else { return Ok(None) };
        attach(group, interface, ingress, pins, links).map(Some)
    }
    fn keep_pinned(&self, pins: &Pins) -> Result<bool, KernelError> {
        self.generation.keep_pinned(pins)
    }
    fn leaf(&self, address: IpAddr) -> Result<Leaf, QuarantineError> {
        leaf(&self.addresses, address)
    }
    fn set_quarantine(&mut self, address: IpAddr, on: bool) -> Result<(), QuarantineError> {
        self.addresses.set(address, on)
    }
    fn set_leaf(&mut self, address: IpAddr, leaf: Leaf) -> Result<(), QuarantineError> {
        self.addresses.set_leaf(address, leaf)
    }
    fn cell(&self, index: u32) -> Result<u32, QuarantineError> {
        self.addresses.cell(index)
    }
    fn set_cell(&mut self, index: u32, word: u32) -> Result<(), QuarantineError> {
        self.addresses.set_cell(index, word)
    }
    fn port_class(&self, point: u32) -> Result<u16, QuarantineError> {
        self.addresses.port_class(point)
    }
    fn set_port_class(&mut self, point: u32, class: u16) -> Result<(), QuarantineError> {
        self.addresses.set_port_class(point, class)
    }
    fn set_workload(&mut self, class: u32, workload: Workload) -> Result<(), QuarantineError> {
        self.addresses.set_workload(class, workload)
    }
    fn seed(&mut self, zones: &[u16]) -> Result<Seeded, KernelError> {
        let own = connections()?;
        let tracked = conntrack::connections();
        let now = flow_clock();
        let refused = seed(&mut self.generation.importer()?, &own, zones, now)?
            + conntrack::seed(&mut self.generation.importer()?, &tracked, zones, now)?;
        Ok(Seeded { connections: own.len() + tracked.len(), refused })
    }
}

impl StateMigration for Migration {
    type Tables = KernelTables;

    fn is_needed(&self) -> bool {
        Self::is_needed(self)
    }
    fn is_resized(&self) -> bool {
        Self::is_resized(self)
    }
    fn loses_flows(&self) -> bool {
        Self::loses_flows(self)
    }
    fn unreadable(&self) -> &[&'static str] {
        Self::unreadable(self)
    }
    fn versions(&self) -> Vec<u32> {
        Self::versions(self)
    }
    fn others(&self) -> &[Pins] {
        Self::others(self)
    }
    fn prepared(&self) -> Pins {
        Self::prepared(self)
    }
    fn links(&self) -> Result<Vec<(String, Hook)>, KernelError> {
        Self::links(self)
    }
    fn prepare(&self) -> Result<(), KernelError> {
        Self::prepare(self)
    }
    fn take_links(&self) -> Result<(), KernelError> {
        Self::take_links(self)
    }
    fn copy_flows(&self, tables: &mut KernelTables) -> Result<[usize; 2], KernelError> {
        Self::copy_flows(self, &mut tables.generation.importer()?)
    }
    fn orphaned_events(&self) -> Result<OrphanedEvents, KernelError> {
        Self::orphaned_events(self)
    }
    fn finish(self, tables: &mut KernelTables) -> Result<(), KernelError> {
        Self::finish(self, &mut tables.generation.importer()?)
    }
}
