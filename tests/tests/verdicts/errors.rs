//! Whom ICMP errors are believed, and how many that quote no flow.

use std::net::IpAddr;

use bulkhead_abi::{Direction, LpmKey, Routed, from_ip};
use bulkhead_dataplane::{Kind, Specification};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::build::{Ip, icmp, icmp_protocol, udp};

use crate::kernel::{Kernel, Program, ample, specification};
use crate::world::{self, NAMES, Place};
use crate::{decided, hooks};

const SECOND: u64 = 1_000_000_000;
const PORT: u16 = 50_000;

struct Scene {
    kernel: Kernel,
    program: Program,
    kind: Kind,
    place: Place,
}

impl Scene {
    /// Hands a packet over; of those at ingress, why it was decided so.
    fn run(&mut self, program: Program, packet: &Ip) -> Reason {
        decided(&mut self.kernel, self.kind, program, packet, 0)
    }

    /// An error from `source` about a datagram that this node sent from a port.
    fn error(&mut self, source: IpAddr, port: u16) -> Reason {
        let Place { v4, from: peer, to: node, .. } = self.place;
        let sent = Ip::new(node, peer, 17, udp((port, NAMES), &[])).bytes();
        let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
        let error = Ip::new(source, node, icmp_protocol(v4), icmp(kind, code, [0, 0, 5, 0], &sent));
        self.run(self.program, &error)
    }
}

/// On every hook at ingress; returns the reasons.
pub fn play() -> Vec<Reason> {
    let at_ingress = |(program, _): &(Program, Kind)| program.direction() == Direction::Ingress;
    for (program, kind) in hooks().filter(at_ingress) {
        for v4 in [true, false] {
            play_on(program, kind, Place::new(Direction::Ingress, v4));
        }
    }
    vec![Reason::IcmpErrorSource, Reason::IcmpErrorRate]
}

fn play_on(program: Program, kind: Kind, place: Place) {
    let router: IpAddr =
        if place.v4 { [100, 64, 0, 50].into() } else { "fd7a:115c:a1e0::50".parse().expect("an address") };
    let mut tables = world::program().tables;
    tables.routes =
        [(router, Routed { behind: 0, speaks_for: 1 }), (place.from, Routed { behind: 1, speaks_for: 0 })]
            .map(|(address, routed)| (LpmKey { prefix: 128, address: from_ip(address) }, routed))
            .to_vec();
    let specification = Specification { event_budget: u32::MAX, ..specification(&tables, ample()) };
    let (peer, other) = (place.from, place.with_far(4).0);
    let question = Ip::new(place.to, peer, 17, udp((PORT, NAMES), &[]));
    let mut scene = Scene { kernel: Kernel::of(specification, kind, 0), program, kind, place };
    assert_eq!(scene.run(Program::TcEgress, &question), Reason::Rule);
    let stranger = if kind == Kind::Ethernet { Reason::IcmpError } else { Reason::IcmpErrorSource };
    for (source, reason) in [(peer, Reason::IcmpError), (router, Reason::IcmpError), (other, stranger)] {
        assert_eq!(scene.error(source, PORT), reason, "{source} at {program:?}, {kind:?}");
    }
    let guesses: Vec<_> = (0..40).map(|index| scene.error(peer, 40_000 + index)).collect();
    let (missed, late) = guesses.split_at(16);
    assert_eq!((missed, late), (&[Reason::IcmpErrorUnrelated; 16][..], &[Reason::IcmpErrorRate; 24][..]));
    assert_eq!(scene.error(peer, PORT), Reason::IcmpErrorRate);
    scene.kernel.set_clock(SECOND);
    assert_eq!(scene.error(peer, PORT), Reason::IcmpError);
    // Each is told of or lost.
    let events = scene.kernel.events().len() as u64;
    let aggregated: u64 = scene.kernel.aggregates().iter().map(|(_, value)| value.packets).sum();
    let drops: u64 = Reason::ALL
        .iter()
        .filter(|reason| reason.action() == Action::Drop)
        .map(|reason| scene.kernel.reasons()[*reason as usize].packets)
        .sum();
    assert_eq!(events + aggregated + scene.kernel.lost(), drops);
}
