//! Drops counted by reason = events + aggregates + counted losses, whatever is full, and from
//! several CPUs at once.

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::maps::{MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions};
use bulkhead_abi::{Direction, EVENT_ODD, Event, REASONS};
use bulkhead_dataplane::{Capacity, Generation, Hook, Kind, Specialisation, State};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::build::{Ip, tcp};

use crate::hooks;
use crate::kernel::{Kernel, Pinned, Program, ZONE, ample, specification};
use crate::world::{self, Place};

/// A SYN that no rule admits, of a kind of its own by its port.
fn refused(place: &Place, port: u16) -> Vec<u8> {
    Ip::new(place.from, place.to, 6, tcp((50_000, port), 2, &[])).bytes()
}

fn dropped(kernel: &Kernel, program: Program) -> u64 {
    let index = program.direction().index() * REASONS + Reason::NoRule as u32;
    kernel.reasons()[index as usize].packets
}

#[test]
fn repeated_drops_are_one_event_and_an_aggregate() {
    let tables = world::program().tables;
    for program in Program::ALL {
        let place = Place::new(program.direction(), true);
        let mut kernel = Kernel::new(&tables, Kind::BareIp, false, ample());
        let packet = refused(&place, 9999);
        for _ in 0..10 {
            assert_eq!(kernel.run(program, &packet), Action::Drop);
        }
        let events = kernel.events();
        let aggregates = kernel.aggregates();
        assert_eq!((events.len(), aggregates.len()), (1, 1));
        let (key, value) = aggregates[0];
        assert_eq!(key, events[0].key);
        assert_eq!((value.packets, value.bytes), (9, 9 * packet.len() as u64));
        assert!(value.last > events[0].time);
    }
}

/// Drops of 300 kinds, three of each, against what fits; returns (events, aggregated, lost).
fn flood(program: Program, kind: Kind, capacity: Capacity) -> (u64, u64, u64) {
    const KINDS: u16 = 300;
    let place = Place::new(program.direction(), true);
    let mut kernel = Kernel::new(&world::program().tables, kind, false, capacity);
    for _ in 0..3 {
        for port in 10_000..10_000 + KINDS {
            let mut packet = refused(&place, port);
            if kind == Kind::Ethernet {
                packet = bulkhead_testkit::packets::build::ethernet(&[], 0x0800, &packet);
            }
            assert_eq!(kernel.run(program, &packet), Action::Drop);
        }
    }
    assert_eq!(dropped(&kernel, program), 3 * u64::from(KINDS));
    let events = kernel.events().len() as u64;
    let aggregated = kernel.aggregates().iter().map(|(_, value)| value.packets).sum();
    (events, aggregated, kernel.lost())
}

#[test]
fn a_full_ring_loses_events_and_counts_them() {
    for (program, kind) in hooks() {
        let (events, aggregated, lost) = flood(program, kind, Capacity { event_bytes: 4096, ..ample() });
        // An event takes its size and the ring's header of 8 bytes.
        let fit = 4096 / (size_of::<Event>() as u64 + 8);
        assert_eq!((events, aggregated, lost), (fit, 600, 300 - fit));
    }
}

#[test]
fn full_aggregates_make_events_instead() {
    for (program, kind) in hooks() {
        let (events, aggregated, lost) = flood(program, kind, Capacity { aggregates: 16, ..ample() });
        assert_eq!(events + aggregated + lost, 900);
        assert_eq!((aggregated, lost), (2 * 16, 0));
    }
}

#[test]
fn a_full_ring_and_full_aggregates_lose_and_count() {
    for (program, kind) in hooks() {
        let capacity = Capacity { aggregates: 16, event_bytes: 4096, ..ample() };
        let (events, aggregated, lost) = flood(program, kind, capacity);
        assert_eq!(events + aggregated + lost, 900);
        assert!(lost > 0 && aggregated == 2 * 16, "{events} {aggregated} {lost}");
    }
}

