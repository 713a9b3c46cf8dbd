//! One generation: freshly made tables and a program for each interface, specialised by its
//! read-only globals.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::Map;
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use bulkhead_engine::exact::ExactTable;
use bulkhead_engine::layout::{
    FEATURE_AUDIT, FEATURE_SHADOW, INTERFACE_BARE_IP, INTERFACE_ETHERNET, NESTING_LEVELS, Rate, Settings,
    Timeouts,
};
use bulkhead_engine::memory::Tables;

use super::direct::{DirectMaps, REALTIME};
use super::programs::{FLOW_IMPORT, Program, chain, load};
use super::shape::{self, check_pinned_state};
use super::tables::{self, ENFORCED, OBSERVED, fill_tables, make_direct};
use super::{
    CHAIN_MAPS, Capacity, FlowTable, Importer, Interface, KernelError, Kind, OBJECT, Pins, SHADOW_MAPS,
    STATE_MAPS, TABLE_MAPS,
};

/// A generation that only observes: what it decides otherwise is counted and reported.
#[derive(Clone, Copy, Debug)]
pub struct Shadow<'a> {
    /// Its number, as in reports.
    pub number: u32,
    /// Its compiled tables. Deadlines in ns since boot.
    pub tables: &'a Tables,
}

/// What a generation is made of.
#[derive(Clone, Debug)]
pub struct Specification<'a> {
    /// Its number, from 1.
    pub number: u32,
    /// The compiled tables. Deadlines in ns since boot.
    pub tables: &'a Tables,
    /// A second generation that only observes.
    pub shadow: Option<Shadow<'a>>,
    /// Report what would be dropped, and let it pass.
    pub audit: bool,
    /// Time-outs of flows.
    pub timeouts: Timeouts,
    /// Sizes of the tables that outlive generations.
    pub capacity: Capacity,
    /// How many flows one sender may begin.
    pub new_flows: Rate,
    /// Drops that one CPU reports in a second.
    pub event_budget: u32,
    /// `LINK_` bits by interface: the link protocols that pass there.
    pub links: HashMap<String, u8>,
    /// Programs may interrupt each other on a CPU: see [`super::is_realtime`].
    pub realtime: bool,
    /// A clock for tests, ns; else the kernel's.
    pub fixed_clock: Option<u64>,
    /// The programs and maps: [`OBJECT`], but for tests that change it.
    pub object: &'a [u8],
}

impl<'a> Specification<'a> {
    /// A generation that enforces `tables`, with default sizes, no rate and nothing else.
    #[must_use]
    pub fn new(number: u32, tables: &'a Tables, timeouts: Timeouts) -> Self {
        Self {
            number,
            tables,
            shadow: None,
            audit: false,
            timeouts,
            capacity: Capacity::default(),
            new_flows: Rate::default(),
            event_budget: u32::MAX,
            links: HashMap::new(),
            realtime: super::is_realtime(),
            fixed_clock: None,
            object: OBJECT,
        }
    }
}

/// A generation whose tables are filled and whose programs the verifier has accepted.
pub struct Generation {
    /// Its number.
    pub number: u32,
    /// A candidate observes.
    observed: bool,
    objects: HashMap<String, Ebpf>,
    tables: DirectMaps,
}

impl Generation {
    /// Makes the tables and loads the programs. Nothing is attached. With `pins` the maps are
    /// pinned, and shared by all interfaces; without, `interfaces` must be one.
    ///
    /// # Errors
    /// If the kernel refuses; what was made is gone again.
    pub fn build(
        specification: &Specification,
        interfaces: &[(Interface, u16)],
        pins: Option<&Pins>,
    ) -> Result<Self, KernelError> {
        assert!(pins.is_some() || interfaces.len() == 1, "unpinned maps cannot be shared");
        let built = Self::build_objects(specification, interfaces, pins);
        if built.is_err()
            && let Some(pins) = pins
        {
            pins.remove_generation(specification.number)?;
        }
        let (objects, tables) = built?;
        let observed = specification.shadow.is_some();
        Ok(Self { number: specification.number, observed, objects, tables })
    }

