//! What the daemon asks of the kernel. [`Kernel`](super::Kernel) answers it; [`Fake`](super::fake::Fake) answers
//! from memory, for tests.
//!
//! Pins, links and loaded tables outlive the process in both. Whatever changes what is enforced is one call a
//! hook or an address, so that a process that is killed may have made any number of them.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use bulkhead_abi::{Counter, Leaf, TlsCounts, Workload};

use super::{
    Attached, Capacity, Device, Fault, Hook, Interface, KernelError, OrphanedEvents, Pins, QuarantineError,
    RunningLink, Specialisation, Specification,
};

/// The data plane of one network namespace.
pub trait Dataplane: Clone + Send + Sync + 'static {
    /// A way to ask for devices, held open.
    type Devices: DeviceTable;
    /// The links of an instance, held open.
    type Links: HookLinks;
    /// The tables of one role of a generation, and the programs that read them.
    type Tables: LoadedTables<Links = Self::Links>;
    /// What is to be done about state of another map ABI or size.
    type Migration: StateMigration<Tables = Self::Tables>;

    /// Opens a way to ask for devices.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn devices(&self) -> io::Result<Self::Devices>;

    /// Finds an interface by its name or by an alternative one.
    ///
    /// # Errors
    /// [`KernelError::NoInterface`] if there is none, or its link layer is one that is not parsed.
    fn interface(&self, name: &str) -> Result<Interface, KernelError> {
        let asked = self.devices().and_then(|devices| devices.by_name(name));
        let what = format!("interface {name}: asking for it");
        match asked.map_err(KernelError::refused(what))? {
            Some(device) => Interface::of(name, &device),
            None => Err(KernelError::NoInterface(name.to_owned())),
        }
    }

    /// Makes the directories of pins.
    ///
    /// # Errors
    /// If bpffs refuses.
    fn create_pins(&self, pins: &Pins) -> Result<(), KernelError>;

    /// The pins of the same instance that agents of other map ABIs made.
    ///
    /// # Errors
    /// If they cannot be read.
    fn other_layouts(&self, pins: &Pins) -> Result<Vec<Pins>, KernelError>;

    /// The numbers of the generations whose tables are pinned, ascending.
    ///
    /// # Errors
    /// If the pins cannot be read.
    fn generations(&self, pins: &Pins) -> Result<Vec<u32>, KernelError>;

    /// The (interface, hook) pairs that have a pinned link.
    ///
    /// # Errors
    /// If the pins cannot be read.
    fn pinned_links(&self, pins: &Pins) -> Result<Vec<(String, Hook)>, KernelError>;

    /// Every pinned link, of every layout, and what it runs.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn running(&self, pins: &Pins) -> Result<Vec<RunningLink>, KernelError>;

    /// Removes a generation's pins; the kernel frees the tables with their last program.
    ///
    /// # Errors
    /// If bpffs refuses.
    fn remove_generation(&self, pins: &Pins, number: u32) -> Result<(), KernelError>;

    /// Removes every pin of the instance, of every layout.
    ///
    /// # Errors
    /// If bpffs refuses.
    fn remove_all(&self, pins: &Pins) -> Result<(), KernelError>;

    /// Detaches every hook and removes every pin of the instance: enforcement ends here. What was attached.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    fn detach(&self, pins: &Pins) -> Result<Vec<(String, Hook)>, KernelError>;

    /// Opens every pinned link of this layout.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn open_links(&self, pins: &Pins) -> Result<Self::Links, KernelError>;

    /// Makes, fills and pins the tables, and loads for each specialisation the programs of the hooks that are
    /// named. Nothing is attached.
    ///
    /// # Errors
    /// If the kernel refuses; what was made is gone again.
    fn load(
        &self,
        specification: &Specification,
        wanted: &[(Specialisation, Vec<Hook>)],
        pins: &Pins,
    ) -> Result<Self::Tables, KernelError>;

    /// Works out what is to be done about other map ABIs' and sizes' state before `generation` can run.
    ///
    /// # Errors
    /// If an agent of another map ABI has attached to a hook that this one does not know.
    fn migration(
        &self,
        pins: &Pins,
        capacity: &Capacity,
        generation: u32,
    ) -> Result<Self::Migration, KernelError>;

    /// Waits until no packet is under way in a program that a hook ran before.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn wait_for_programs(&self) -> Result<(), KernelError>;

    /// Packets and bytes by rule of one generation, all CPUs together.
    ///
    /// # Errors
    /// If its tables are not pinned.
    fn rule_counters(&self, pins: &Pins, generation: u32, rules: usize) -> Result<Vec<Counter>, KernelError>;

    /// How flows of one generation began, by rule, all CPUs together.
    ///
    /// # Errors
    /// If its tables are not pinned.
    fn tls_counters(&self, pins: &Pins, generation: u32, rules: usize)
    -> Result<Vec<TlsCounts>, KernelError>;

    /// Packets that the staged policy of a generation would drop, and those that it would let pass, where the
    /// enforced one did otherwise.
    ///
    /// # Errors
    /// If there is no staged policy, or the kernel refuses.
    fn staged_counters(&self, pins: &Pins, generation: u32) -> Result<[Counter; 2], KernelError>;

    /// Writes the deadlines of a generation that runs, in ns since boot, from index 1 on; of its staged policy if
    /// `of_staged`.
    ///
    /// # Errors
    /// If its tables are not pinned, or hold fewer.
    fn rewrite_deadlines(
        &self,
        pins: &Pins,
        generation: u32,
        deadlines: &[u64],
        of_staged: bool,
    ) -> Result<(), KernelError>;
}