/// Several threads drop packets of shared kinds and of their own, while the agent's reader
/// empties the ring, which is too small, and takes the aggregates. The account whose turn is over is exact each time,
/// while the others go on.
#[test]
fn the_account_is_exact_while_many_drop_and_one_reads() {
    const THREADS: u16 = 4;
    const ROUNDS: u16 = 300;
    const REPEAT: u32 = 40;
    let pinned = Pinned::new("accounts");
    let pins = &pinned.0;
    let tables = world::program().tables;
    let capacity = Capacity { aggregates: 64, event_bytes: 4096, ..ample() };
    let specification = specification(&tables, capacity);
    let wanted = (Specialisation::new(Kind::BareIp, ZONE), vec![Hook::TcxIngress]);
    let mut generation = Generation::build(&specification, &[wanted], Some(pins)).expect("a generation");
    let mut reader = Reader {
        state: State::open(pins).expect("the state"),
        ring: State::events(pins).expect("the ring"),
        events: [0; 2],
        aggregated: [0; 2],
        turns: 0,
    };
    let program = &*generation.only_group().expect("programs").classifier("tc_ingress").expect("the program");
    let place = &Place::new(Direction::Ingress, true);

    let done = &AtomicBool::new(false);
    let mut reader = std::thread::scope(|scope| {
        let drop_many = |thread: u16| {
            for round in 0..ROUNDS {
                let port = if round % 2 == 0 { 10_000 + round } else { 11_000 + 1000 * thread + round };
                let packet = refused(place, port);
                let options =
                    TestRunOptions { data_in: Some(&packet), repeat: REPEAT, ..TestRunOptions::default() };
                assert_eq!(program.test_run(options).expect("a run").return_value, 2);
            }
        };
        let droppers: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || drop_many(thread))).collect();
        let reading = scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                reader.read();
            }
            reader
        });
        let results: Vec<_> = droppers.into_iter().map(|dropper| dropper.join()).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.expect("a dropper"));
        reading.join().expect("the reader")
    });
    // Both tables of aggregates.
    reader.read();
    reader.read();
    let drops = u64::from(THREADS) * u64::from(ROUNDS) * u64::from(REPEAT);
    let reasons = reader.state.reasons().expect("counters");
    let counted: Vec<_> = reasons.iter().map(|(_, reason, counter)| (*reason, counter.packets)).collect();
    assert_eq!(counted, [(Reason::NoRule, drops)]);
    let lost = reader.state.losses().expect("the loss counters").ring;
    let Reader { events, aggregated, turns, .. } = reader;
    println!("{drops} drops in {turns} turns: {events:?} events, {aggregated:?} aggregated, {lost} lost");
    let [events, aggregated] = [events, aggregated].map(|of| of.into_iter().sum::<u64>());
    assert_eq!(events + aggregated + lost, drops);
    assert!(events > 0 && aggregated > 0 && turns > 2, "{turns} turns");
}

/// Reads what the kernel tells, as the agent does.
struct Reader {
    state: State,
    ring: RingBuf<MapData>,
    /// By the account that they name: of even turns, and of odd ones.
    events: [u64; 2],
    aggregated: [u64; 2],
    turns: u64,
}

impl Reader {
    fn read(&mut self) {
        self.drain();
        let aggregated = &mut self.aggregated;
        let taken = self.state.take_aggregates(|entries, is_odd| {
            aggregated[usize::from(is_odd)] += entries.iter().map(|(_, value)| value.packets).sum::<u64>();
        });
        let is_odd = taken.expect("aggregates");
        // What the turn that is over has told of is in the ring by now.
        self.drain();
        let (drops, lost) = self.state.account(is_odd).expect("an account");
        let dropped: u64 = drops.iter().map(|(.., counter)| counter.packets).sum();
        let told = self.events[usize::from(is_odd)] + self.aggregated[usize::from(is_odd)];
        assert_eq!(dropped, told + lost, "turn {}, odd: {is_odd}", self.turns);
        self.turns += 1;
    }

    fn drain(&mut self) {
        while let Some(event) = self.ring.next() {
            let is_odd = event[offset_of!(Event, flags)] & EVENT_ODD != 0;
            self.events[usize::from(is_odd)] += 1;
        }
    }
}
