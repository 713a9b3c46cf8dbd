//! A table of fragments that refuses an entry. The real one makes room by evicting, so this one is a
//! table of another type in the same programs: the object's definition of the map is changed.

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bulkhead::kernel::{Generation, Interface, Kind, OBJECT, Pins, STATE_MAPS, State, TABLE_MAPS};
use bulkhead_engine::layout::Settings;
use bulkhead_engine::{Action, Reason};
use bulkhead_tests::packets::build::{Ip, ethernet, udp};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use crate::hooks;
use crate::kernel::{GENERATION, INTERFACE, Pinned, Program, ZONE, ample, environment, specification};
use crate::world::{self, NAMES, Place};

const MAP: &str = "FRAGMENTS";
/// `BPF_MAP_TYPE_HASH`: full is full.
const HASH: u32 = 1;

/// [`Settings`] as aya takes globals.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Global(Settings);
// SAFETY: repr(C), no padding (its size is asserted where it is defined), plain integers.
unsafe impl aya::Pod for Global {}

/// The object with a table of fragments for one datagram. A map's definition is `type`, `key_size`,
/// `value_size`, `max_entries`, … of 32 bits each.
fn refusing_object() -> Vec<u8> {
    let mut bytes = OBJECT.to_vec();
    let file = object::File::parse(OBJECT).expect("an ELF file");
    let symbol = file.symbols().find(|symbol| symbol.name() == Ok(MAP)).expect("the map");
    let section = file.section_by_index(symbol.section_index().expect("a section")).expect("the maps");
    let at = (section.file_range().expect("bytes").0 + symbol.address()) as usize;
    bytes[at..at + 4].copy_from_slice(&HASH.to_ne_bytes());
    bytes[at + 12..at + 16].copy_from_slice(&1u32.to_ne_bytes());
    bytes
}

/// The programs over the maps of a pinned generation, but for that table.
fn load(object: &[u8], pins: &Pins, settings: Settings) -> Ebpf {
    let mut loader = EbpfLoader::new();
    let settings = Global(settings);
    loader.override_global("SETTINGS", &settings, true);
    for name in STATE_MAPS.iter().filter(|name| **name != MAP) {
        loader.map_pin_path(name, pins.state(name));
    }
    for name in TABLE_MAPS {
        loader.map_pin_path(name, pins.table(GENERATION, name));
    }
    loader.load(object).expect("the object")
}

fn run(loaded: &mut Ebpf, program: Program, packet: &[u8]) -> Action {
    let options = TestRunOptions { data_in: Some(packet), ..TestRunOptions::default() };
    let name = match program {
        Program::XdpIngress => "xdp_ingress",
        Program::TcIngress => "tc_ingress",
        Program::TcEgress => "tc_egress",
    };
    let found = loaded.program_mut(name).expect("a program");
    let (value, passes) = if program == Program::XdpIngress {
        let xdp: &mut Xdp = found.try_into().expect("XDP");
        xdp.load().or_else(loaded_already).expect("the verifier");
        (xdp.test_run(options).expect("a run").return_value, 2)
    } else {
        let classifier: &mut SchedClassifier = found.try_into().expect("TC");
        classifier.load().or_else(loaded_already).expect("the verifier");
        (classifier.test_run(options).expect("a run").return_value, u32::MAX)
    };
    if value == passes { Action::Pass } else { Action::Drop }
}

fn loaded_already(error: aya::programs::ProgramError) -> Result<(), aya::programs::ProgramError> {
    if matches!(error, aya::programs::ProgramError::AlreadyLoaded) { Ok(()) } else { Err(error) }
}

/// Lets two datagrams in fragments come at once, on every hook; returns the reasons.
pub fn play() -> Vec<Reason> {
    let tables = world::program().tables;
    let object = refusing_object();
    for (program, kind) in hooks() {
        let pinned = Pinned::new("refusing");
        let pins = &pinned.0;
        let interface = Interface { name: "lo".to_owned(), index: INTERFACE, kind };
        let specification = specification(&tables, ample());
        // Makes and fills the tables.
        let _made =
            Generation::build(&specification, &[(interface, ZONE)], Some(pins)).expect("a generation");
        let mut loaded = load(&object, pins, environment(&tables, kind).settings);
        let place = Place::new(program.direction(), true);
        let datagram = udp((50_000, NAMES), &[1; 24]);
        let mut play = |id: u16, offset: usize, end: usize| {
            let mut part = Ip::new(place.from, place.to, 17, datagram[offset..end].to_vec());
            part.id = id;
            part.fragment = (offset / 8) as u16 | if end < datagram.len() { 0x2000 } else { 0 };
            let bytes = part.bytes();
            let bytes = if kind == Kind::Ethernet { ethernet(&[], 0x0800, &bytes) } else { bytes };
            run(&mut loaded, program, &bytes)
        };
        assert_eq!(play(1, 0, 16), Action::Pass, "{program:?}, {kind:?}");
        assert_eq!(play(2, 0, 16), Action::Drop, "{program:?}, {kind:?}");
        assert_eq!(play(2, 16, 32), Action::Drop, "nothing is remembered of it");
        assert_eq!(play(1, 16, 32), Action::Pass, "the first one's end, which makes room");
        assert_eq!(play(2, 0, 16), Action::Pass);
        let reasons = State::open(pins).expect("the state").reasons().expect("counters");
        let counted: Vec<_> = reasons.iter().map(|(_, reason, counter)| (*reason, counter.packets)).collect();
        let due = [(Reason::Fragment, 1), (Reason::FragmentOrphan, 1), (Reason::FragmentTableFull, 1)];
        assert_eq!(counted, due, "{program:?}, {kind:?}");
    }
    vec![Reason::FragmentTableFull]
}
