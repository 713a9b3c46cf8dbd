//! What is told of flows as rules let them begin: each once, as far as their budget goes, and nothing of what passes
//! besides.

use bulkhead_abi::{AllowedReports, Event, KIND_ALLOWED, to_ip};
use bulkhead_dataplane::{Kind, Specification};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::build::{Ip, ethernet, tcp, udp};

use crate::hooks;
use crate::kernel::{Kernel, Program, ample, specification};
use crate::world::{self, NAMES, OTHER, Place, WEB};

const SYN: u8 = 2;
const ACK: u8 = 16;

struct Host {
    kernel: Kernel,
    program: Program,
    kind: Kind,
    place: Place,
}

impl Host {
    fn new((program, kind): (Program, Kind), v4: bool, allowed: AllowedReports, audit: bool) -> Self {
        let tables = world::program().tables;
        let specification = Specification { allowed, audit, ..specification(&tables, ample()) };
        let place = Place::new(program.direction(), v4);
        Self { kernel: Kernel::of(specification, kind, 0), program, kind, place }
    }

    fn sends(&mut self, protocol: u8, payload: Vec<u8>) -> Action {
        let Place { from, to, .. } = self.place;
        let mut packet = Ip::new(from, to, protocol, payload).bytes();
        if self.kind == Kind::Ethernet {
            packet = ethernet(&[], if from.is_ipv4() { 0x0800 } else { 0x86dd }, &packet);
        }
        self.kernel.run(self.program, &packet)
    }

    /// A segment of a client's port.
    fn segment(&mut self, client: u16, port: u16, flags: u8) -> Action {
        self.sends(6, tcp((client, port), flags, &[]))
    }

    /// Flows that were told of since, and those that should have been.
    fn told(&mut self) -> (Vec<Event>, u64) {
        let events = self.kernel.events();
        let flows = events.into_iter().filter(|event| event.key.kind == KIND_ALLOWED).collect();
        (flows, self.kernel.lost_flows())
    }
}

fn each(budget: u32) -> AllowedReports {
    AllowedReports { budget, one_in: 1 }
}

#[test]
fn a_flow_is_told_of_once_as_it_begins() {
    for hook in hooks() {
        for v4 in [true, false] {
            let mut host = Host::new(hook, v4, each(100), false);
            assert_eq!(host.segment(40_000, WEB, SYN), Action::Pass);
            // Sent again, and going on.
            for flags in [SYN, ACK, ACK] {
                assert_eq!(host.segment(40_000, WEB, flags), Action::Pass);
            }
            assert_eq!(host.sends(17, udp((40_000, NAMES), &[1])), Action::Pass);
            assert_eq!(host.sends(17, udp((40_000, NAMES), &[2])), Action::Pass);
            // Another client port is another flow; what is dropped is none.
            assert_eq!(host.segment(40_001, WEB, SYN), Action::Pass);
            assert_eq!(host.segment(40_002, OTHER, SYN), Action::Drop);
            let (told, lost) = host.told();
            let ends = [host.place.from, host.place.to];
            let of = |event: &Event| {
                assert_eq!([to_ip(&event.key.source), to_ip(&event.key.destination)], ends);
                assert_eq!((event.key.reason & 0x7f, event.one_in), (Reason::Rule as u8, 1));
                (event.source_port, event.key.port, event.key.protocol)
            };
            let told: Vec<_> = told.iter().map(of).collect();
            assert_eq!(told, [(40_000, WEB, 6), (40_000, NAMES, 17), (40_001, WEB, 6)], "{hook:?}");
            assert_eq!(lost, 0);
        }
    }
}

#[test]
fn what_is_beyond_the_budget_is_counted_and_takes_nothing_of_what_drops_have() {
    for hook in hooks() {
        let mut host = Host::new(hook, true, each(3), false);
        for client in 0..10 {
            assert_eq!(host.segment(40_000 + client, WEB, SYN), Action::Pass);
        }
        let (told, lost) = host.told();
        assert_eq!((told.len(), lost), (3, 7), "{hook:?}");
        assert_eq!(host.segment(40_000, OTHER, SYN), Action::Drop);
        assert_eq!(host.kernel.events().len(), 1, "a drop is told of all the same");
    }
}

#[test]
fn nothing_is_told_of_flows_unless_it_is_asked_for() {
    for hook in hooks() {
        let mut host = Host::new(hook, true, AllowedReports::NONE, false);
        assert_eq!(host.segment(40_000, WEB, SYN), Action::Pass);
        assert_eq!(host.told(), (Vec::new(), 0), "{hook:?}");
        // What only audit mode lets pass no rule has allowed.
        let mut host = Host::new(hook, true, each(100), true);
        assert_eq!(host.segment(40_000, OTHER, SYN), Action::Pass);
        assert_eq!(host.told(), (Vec::new(), 0), "{hook:?}");
    }
}

#[test]
fn one_of_so_many_is_told_of() {
    let hook = hooks().next().unwrap();
    let mut host = Host::new(hook, true, AllowedReports { budget: u32::MAX, one_in: 8 }, false);
    for client in 0..4000 {
        assert_eq!(host.segment(20_000 + client, WEB, SYN), Action::Pass);
    }
    let (told, lost) = host.told();
    // 500 ± 9 standard deviations.
    assert!((310..690).contains(&told.len()), "{}", told.len());
    assert!(told.iter().all(|event| event.one_in == 8) && lost == 0);
}
