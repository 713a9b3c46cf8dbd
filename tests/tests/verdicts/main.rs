//! Every reason, on every program and kind of interface that can give it: packets built by
//! hand, run by BPF_PROG_TEST_RUN. Verdict, reason, rule and event must be the expected ones,
//! and of all counters exactly the expected one may move, by one.

#[path = "../kernel/mod.rs"]
mod kernel;

mod accounts;
mod allowed;
mod broken;
mod errors;
mod flood;
mod full;
mod links;
mod masked;
mod nesting;
mod refusing;
mod resets;
mod scenes;
mod sockets;
mod steps;
mod venues;
mod world;

use std::collections::BTreeSet;

use bulkhead_dataplane::Kind;
use bulkhead_engine::Reason;

use kernel::Program;
use steps::Stage;

/// Every (program, kind of interface).
pub fn hooks() -> impl Iterator<Item = (Program, Kind)> {
    let kinds = [Kind::BareIp, Kind::Ethernet];
    Program::ALL.into_iter().flat_map(move |program| kinds.map(|kind| (program, kind)))
}

#[test]
fn every_reason_on_every_hook() {
    let mut reached = BTreeSet::new();
    let compiled = world::program();
    for kind in [Kind::BareIp, Kind::Ethernet] {
        for audit in [false, true] {
            let mut stage = Stage::new(&compiled, kind, audit);
            for program in Program::ALL {
                for v4 in [true, false] {
                    let place = world::Place::new(program.direction(), v4);
                    for scene in scenes::all(&place, audit) {
                        reached.extend(stage.play(program, &place, &scene));
                    }
                }
            }
        }
    }
    reached.extend(broken::play());
    reached.extend(refusing::play());
    reached.extend(venues::play());
    reached.extend(errors::play());
    reached.extend(links::play());
    reached.extend(full::play());
    reached.extend(nesting::play());
    reached.extend(sockets::play());
    full::importing();
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !reached.contains(reason)).collect();
    assert!(missing.is_empty(), "reasons that no scene ends with: {missing:?}");
}
