//! The programs that interfaces share: loaded once for all that agree in what specialises them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::programs::{ProgramInfo, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use bulkhead_abi::{
    FEATURE_AUDIT, FEATURE_LOOPBACK, FEATURE_STAGED, INTERFACE_BARE_IP, INTERFACE_ETHERNET, NESTING_LEVELS,
    Settings,
};

use super::object::missing;
use super::outward::outward_ports;
use super::programs::{self, Loadable, Program};
use super::shape;
use super::tables::{self, ENFORCED, STAGED_TABLES};
use super::{
    CHAIN_MAPS, Hook, KernelError, Kind, Pins, STAGED_MAPS, STATE_MAPS, Specification, Staged, TABLE_MAPS,
};

/// What programs of one generation are specialised by. Interfaces that agree in it share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Specialisation {
    /// What the interfaces hand over.
    pub kind: Kind,
    /// Flows are shared within a zone.
    pub zone: u16,
    /// `LINK_` bits: the link protocols that pass.
    pub link: u32,
    /// It is `lo`, both ends of whose packets are this host's.
    pub is_loopback: bool,
}

impl Specialisation {
    /// Of interfaces of a kind in a zone, where no link protocol passes.
    #[must_use]
    pub const fn new(kind: Kind, zone: u16) -> Self {
        Self { kind, zone, link: 0, is_loopback: false }
    }
}

/// One specialisation of a generation: its maps, and its programs for any number of interfaces.
pub struct Group {
    specialisation: Specialisation,
    object: Ebpf,
    /// A staged policy observes.
    observed: bool,
}

impl Group {
    /// Reads the object. `position` tells the generation's groups apart.
    pub(super) fn new(
        specification: &Specification,
        code: &[u8],
        specialisation: Specialisation,
        pins: Option<(&Pins, usize)>,
    ) -> Result<Self, KernelError> {
        let object = load_object(specification, code, specialisation, pins)?;
        Ok(Self { specialisation, object, observed: specification.staged.is_some() })
    }

    /// What its programs are specialised by.
    #[must_use]
    pub fn specialisation(&self) -> Specialisation {
        self.specialisation
    }

    pub(super) fn object(&self) -> &Ebpf {
        &self.object
    }

    pub(super) fn object_mut(&mut self) -> &mut Ebpf {
        &mut self.object
    }

    /// The programs of these hooks that are not loaded yet.
    pub(super) fn unloaded(&mut self, hooks: &[Hook]) -> Result<Vec<Loadable<'_>>, KernelError> {
        let enforced = hooks.iter().map(|hook| Program::at(*hook));
        let observed = self.observed;
        let wanted = enforced.flat_map(|program| [Some(program), observed.then(|| program.observer())]);
        let names: BTreeSet<&'static str> = wanted.flatten().map(Program::name).collect();
        programs::unloaded(&mut self.object, &names)
    }

    /// Lets the observers of these hooks go on with the enforced programs, once all are loaded.
    pub(super) fn chain(&mut self, hooks: &[Hook]) -> Result<(), KernelError> {
        for hook in hooks.iter().filter(|_| self.observed) {
            programs::chain(&mut self.object, Program::at(*hook))?;
        }
        Ok(())
    }

    /// Loads the programs of a hook, unless they are loaded.
    pub(super) fn load(&mut self, hook: Hook) -> Result<(), KernelError> {
        let unloaded = self.unloaded(&[hook])?;
        if unloaded.is_empty() {
            return Ok(());
        }
        programs::load(unloaded)?;
        self.chain(&[hook])
    }

    /// The name of the program that a hook gets: while a policy is staged the staged one, which
    /// goes on with the enforced one.
    pub(super) fn on_hook(&self, hook: Hook) -> &'static str {
        let enforced = Program::at(hook);
        if self.observed { enforced.observer().name() } else { enforced.name() }
    }

    /// Whether a staged policy observes.
    pub(super) fn is_observed(&self) -> bool {
        self.observed
    }

    /// The loaded program that a hook gets.
    ///
    /// # Errors
    /// If it is not loaded.
    pub(super) fn program(&self, hook: Hook) -> Result<BorrowedFd<'_>, KernelError> {
        let name = self.on_hook(hook);
        let fd = self.object.program(name).ok_or_else(|| missing(name))?.fd();
        Ok(fd.map_err(KernelError::refused(format!("program {name}")))?.as_fd())
    }

    /// The number and the tag of the program on a hook, as the kernel says.
    ///
    /// # Errors
    /// If it is not loaded.
    pub(super) fn program_id(&self, hook: Hook) -> Result<(u32, String), KernelError> {
        let info = self.info(self.on_hook(hook))?;
        Ok((info.id(), format!("{:016x}", info.tag())))
    }

    /// The number of the program that enforces at a hook, as the kernel says.
    ///
    /// # Errors
    /// If it is not loaded.
    pub(super) fn enforcing_id(&self, hook: Hook) -> Result<u32, KernelError> {
        Ok(self.info(Program::at(hook).name())?.id())
    }

    fn info(&self, name: &'static str) -> Result<ProgramInfo, KernelError> {
        let info = self.object.program(name).ok_or_else(|| missing(name))?.info();
        info.map_err(KernelError::refused(format!("program {name}")))
    }

    /// A TC program: `tc_ingress` or `tc_egress`, or one that observes before it.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn classifier(&mut self, name: &str) -> Result<&mut SchedClassifier, KernelError> {
        let program = self.object.program_mut(name).ok_or_else(|| missing(name))?;
        program.try_into().map_err(KernelError::refused(format!("program {name}")))
    }

    /// An XDP program: `xdp_ingress`, or one that observes before it.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn xdp(&mut self, name: &str) -> Result<&mut Xdp, KernelError> {
        let program = self.object.program_mut(name).ok_or_else(|| missing(name))?;
        program.try_into().map_err(KernelError::refused(format!("program {name}")))
    }
}

