//! What is told of drops beside a flood of others: every drop of who drops little, by an event of its own.

use std::net::IpAddr;

use bulkhead_abi::{AggregateKey, AggregateValue, Direction, Event, KIND_DROP, KIND_SENDER, to_ip};
use bulkhead_dataplane::{Capacity, Kind, Specification};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::build::{Ip, ethernet, tcp};

use crate::hooks;
use crate::kernel::{Kernel, Program, ample, specification};
use crate::world::{self, Place};

/// Drops that a CPU reports in a second.
const BUDGET: u32 = 4096;
/// What is anybody's of them.
const COMMON: u64 = BUDGET as u64 / 2;
/// What each of 512 groups of senders has for itself.
const EACH: u64 = COMMON / 512;
/// More than it pays for.
const FLOOD: u16 = 3000;

/// Ports that who drops little asks for.
const PROBES: [u16; 3] = [21, 23, 25];

struct Flooded {
    kernel: Kernel,
    program: Program,
    kind: Kind,
    sent: u64,
}

/// What was told.
struct Told {
    events: Vec<Event>,
    aggregates: Vec<(AggregateKey, AggregateValue)>,
}

impl Flooded {
    fn new(program: Program, kind: Kind, capacity: Capacity) -> Self {
        let tables = world::program().tables;
        let specification = Specification { event_budget: BUDGET, ..specification(&tables, capacity) };
        Self { kernel: Kernel::of(specification, kind, 0), program, kind, sent: 0 }
    }

    /// Sends a SYN that is dropped.
    fn refused(&mut self, [from, to]: [IpAddr; 2], port: u16) {
        let mut packet = Ip::new(from, to, 6, tcp((50_000, port), 2, &[])).bytes();
        if self.kind == Kind::Ethernet {
            packet = ethernet(&[], if from.is_ipv4() { 0x0800 } else { 0x86dd }, &packet);
        }
        assert_eq!(self.kernel.run(self.program, &packet), Action::Drop);
        self.sent += 1;
    }

    /// What was told; checks that it is all that was dropped, but for what is counted as lost.
    fn told(mut self, reasons: &[Reason]) -> Told {
        let told = Told { events: self.kernel.events(), aggregates: self.kernel.aggregates() };
        let first = (self.program.direction().index() * bulkhead_abi::REASONS) as usize;
        let counted: u64 =
            reasons.iter().map(|reason| self.kernel.reasons()[first + *reason as usize].packets).sum();
        let aggregated: u64 = told.aggregates.iter().map(|(_, value)| value.packets).sum();
        assert_eq!(counted, self.sent);
        assert_eq!(told.events.len() as u64 + aggregated + self.kernel.lost(), self.sent);
        told
    }
}

impl Told {
    /// Ports of events about drops between these ends.
    fn ports(&self, [from, to]: [IpAddr; 2]) -> Vec<u16> {
        let events = self.events.iter().map(|event| event.key);
        let between = events.filter(|key| to_ip(&key.source) == from && to_ip(&key.destination) == to);
        between.map(|key| key.port).collect()
    }

    fn summed(&self, kind: u8) -> u64 {
        self.aggregates.iter().filter(|(key, _)| key.kind == kind).map(|(_, value)| value.packets).sum()
    }
}

/// The ends of packets between this node and a far one.
fn ends(place: &Place, far: u8) -> [IpAddr; 2] {
    let (from, to) = place.with_far(far);
    [from, to]
}

#[test]
fn three_probes_beside_a_flood_of_one_kind_are_told_of() {
    for (program, kind) in hooks() {
        for v4 in [true, false] {
            let place = Place::new(program.direction(), v4);
            let mut flooded = Flooded::new(program, kind, ample());
            let (flooder, stranger) = (ends(&place, 2), ends(&place, 4));
            (0..FLOOD).for_each(|_| flooded.refused(flooder, world::OTHER));
            PROBES.iter().for_each(|port| flooded.refused(stranger, *port));
            let told = flooded.told(&[Reason::NoRule]);
            assert_eq!(told.ports(stranger), PROBES, "{program:?}, {kind:?}");
            assert_eq!(told.ports(flooder), [world::OTHER]);
            // The flood is told of too, by one summary, as far as the budget goes.
            assert_eq!(told.summed(KIND_DROP), COMMON + EACH - 1);
        }
    }
}

#[test]
fn a_scan_is_told_of_by_its_sender_where_its_kinds_are_many() {
    for (program, kind) in hooks() {
        let place = Place::new(program.direction(), true);
        let mut flooded = Flooded::new(program, kind, ample());
        let (scanner, stranger) = (ends(&place, 2), ends(&place, 4));
        (0..FLOOD).for_each(|index| flooded.refused(scanner, 10_000 + index));
        PROBES.iter().for_each(|port| flooded.refused(stranger, *port));
        let told = flooded.told(&[Reason::NoRule]);
        assert_eq!(told.ports(stranger), PROBES, "{program:?}, {kind:?}");
        assert_eq!(told.ports(scanner).len() as u64, EACH);
        let kinds = told.aggregates.iter().filter(|(key, _)| key.kind == KIND_DROP).count() as u64;
        // Those of events have an aggregate, too.
        assert_eq!(kinds, u64::from(BUDGET) / 8 + EACH + 3);
        assert_eq!(told.summed(KIND_DROP) + told.summed(KIND_SENDER), COMMON);
        let senders: Vec<_> = told.aggregates.iter().filter(|(key, _)| key.kind == KIND_SENDER).collect();
        let [(key, _)] = senders[..] else { panic!("{senders:?}") };
        assert_eq!((to_ip(&key.source), key.destination, key.port, key.protocol), (scanner[0], [0; 4], 0, 0));
    }
}

#[test]
fn sources_that_are_made_up_blind_nobody_whom_the_rules_know() {
    for (program, kind) in hooks().filter(|(program, _)| program.direction() == Direction::Ingress) {
        let place = Place::new(Direction::Ingress, true);
        let mut flooded = Flooded::new(program, kind, ample());
        for index in 0..2 * FLOOD {
            let [high, low] = index.to_be_bytes();
            flooded.refused([[198, 18, high, low].into(), place.to], world::OTHER);
        }
        let known = ends(&place, 4);
        PROBES.iter().for_each(|port| flooded.refused(known, *port));
        let told = flooded.told(&[Reason::NoRule, Reason::UnknownAddress]);
        assert_eq!(told.ports(known), PROBES, "{program:?}, {kind:?}");
    }
}

#[test]
fn probes_are_told_of_though_the_flood_has_filled_the_aggregates() {
    for (program, kind) in hooks() {
        let place = Place::new(program.direction(), true);
        let mut flooded = Flooded::new(program, kind, Capacity { aggregates: 16, ..ample() });
        (0..FLOOD).for_each(|index| flooded.refused(ends(&place, 2), 10_000 + index));
        PROBES.iter().for_each(|port| flooded.refused(ends(&place, 4), *port));
        let told = flooded.told(&[Reason::NoRule]);
        assert_eq!(told.ports(ends(&place, 4)), PROBES, "{program:?}, {kind:?}");
        assert_eq!(told.aggregates.len(), 16);
    }
}