/// Devices of this network namespace.
pub trait DeviceTable: Send + Sync {
    /// The device that has a name, be it an alternative one; `None` if none has.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn by_name(&self, name: &str) -> io::Result<Option<Device>>;

    /// The device of an index; `None` if there is none.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn by_index(&self, index: u32) -> io::Result<Option<Device>>;

    /// The addresses of the device of an index; none if there is no such device. One that another host on the link
    /// has is not among them.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn addresses(&self, index: u32) -> io::Result<BTreeSet<IpAddr>>;

    /// Puts a device into a group.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn set_group(&self, index: u32, group: u32) -> io::Result<()>;
}

/// The links of an instance. While they are held, removing their pins detaches nothing.
pub trait HookLinks: Send {
    /// What is wrong with a hook of the device that has an interface's name: nothing if every packet meets the
    /// link's program first, and that is `program`.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn fault(
        &self,
        interface: &str,
        hook: Hook,
        device: &Device,
        program: u32,
    ) -> Result<Option<Fault>, KernelError>;

    /// The same where rtnetlink has had no news since the device was asked for and had this index.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn fault_without_news(
        &self,
        interface: &str,
        hook: Hook,
        index: u32,
        program: u32,
    ) -> Result<Option<Fault>, KernelError>;

    /// Whether the pin of a hook is there and holds the link.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn is_pinned(&self, interface: &str, hook: Hook, pins: &Pins) -> Result<bool, KernelError>;

    /// Takes away links that were not there `before`, but for those that took the place of one that was.
    fn undo(&mut self, pins: &Pins, before: &[(String, Hook)]);

    /// Detaches from hooks that a former configuration or an interface of another kind used, where others
    /// enforce now.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    fn detach_former(&mut self, attached: &[Attached], pins: &Pins) -> Result<(), KernelError>;

    /// Detaches from every interface that is not among `managed`; which ones.
    ///
    /// # Errors
    /// If a pin cannot be removed.
    fn detach_others(&mut self, pins: &Pins, managed: &[&str]) -> Result<Vec<(String, Hook)>, KernelError>;

    /// Lets go of all of them; what is not pinned is detached.
    fn clear(&mut self);
}

/// Loaded tables of one role, and the programs that its interfaces share.
pub trait LoadedTables: Send {
    /// The links that its programs are put into.
    type Links: HookLinks;

    /// Puts the programs of a specialisation on an interface's hooks, before all others; at ingress on the first
    /// of `ingress` that the kernel takes. `None`: no such programs are loaded.
    ///
    /// # Errors
    /// If a hook refuses. Links that were updated until then stay enforced.
    fn attach(
        &mut self,
        specialisation: Specialisation,
        interface: &Interface,
        ingress: &[Hook],
        pins: &Pins,
        links: &mut Self::Links,
    ) -> Result<Option<Attached>, KernelError>;