pub(super) fn settings_of(specification: &Specification, specialisation: Specialisation) -> Settings {
    let Specialisation { kind, zone, link, is_loopback } = specialisation;
    let tables = specification.tables;
    let mut features = tables.features();
    if specification.audit {
        features |= FEATURE_AUDIT;
    }
    if specification.staged.is_some() {
        features |= FEATURE_STAGED;
    }
    if is_loopback {
        features |= FEATURE_LOOPBACK;
    }
    if specification.fixed_clock.is_some() {
        features |= bulkhead_abi::FEATURE_FIXED_CLOCK;
    }
    Settings {
        fixed_clock: specification.fixed_clock.unwrap_or(0),
        generation: specification.number,
        features,
        locals: tables.locals,
        remotes: tables.remotes,
        wide: tables.wide,
        outward_ports: outward_ports(),
        timeouts: specification.timeouts,
        new_flows: specification.new_flows,
        event_budget: specification.event_budget,
        allowed_budget: specification.allowed.budget,
        allowed_mask: specification.allowed.one_in.saturating_sub(1),
        flow_mask: specification.capacity.flow_buckets() - 1,
        forwarded_until: specification.forwarded_until,
        link,
        zone,
        interface: match kind {
            Kind::Ethernet => INTERFACE_ETHERNET,
            Kind::BareIp => INTERFACE_BARE_IP,
        },
        reserved: [0; 5],
    }
}

/// What the program knows of the generation that only observes.
fn staged_settings_of(specification: &Specification) -> Settings {
    specification.staged.map_or(Settings::UNSET, |Staged { number, tables }| Settings {
        generation: number,
        features: tables.features(),
        locals: tables.locals,
        remotes: tables.remotes,
        ..Settings::UNSET
    })
}

/// Where packets are worked on if programs may interrupt each other: metadata and the staged's for each
/// place, and a search.
const NESTED_PLACES: &[(&str, u32)] = &[("METADATA", 2 * NESTING_LEVELS), ("SEARCH", NESTING_LEVELS)];

/// [`Settings`] as aya takes globals.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Global(Settings);
// SAFETY: repr(C), no padding (its size is asserted where it is defined), plain integers.
unsafe impl aya::Pod for Global {}

fn load_object(
    specification: &Specification,
    code: &[u8],
    specialisation: Specialisation,
    pins: Option<(&Pins, usize)>,
) -> Result<Ebpf, KernelError> {
    let capacity = &specification.capacity;
    let settings = Global(settings_of(specification, specialisation));
    let mut loader = EbpfLoader::new();
    let staged_settings = Global(staged_settings_of(specification));
    loader.override_global("SETTINGS", &settings, true);
    loader.override_global("STAGED_SETTINGS", &staged_settings, true);
    let mut sizes = tables::sizes(specification.tables, &ENFORCED);
    if let Some(staged) = specification.staged {
        sizes.extend(tables::sizes(staged.tables, &STAGED_TABLES));
    }
    for (name, entries) in sizes {
        // A map has at least one entry; one that is empty is never hit.
        let entries =
            u32::try_from(entries.max(1)).map_err(KernelError::refused(format!("map {name}: its size")))?;
        loader.map_max_entries(name, entries);
    }
    let places = if specification.realtime { NESTED_PLACES } else { [].as_slice() };
    for (name, entries) in shape::sizes(capacity).into_iter().chain(places.iter().copied()) {
        loader.map_max_entries(name, entries);
    }
    if let Some((pins, position)) = pins {
        for name in STATE_MAPS {
            loader.map_pin_path(name, pins.state(name));
        }
        let observed: &[&str] = if specification.staged.is_some() { STAGED_MAPS } else { &[] };
        for name in TABLE_MAPS.iter().chain(observed) {
            loader.map_pin_path(name, pins.table(specification.number, name));
        }
        for name in CHAIN_MAPS.iter().filter(|_| specification.staged.is_some()) {
            loader.map_pin_path(name, pins.chain(specification.number, name, position));
        }
    }
    loader.load(code).map_err(KernelError::refused("loading the BPF object"))
}
