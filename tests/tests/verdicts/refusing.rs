//! A table of fragments that refuses an entry. The real one makes room by evicting, so this one is a
//! table of another type in the same programs: the object's definition of the map is changed.

use aya::programs::{TestRun as _, TestRunOptions};
use bulkhead_dataplane::{Generation, Group, Hook, Kind, OBJECT, Specialisation, Specification, State};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::build::{Ip, ethernet, udp};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use crate::hooks;
use crate::kernel::{Pinned, Program, ZONE, ample, specification};
use crate::world::{self, NAMES, Place};

const MAP: &str = "FRAGMENTS";
/// `BPF_MAP_TYPE_HASH`: full is full.
const HASH: u32 = 1;
/// `TCX_NEXT`, as a run returns it.
const NEXT: u32 = u32::MAX;

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

fn run(group: &mut Group, program: Program, packet: &[u8]) -> Action {
    let options = || TestRunOptions { data_in: Some(packet), ..TestRunOptions::default() };
    let mut by_tc = |name| (group.classifier(name).expect("TC").test_run(options()), NEXT);
    let (value, passes) = match program {
        Program::XdpIngress => (group.xdp("xdp_ingress").expect("XDP").test_run(options()), 2),
        Program::TcIngress => by_tc("tc_ingress"),
        Program::TcEgress => by_tc("tc_egress"),
    };
    if value.expect("a run").return_value == passes { Action::Pass } else { Action::Drop }
}

/// Lets two datagrams in fragments come at once, on every hook; returns the reasons.
pub fn play() -> Vec<Reason> {
    let tables = world::program().tables;
    let object = refusing_object();
    for (program, kind) in hooks() {
        let pinned = Pinned::new("refusing");
        let pins = &pinned.0;
        let wanted = (Specialisation::new(kind, ZONE), Hook::ALL.to_vec());
        let specification = Specification { object: &object, ..specification(&tables, ample()) };
        let mut generation = Generation::build(&specification, &[wanted], Some(pins)).expect("a generation");
        let place = Place::new(program.direction(), true);
        let datagram = udp((50_000, NAMES), &[1; 24]);
        let mut play = |id: u16, offset: usize, end: usize| {
            let mut part = Ip::new(place.from, place.to, 17, datagram[offset..end].to_vec());
            part.id = id;
            part.fragment = (offset / 8) as u16 | if end < datagram.len() { 0x2000 } else { 0 };
            let bytes = part.bytes();
            let bytes = if kind == Kind::Ethernet { ethernet(&[], 0x0800, &bytes) } else { bytes };
            run(generation.only_group().expect("programs"), program, &bytes)
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