    /// Pins maps again whose pins are gone; whether any was.
    ///
    /// # Errors
    /// If bpffs refuses.
    fn keep_pinned(&self, pins: &Pins) -> Result<bool, KernelError>;

    /// What the tables say of an address.
    ///
    /// # Errors
    /// If they cannot be read.
    fn leaf(&self, address: IpAddr) -> Result<Leaf, QuarantineError>;

    /// Cuts an address off from the next packet on, or takes that back.
    ///
    /// # Errors
    /// [`QuarantineError::Full`] if only the next generation can have it.
    fn set_quarantine(&mut self, address: IpAddr, on: bool) -> Result<(), QuarantineError>;

    /// Gives an address other classes from the next packet on. Whether it is cut off stays as it is.
    ///
    /// # Errors
    /// [`QuarantineError::Full`] if only the next generation can have it.
    fn set_leaf(&mut self, address: IpAddr, leaf: Leaf) -> Result<(), QuarantineError>;

    /// What a cell does: its action and flags, as one word.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such cell.
    fn cell(&self, index: u32) -> Result<u32, QuarantineError>;

    /// Has a cell do something else from the next packet on.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such cell.
    fn set_cell(&mut self, index: u32, word: u32) -> Result<(), QuarantineError>;

    /// The class of a point of the axis of ports.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such point.
    fn port_class(&self, point: u32) -> Result<u16, QuarantineError>;

    /// Puts a point into another class from the next packet on.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such point.
    fn set_port_class(&mut self, point: u32, class: u16) -> Result<(), QuarantineError>;

    /// Says which cgroup a workload is, by a local class that its addresses have, from the next packet on.
    ///
    /// # Errors
    /// [`QuarantineError::Broken`] if there is no such class.
    fn set_workload(&mut self, class: u32, workload: Workload) -> Result<(), QuarantineError>;

    /// Records the host's open TCP connections as flows of these zones, and those that it forwards as far as
    /// they are known.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn seed(&mut self, zones: &[u16]) -> Result<Seeded, KernelError>;
}

/// What came of seeding flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seeded {
    /// Connections that are open.
    pub connections: usize,
    /// Flows that the table had no place for.
    pub refused: usize,
}

/// State of another map ABI or size that goes on in tables of this agent's shape.
pub trait StateMigration {
    /// Loaded tables whose programs use the new state.
    type Tables: LoadedTables;

    /// Whether there is anything to do.
    fn is_needed(&self) -> bool;
    /// Whether flows are copied.
    fn is_resized(&self) -> bool;
    /// Whether flows were tracked in a way that this agent does not know.
    fn loses_flows(&self) -> bool;
    /// Tables that are not taken over, by name.
    fn unreadable(&self) -> &[&'static str];
    /// Layout versions that are replaced.
    fn versions(&self) -> Vec<u32>;
    /// Pins of replaced layouts, for counters of their generations.
    fn others(&self) -> &[Pins];
    /// The pins to build the generation with.
    fn prepared(&self) -> Pins;

    /// Links of every layout: what is enforced now.
    ///
    /// # Errors
    /// If the pins cannot be read.
    fn links(&self) -> Result<Vec<(String, Hook)>, KernelError>;

    /// Makes room for the tables.
    ///
    /// # Errors
    /// If bpffs refuses.
    fn prepare(&self) -> Result<(), KernelError>;

    /// Takes the links of other map ABIs over: the same links, under this map ABI's pins.
    ///
    /// # Errors
    /// If bpffs refuses. Every link is still pinned, here or there.
    fn take_links(&self) -> Result<(), KernelError>;

    /// Copies flows into the table to come. How many there were, and how many of them found no place.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn copy_flows(&self, tables: &mut Self::Tables) -> Result<[usize; 2], KernelError>;

    /// What the old tables still tell of drops. Only when no packet is under way in an old program.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn orphaned_events(&self) -> Result<OrphanedEvents, KernelError>;

    /// Puts the tables in their places and removes the old ones, once every hook runs the new generation and no
    /// packet is under way in an old program.
    ///
    /// # Errors
    /// If the kernel refuses; the next start does the rest.
    fn finish(self, tables: &mut Self::Tables) -> Result<(), KernelError>;
}
