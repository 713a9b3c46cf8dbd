//! A table of flows that others' living conversations fill.

use bulkhead_abi::{FLOW_ESTABLISHED, FlowKey, FlowRecord, FlowState, FlowValue, RECORD_NEW};
use bulkhead_dataplane::{Capacity, Kind};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::build::{Ip, tcp};

use crate::kernel::{GENERATION, Kernel, Program, ZONE, ample};
use crate::world::{Place, WEB, program};

/// As small as a table can be.
const SLOTS: usize = 16;

/// A conversation that the `number`th of many others keeps with this node.
fn conversation(number: u32) -> FlowRecord {
    let key = FlowKey {
        initiator: [0, 0, 0xffff_u32.to_be(), number],
        responder: [0, 0, 0xffff_u32.to_be(), 1],
        initiator_port: 50_000,
        responder_port: WEB,
        zone: ZONE,
        protocol: 6,
        direction: 0,
    };
    let state = FlowState::TcpEstablished as u8;
    let flow =
        FlowValue { last_seen: 1, generation: GENERATION, state, flags: FLOW_ESTABLISHED, ..FlowValue::NONE };
    FlowRecord { key, flow }
}

/// Opens a conversation by every program; returns the reasons.
pub fn play() -> Vec<Reason> {
    let compiled = program();
    let mut reached = Vec::new();
    for hook in Program::ALL {
        let mut kernel = Kernel::new(&compiled.tables, Kind::BareIp, false, Capacity { flows: 8, ..ample() });
        let mut others = 0..;
        while kernel.flows().len() < SLOTS {
            kernel.import(others.next().map(conversation));
        }
        assert_eq!(kernel.import(others.next().map(conversation)), 1, "there is no place left");
        let before = kernel.flows();
        let place = Place::new(hook.direction(), true);
        let opening = Ip::new(place.from, place.to, 6, tcp((50_000, WEB), 2, &[])).bytes();
        assert_eq!(kernel.run(hook, &opening), Action::Drop);
        reached.push(kernel.meta(hook.direction()).outcome.reason);
        assert_eq!(kernel.flows(), before, "nobody lost his place");

        // What has expired is nobody's.
        kernel.set_clock(1000 * 1_000_000_000);
        assert_eq!(kernel.run(hook, &opening), Action::Pass);
        assert_eq!(kernel.flows().len(), SLOTS);
    }
    reached
}

/// What finds no place when the agent stores flows is counted, whoever had to go for it.
pub fn importing() {
    let mut kernel = Kernel::new(&program().tables, Kind::BareIp, false, Capacity { flows: 8, ..ample() });
    let of_one_end = |port: u16| {
        let FlowRecord { key, flow } = conversation(1);
        let key = FlowKey { initiator_port: port, ..key };
        FlowRecord { key, flow: FlowValue { last_seen: 1000 - u64::from(port), ..flow } }
    };
    let lost = kernel.import((0..100).map(of_one_end));
    assert_eq!((kernel.flows().len(), lost), (SLOTS, 100 - SLOTS));

    // A connection that is open is stored in place of an expired flow of its tuple, and what is
    // known of one that has not expired stays, seen now.
    let now = 1000 * 1_000_000_000;
    kernel.forget_flows();
    kernel.set_clock(now);
    let FlowRecord { key, flow } = conversation(1);
    let open =
        FlowRecord { key, flow: FlowValue { last_seen: now, begun: [RECORD_NEW, 0, 0, 0, 0, 0], ..flow } };
    let stored = FlowValue { begun: [0; 6], ..open.flow };
    let ended = FlowValue { rule: 5, ..flow };
    let tracked = FlowValue { rule: 5, last_seen: now - 1_000_000_000, ..flow };
    for (there, after) in [(ended, stored), (tracked, FlowValue { last_seen: now, ..tracked })] {
        kernel.forget_flows();
        assert_eq!(kernel.import([FlowRecord { key, flow: there }, open]), 0);
        assert_eq!(kernel.flows(), [FlowRecord { key, flow: after }]);
    }
}
