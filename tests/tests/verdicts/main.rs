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
mod workloads;
mod world;

use std::collections::BTreeSet;

use bulkhead_abi::REASONS;
use bulkhead_dataplane::Kind;
use bulkhead_engine::Reason;
use bulkhead_policy::compile::Program as Compiled;
use bulkhead_testkit::packets::build::{Ip, ethernet, ethertype};

use kernel::{Kernel, Program};
use steps::Stage;

/// Every (program, kind of interface).
pub fn hooks() -> impl Iterator<Item = (Program, Kind)> {
    let kinds = [Kind::BareIp, Kind::Ethernet];
    Program::ALL.into_iter().flat_map(move |program| kinds.map(|kind| (program, kind)))
}

#[test]
fn every_reason_on_every_hook() {
    let compiled = world::program();
    let compiled = &compiled;
    // They share nothing, so that every core has something to do.
    let reached: BTreeSet<Reason> = std::thread::scope(|scope| {
        let staged = [Kind::BareIp, Kind::Ethernet]
            .into_iter()
            .flat_map(|kind| [false, true].map(|audit| scope.spawn(move || stage(compiled, kind, audit))));
        let alone = [
            broken::play,
            refusing::play,
            venues::play,
            errors::play,
            links::play,
            full::play,
            nesting::play,
            sockets::play,
        ];
        let mut parts: Vec<_> = staged.collect();
        parts.push(scope.spawn(move || alone.into_iter().flat_map(|play| play()).collect()));
        parts.into_iter().flat_map(|part| part.join().expect("a part fails the test")).collect()
    });
    full::importing();
    // It moves the process from cgroup to cgroup.
    let reached: BTreeSet<Reason> = reached.into_iter().chain(workloads::play()).collect();
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !reached.contains(reason)).collect();
    assert!(missing.is_empty(), "reasons that no scene ends with: {missing:?}");
}

/// Every scene on every program of one kind of interface, in one mode.
fn stage(compiled: &Compiled, kind: Kind, audit: bool) -> Vec<Reason> {
    let mut stage = Stage::new(compiled, kind, audit);
    let mut reached = Vec::new();
    for program in Program::ALL {
        for v4 in [true, false] {
            let place = world::Place::new(program.direction(), v4);
            let scenes = scenes::all(&place, audit);
            reached.extend(scenes.iter().filter_map(|scene| stage.play(program, &place, scene)));
        }
    }
    reached
}

/// Hands a program an IP packet, on an Ethernet interface in a frame; why it was decided so, by the counter that moved.
/// `from` is the interface by which the packet came in, 0: none.
fn decided(kernel: &mut Kernel, kind: Kind, program: Program, packet: &Ip, from: u32) -> Reason {
    let mut bytes = packet.bytes();
    if kind == Kind::Ethernet {
        bytes = ethernet(&[], ethertype(&bytes), &bytes);
    }
    let before = kernel.reasons();
    let action = kernel.run_forwarded(program, &bytes, from);
    let after = kernel.reasons();
    let first = (program.direction().index() * REASONS) as usize;
    let moved = Reason::ALL
        .iter()
        .find(|reason| after[first + **reason as usize].packets != before[first + **reason as usize].packets);
    let reason = moved.copied().unwrap_or(Reason::Rule);
    assert_eq!(action, reason.action(), "{reason:?}");
    reason
}