    fn build_objects(
        specification: &Specification,
        interfaces: &[(Interface, u16)],
        pins: Option<&Pins>,
    ) -> Result<(HashMap<String, Ebpf>, DirectMaps), KernelError> {
        if let Some(pins) = pins {
            check_pinned_state(pins, &specification.capacity)?;
            let path = pins.generation(specification.number);
            fs::create_dir_all(&path)
                .map_err(KernelError::refused(format!("{}: creating it", path.display())))?;
        }
        let mut objects = HashMap::new();
        let exact = with_spare(specification)?;
        let mut tables = DirectMaps::new(pins.map(|pins| (pins, specification.number)));
        tables.set(REALTIME, specification.realtime.into());
        make_direct(&mut tables, specification.tables, &exact, &ENFORCED)?;
        if let Some(Shadow { tables: observed, .. }) = specification.shadow {
            make_direct(&mut tables, observed, &observed.exact, &OBSERVED)?;
        }
        let code = tables.relocate(specification.object)?;
        for (position, (interface, zone)) in interfaces.iter().enumerate() {
            let mut object =
                load_object(specification, &code, interface, *zone, pins.map(|pins| (pins, position)))?;
            if objects.is_empty() {
                flow_table(&object)?.give_seed()?;
                fill_tables(specification.tables, &ENFORCED, &mut object)?;
                if let Some(shadow) = specification.shadow {
                    fill_tables(shadow.tables, &OBSERVED, &mut object)?;
                }
            }
            // Ethernet frames are seen by XDP at ingress, always.
            let by_xdp = pins.is_some() && interface.kind == Kind::Ethernet;
            let without = by_xdp.then_some(Program::TcIngress);
            let enforced = Program::ENFORCED.into_iter().filter(|program| Some(*program) != without);
            let observed = enforced.clone().filter(|_| specification.shadow.is_some());
            let observers = observed.clone().map(Program::observer);
            load(&mut object, &enforced.chain(observers).map(Program::name).collect::<Vec<_>>())?;
            for enforced in observed {
                chain(&mut object, enforced)?;
            }
            #[cfg(feature = "bpf-log")]
            super::programs::start_log(&mut object)?;
            objects.insert(interface.name.clone(), object);
        }
        Ok((objects, tables))
    }

    /// The name of the program that a hook gets for an enforced one: while a candidate is staged the
    /// observing one, which goes on with it.
    pub(super) fn on_hook(&self, enforced: Program) -> &'static str {
        if self.observed { enforced.observer().name() } else { enforced.name() }
    }

    /// A loaded TC program: `tc_ingress` or `tc_egress`, or one that observes before it.
    ///
    /// # Errors
    /// If the interface has none.
    pub fn classifier(&mut self, interface: &str, name: &str) -> Result<&mut SchedClassifier, KernelError> {
        let program = self.object(interface)?.program_mut(name).ok_or_else(|| missing(name))?;
        program.try_into().map_err(KernelError::refused(format!("program {name}")))
    }

    /// A loaded XDP program: `xdp_ingress`, or one that observes before it.
    ///
    /// # Errors
    /// If the interface has none.
    pub fn xdp(&mut self, interface: &str, name: &str) -> Result<&mut Xdp, KernelError> {
        let program = self.object(interface)?.program_mut(name).ok_or_else(|| missing(name))?;
        program.try_into().map_err(KernelError::refused(format!("program {name}")))
    }

    /// The descriptor of a loaded program of an interface.
    ///
    /// # Errors
    /// If the interface has none.
    pub(super) fn program(&self, interface: &str, name: &str) -> Result<BorrowedFd<'_>, KernelError> {
        let object = self.objects.get(interface).ok_or_else(|| missing(interface))?;
        let program = object.program(name).ok_or_else(|| missing(name))?;
        Ok(program.fd().map_err(KernelError::refused(format!("program {name}")))?.as_fd())
    }

    /// The program that stores flows in the table that its programs use.
    ///
    /// # Errors
    /// If the verifier refuses it.
    pub fn importer(&mut self) -> Result<Importer<'_>, KernelError> {
        let name = FLOW_IMPORT;
        let object = self.objects.values_mut().next().ok_or_else(|| missing(name))?;
        let program = object.program(name).ok_or_else(|| missing(name))?;
        if program.fd().is_err() {
            load(object, &[name])?;
        }
        let program = object.program_mut(name).ok_or_else(|| missing(name))?;
        Ok(Importer(program.try_into().map_err(KernelError::refused(format!("program {name}")))?))
    }

    /// The table of flows that its programs use.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn flows(&self) -> Result<FlowTable, KernelError> {
        flow_table(self.objects.values().next().ok_or_else(|| missing("FLOWS"))?)
    }

    /// A map of the generation or of the state that it shares.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn map_mut(&mut self, name: &str) -> Result<&mut Map, KernelError> {
        let object = self.objects.values_mut().next().ok_or_else(|| missing(name))?;
        object.map_mut(name).ok_or_else(|| missing(name))
    }

    /// The descriptor of a map of the generation, or of the state that it shares.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn descriptor(&self, name: &str) -> Result<BorrowedFd<'_>, KernelError> {
        let of_object = |object| Ebpf::map(object, name).and_then(descriptor_of);
        let found = self.tables.descriptor(name).or_else(|| self.objects.values().find_map(of_object));
        found.ok_or_else(|| missing(name))
    }

    /// How many instructions the verifier followed, by program.
    #[must_use]
    pub fn verified(&self) -> Vec<(String, u32)> {
        let programs = self.objects.values().flat_map(Ebpf::programs);
        let counted = programs.filter_map(|(name, program)| {
            Some((name.to_owned(), program.info().ok()?.verified_instruction_count()?))
        });
        counted.collect()
    }

    fn object(&mut self, interface: &str) -> Result<&mut Ebpf, KernelError> {
        self.objects.get_mut(interface).ok_or_else(|| missing(interface))
    }
}

