//! Packets, one after the other, through the whole decision with flows and fragments. Each
//! that passes is read again by another parser and held against the rules as they read, and
//! against what passed before it.

use bulkhead_abi::{Direction, FEATURE_AUDIT, INTERFACE_ETHERNET, TIMEOUTS, Timeouts};
use bulkhead_engine::memory::Memory;
use bulkhead_engine::{Case, FastPath, Packet, Reason, decide, fast_path};
use bulkhead_policy::evaluate::environment;

use crate::naive::Observer;
use crate::world::{WORLD, World};

/// The first byte of an input: an Ethernet interface.
pub const ETHERNET: u8 = 1;
/// The first byte of an input: audit mode.
pub const AUDIT: u8 = 2;
/// The byte before each packet: it goes out.
pub const EGRESS: u8 = 1;

/// Decides on a packet the long way and, if it is a plain one, the fast path as well.
///
/// # Panics
/// If these do not come to the same.
fn decide_both_ways(memory: &mut Memory, packet: &Packet, direction: Direction, case: &mut Case) {
    let (before, copy) = (*case, memory.clone());
    decide(memory, packet, direction, case);
    match fast_path(&copy, packet, direction) {
        Some(FastPath::Verdict(length, outcome, _)) => {
            assert_eq!((length, outcome), (case.headers.length, case.outcome));
            assert_eq!(memory.flows, copy.flows, "a settled packet has no flow");
        }
        Some(FastPath::NeedsFlow(judged)) => {
            let mut short = before;
            judged.decide(&copy, packet, direction, &mut short);
            assert_eq!((short, &copy.flows), (*case, &memory.flows));
        }
        None => {}
    }
}

/// Decides on the packets of an input: a byte for the interface, then for each packet a byte
/// (bit 0: [`EGRESS`]; the others: seconds since the one before), its length in a byte, and it.
///
/// # Panics
/// If a packet passes that should not have, or the tables lack something.
pub fn run(data: &[u8]) {
    let Some((interface, mut rest)) = data.split_first() else { return };
    let world: &World = &WORLD;
    let mut memory = environment(&world.program.tables, 0);
    memory.settings.timeouts =
        Timeouts(std::array::from_fn::<_, TIMEOUTS, _>(|state| 10 + 30 * state as u32));
    if interface & ETHERNET != 0 {
        memory.settings.interface = INTERFACE_ETHERNET;
    }
    let audit = interface & AUDIT != 0;
    if audit {
        memory.settings.features |= FEATURE_AUDIT;
    }
    let mut observer = Observer::new(world, interface & ETHERNET != 0);
    let mut case = Case::UNKNOWN;
    while let [control, length, more @ ..] = rest {
        let (bytes, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        let direction = if control & EGRESS == 0 { Direction::Ingress } else { Direction::Egress };
        memory.settings.fixed_clock += u64::from(control >> 1) * 1_000_000_000;
        decide_both_ways(&mut memory, &Packet::new(bytes), direction, &mut case);
        let reason = case.outcome.reason;
        assert_ne!(reason, Reason::LookupFailed, "a table lacks an entry: {case:?}");
        // What audit mode lets pass is said by the program, not by the engine.
        if !audit {
            observer.check(bytes, direction, &case, memory.settings.fixed_clock);
        }
    }
}
