//! One generation: freshly made tables and a program for each interface, specialised by its
//! read-only globals.

use std::collections::HashMap;
use std::fs;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap as HashTable, Map, MapData, ProgramArray};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use bulkhead_engine::layout::{
    FEATURE_AUDIT, FEATURE_SHADOW, INTERFACE_BARE_IP, INTERFACE_ETHERNET, Rate, Settings, Timeouts,
};
use bulkhead_engine::memory::Tables;

use super::fill::fill;
use super::shape::{self, check_pinned_state};
use super::{
    CHAIN_MAPS, Capacity, Interface, KernelError, Kind, OBJECT, Pins, SHADOW_MAPS, STATE_MAPS, TABLE_MAPS,
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
    /// A clock for tests, ns; else the kernel's.
    pub fixed_clock: Option<u64>,
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
            fixed_clock: None,
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
        Ok(Self { number: specification.number, observed: specification.shadow.is_some(), objects: built? })
    }

    fn build_objects(
        specification: &Specification,
        interfaces: &[(Interface, u16)],
        pins: Option<&Pins>,
    ) -> Result<HashMap<String, Ebpf>, KernelError> {
        if let Some(pins) = pins {
            check_pinned_state(pins, &specification.capacity)?;
            let path = pins.generation(specification.number);
            fs::create_dir_all(&path)
                .map_err(KernelError::refused(format!("{}: creating it", path.display())))?;
        }
        let mut objects = HashMap::new();
        for (position, (interface, zone)) in interfaces.iter().enumerate() {
            let mut object = load_object(specification, interface, *zone, pins.map(|pins| (pins, position)))?;
            if objects.is_empty() {
                fill_tables(specification.tables, &ENFORCED, &mut object)?;
                if let Some(shadow) = specification.shadow {
                    fill_tables(shadow.tables, &OBSERVED, &mut object)?;
                }
            }
            // Ethernet frames are seen by XDP at ingress, always.
            let by_xdp = pins.is_some() && interface.kind == Kind::Ethernet;
            load_programs(&mut object, |program| {
                !(by_xdp && program.is_tc_ingress() || program.observes() && specification.shadow.is_none())
            })?;
            if specification.shadow.is_some() {
                chain(&mut object)?;
            }
            objects.insert(interface.name.clone(), object);
        }
        Ok(objects)
    }

    /// The name of the program that a hook gets in the place of `enforced`: the observing one, which
    /// goes on with it, while a candidate is staged.
    #[must_use]
    pub fn on_hook(&self, enforced: &'static str) -> &'static str {
        match enforced {
            "xdp_ingress" if self.observed => "xdp_observe",
            "tc_ingress" if self.observed => "tc_observe_in",
            "tc_egress" if self.observed => "tc_observe_out",
            other => other,
        }
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

    /// A map of the generation or of the state that it shares.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn map_mut(&mut self, name: &str) -> Result<&mut Map, KernelError> {
        let object = self.objects.values_mut().next().ok_or_else(|| missing(name))?;
        object.map_mut(name).ok_or_else(|| missing(name))
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

fn missing(name: &str) -> KernelError {
    KernelError::Refused { what: format!("generation: {name}"), source: "not in the BPF object".into() }
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

/// [`Settings`] as aya takes globals.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Global(Settings);
// SAFETY: repr(C), no padding (its size is asserted where it is defined), plain integers.
unsafe impl aya::Pod for Global {}

fn load_object(
    specification: &Specification,
    interface: &Interface,
    zone: u16,
    pins: Option<(&Pins, usize)>,
) -> Result<Ebpf, KernelError> {
    let tables = specification.tables;
    let capacity = &specification.capacity;
    let settings = Global(settings_of(specification, interface, zone));
    let mut loader = EbpfLoader::new();
    let shadow_settings = Global(shadow_settings_of(specification));
    loader.override_global("SETTINGS", &settings, true);
    loader.override_global("SHADOW_SETTINGS", &shadow_settings, true);
    // An address in the midst of a wide leaf needs two blocks to be told apart from it.
    let spare = capacity.spare_addresses as usize;
    let shadow = specification.shadow.map(|shadow| shadow.tables);
    // A map has at least one entry; one that is empty is never hit.
    for (name, entries) in [
        ("TRIE4", tables.trie.len() + 2 * spare),
        ("EXACT6", tables.exact6.len() + spare),
        ("SHADOW_TRIE4", shadow.map_or(0, |tables| tables.trie.len())),
        ("SHADOW_EXACT6", shadow.map_or(0, |tables| tables.exact6.len())),
        ("SHADOW_PREFIX6", shadow.map_or(0, |tables| tables.prefixes6.len())),
        ("SHADOW_PORTS", shadow.map_or(0, |tables| tables.ports.len())),
        ("SHADOW_PAIRS", shadow.map_or(0, |tables| tables.pairs.len())),
        ("SHADOW_CELLS", shadow.map_or(0, |tables| tables.cells.len())),
        ("SHADOW_DEADLINES", shadow.map_or(0, |tables| tables.deadlines.len())),
        ("PREFIX6", tables.prefixes6.len()),
        ("PORTS", tables.ports.len()),
        ("PAIRS", tables.pairs.len()),
        ("CELLS", tables.cells.len()),
        ("DEADLINES", tables.deadlines.len()),
        ("LIMITS", tables.limits.len()),
        ("LIMIT_STATES", 2 * tables.limits.len()),
        ("RULE_COUNTERS", tables.rules as usize),
    ] {
        let entries =
            u32::try_from(entries.max(1)).map_err(KernelError::refused(format!("map {name}: its size")))?;
        loader.map_max_entries(name, entries);
    }
    for (name, entries) in shape::sizes(capacity) {
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
    loader.load(OBJECT).map_err(KernelError::refused("loading the BPF object"))
}

/// Names of the maps that one set of tables lies in.
struct TableNames {
    trie: &'static str,
    exact6: &'static str,
    prefix6: &'static str,
    ports: &'static str,
    pairs: &'static str,
    cells: &'static str,
    deadlines: &'static str,
    limits: Option<&'static str>,
}

const ENFORCED: TableNames = TableNames {
    trie: "TRIE4",
    exact6: "EXACT6",
    prefix6: "PREFIX6",
    ports: "PORTS",
    pairs: "PAIRS",
    cells: "CELLS",
    deadlines: "DEADLINES",
    limits: Some("LIMITS"),
};

/// What only observes takes nothing of a rate.
const OBSERVED: TableNames = TableNames {
    trie: "SHADOW_TRIE4",
    exact6: "SHADOW_EXACT6",
    prefix6: "SHADOW_PREFIX6",
    ports: "SHADOW_PORTS",
    pairs: "SHADOW_PAIRS",
    cells: "SHADOW_CELLS",
    deadlines: "SHADOW_DEADLINES",
    limits: None,
};

fn fill_tables(tables: &Tables, names: &TableNames, object: &mut Ebpf) -> Result<(), KernelError> {
    let map = |name: &'static str| object.map(name).ok_or_else(|| missing(name));
    fill(names.trie, map(names.trie)?, &tables.trie)?;
    fill(names.ports, map(names.ports)?, &tables.ports)?;
    fill(names.pairs, map(names.pairs)?, &tables.pairs)?;
    fill(names.cells, map(names.cells)?, &tables.cells)?;
    fill(names.deadlines, map(names.deadlines)?, &tables.deadlines)?;
    if let Some(limits) = names.limits {
        fill(limits, map(limits)?, &tables.limits)?;
    }
    let what = || KernelError::refused(format!("filling map {}", names.exact6));
    let mut exact: HashTable<&mut MapData, [u32; 4], u32> =
        object.map_mut(names.exact6).ok_or_else(|| missing(names.exact6))?.try_into().map_err(what())?;
    for (address, leaf) in &tables.exact6 {
        exact.insert(address, leaf.0, 0).map_err(what())?;
    }
    let what = || KernelError::refused(format!("filling map {}", names.prefix6));
    let mut prefixes: LpmTrie<&mut MapData, [u32; 4], u32> =
        object.map_mut(names.prefix6).ok_or_else(|| missing(names.prefix6))?.try_into().map_err(what())?;
    for (key, leaf) in &tables.prefixes6 {
        prefixes.insert(&Key::new(key.prefix, key.address), leaf.0, 0).map_err(what())?;
    }
    Ok(())
}

/// The programs of the object, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    XdpIngress,
    TcIngress,
    TcEgress,
    XdpObserve,
    TcObserveIn,
    TcObserveOut,
}

impl Program {
    const ALL: [Self; 6] = [
        Self::XdpIngress,
        Self::TcIngress,
        Self::TcEgress,
        Self::XdpObserve,
        Self::TcObserveIn,
        Self::TcObserveOut,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::XdpIngress => "xdp_ingress",
            Self::TcIngress => "tc_ingress",
            Self::TcEgress => "tc_egress",
            Self::XdpObserve => "xdp_observe",
            Self::TcObserveIn => "tc_observe_in",
            Self::TcObserveOut => "tc_observe_out",
        }
    }

    fn is_tc_ingress(self) -> bool {
        matches!(self, Self::TcIngress | Self::TcObserveIn)
    }

    fn observes(self) -> bool {
        matches!(self, Self::XdpObserve | Self::TcObserveIn | Self::TcObserveOut)
    }
}

/// Lets the observing programs go on with the enforced ones.
fn chain(object: &mut Ebpf) -> Result<(), KernelError> {
    for (map, index, program) in [
        ("XDP_ENFORCED", 0, "xdp_ingress"),
        ("TC_ENFORCED", 0, "tc_ingress"),
        ("TC_ENFORCED", 1, "tc_egress"),
    ] {
        let what = || KernelError::refused(format!("chaining program {program}"));
        let Some(Ok(fd)) = object
            .program(program)
            .map(|program| program.fd().and_then(|fd| fd.try_clone().map_err(Into::into)))
        else {
            // One that is never attached on this kind of interface.
            continue;
        };
        let mut enforced: ProgramArray<&mut MapData> =
            object.map_mut(map).ok_or_else(|| missing(map))?.try_into().map_err(what())?;
        enforced.set(index, &fd, 0).map_err(what())?;
    }
    Ok(())
}

/// Loads the programs that are wanted; the verifier's words are kept.
fn load_programs(object: &mut Ebpf, wanted: impl Fn(Program) -> bool) -> Result<(), KernelError> {
    let wanted: Vec<&str> =
        Program::ALL.into_iter().filter(|program| wanted(*program)).map(Program::name).collect();
    for (name, program) in object.programs_mut().filter(|(name, _)| wanted.contains(name)) {
        let what = format!("loading program {name}");
        match program {
            aya::programs::Program::Xdp(program) => program.load(),
            aya::programs::Program::SchedClassifier(program) => program.load(),
            _ => continue,
        }
        .map_err(KernelError::refused(what))?;
    }
    #[cfg(feature = "bpf-log")]
    start_log(object)?;
    Ok(())
}

/// Passes on what the programs say, for as long as the process lives.
#[cfg(feature = "bpf-log")]
fn start_log(object: &mut Ebpf) -> Result<(), KernelError> {
    let mut logger = aya_log::EbpfLogger::init(object)
        .map_err(KernelError::refused("listening to the programs' messages"))?;
    std::thread::spawn(move || {
        loop {
            logger.flush();
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    Ok(())
}