/// The descriptor of a map of the types that the object has.
fn descriptor_of(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::PerCpuArray(data)
        | Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}

pub(super) fn missing(name: &str) -> KernelError {
    KernelError::Refused { what: format!("generation: {name}"), source: "not in the BPF object".into() }
}

fn flow_table(object: &Ebpf) -> Result<FlowTable, KernelError> {
    match object.map("FLOWS") {
        Some(Map::Array(data)) => FlowTable::map(data),
        _ => Err(missing("FLOWS")),
    }
}

/// The exact table with room for addresses that are cut off while it runs.
fn with_spare<'a>(specification: &Specification<'a>) -> Result<Cow<'a, ExactTable>, KernelError> {
    let spare = specification.capacity.spare_addresses as usize;
    specification.tables.exact.with_room(spare).map_err(|_| KernelError::Refused {
        what: format!("making room for {spare} addresses more"),
        source: "too many addresses have the same hash".into(),
    })
}

fn settings_of(specification: &Specification, interface: &Interface, zone: u16) -> Settings {
    let tables = specification.tables;
    let mut features = tables.features();
    if specification.audit {
        features |= FEATURE_AUDIT;
    }
    if specification.shadow.is_some() {
        features |= FEATURE_SHADOW;
    }
    if specification.fixed_clock.is_some() {
        features |= bulkhead_engine::layout::FEATURE_FIXED_CLOCK;
    }
    Settings {
        fixed_clock: specification.fixed_clock.unwrap_or(0),
        generation: specification.number,
        features,
        locals: tables.locals,
        remotes: tables.remotes,
        timeouts: specification.timeouts,
        new_flows: specification.new_flows,
        event_budget: specification.event_budget,
        flow_mask: specification.capacity.flow_buckets() - 1,
        reserved: 0,
        zone,
        interface: match interface.kind {
            Kind::Ethernet => INTERFACE_ETHERNET,
            Kind::BareIp => INTERFACE_BARE_IP,
        },
        link: specification.links.get(&interface.name).copied().unwrap_or(0),
    }
}

/// What the program knows of the generation that only observes.
fn shadow_settings_of(specification: &Specification) -> Settings {
    specification.shadow.map_or(Settings::UNSET, |Shadow { number, tables }| Settings {
        generation: number,
        features: tables.features(),
        locals: tables.locals,
        remotes: tables.remotes,
        ..Settings::UNSET
    })
}

/// Where packets are worked on if programs may interrupt each other: a case and the shadow's for each
/// place, and a search.
const NESTED_PLACES: &[(&str, u32)] = &[("CASES", 2 * NESTING_LEVELS), ("SEARCH", NESTING_LEVELS)];

/// [`Settings`] as aya takes globals.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Global(Settings);
// SAFETY: repr(C), no padding (its size is asserted where it is defined), plain integers.
unsafe impl aya::Pod for Global {}

fn load_object(
    specification: &Specification,
    code: &[u8],
    interface: &Interface,
    zone: u16,
    pins: Option<(&Pins, usize)>,
) -> Result<Ebpf, KernelError> {
    let capacity = &specification.capacity;
    let settings = Global(settings_of(specification, interface, zone));
    let mut loader = EbpfLoader::new();
    let shadow_settings = Global(shadow_settings_of(specification));
    loader.override_global("SETTINGS", &settings, true);
    loader.override_global("SHADOW_SETTINGS", &shadow_settings, true);
    let mut sizes = tables::sizes(specification.tables, &ENFORCED);
    if let Some(shadow) = specification.shadow {
        sizes.extend(tables::sizes(shadow.tables, &OBSERVED));
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
        let observed: &[&str] = if specification.shadow.is_some() { SHADOW_MAPS } else { &[] };
        for name in TABLE_MAPS.iter().chain(observed) {
            loader.map_pin_path(name, pins.table(specification.number, name));
        }
        for name in CHAIN_MAPS.iter().filter(|_| specification.shadow.is_some()) {
            loader.map_pin_path(name, pins.chain(specification.number, name, position));
        }
    }
    loader.load(code).map_err(KernelError::refused("loading the BPF object"))
}
