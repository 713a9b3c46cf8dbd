//! Real-time kernels, where programs interrupt each other on a CPU: each has a place of its own. Here
//! other threads have places already, as if this one had interrupted them.

use bulkhead_abi::{NESTING_LEVELS, NO_RULE, REASONS};
use bulkhead_dataplane::{Kind, Specification, Staged};
use bulkhead_engine::memory::Tables;
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::build::{Ip, ethernet, ethertype, tcp, udp};

use crate::hooks;
use crate::kernel::{Kernel, Program, ample, specification};
use crate::world::{self, FORBIDDEN, NAMES, Place, WEB};

const ACK: u8 = 0x10;

fn kernel(tables: &Tables, kind: Kind, audit: bool, staged: Option<&Tables>) -> Kernel {
    let staged = staged.map(|tables| Staged { number: 9, tables });
    Kernel::of(Specification { realtime: true, audit, staged, ..specification(tables, ample()) }, kind, 0)
}

fn framed(kind: Kind, ip: Ip) -> Vec<u8> {
    let bytes = ip.bytes();
    if kind == Kind::Ethernet { ethernet(&[], ethertype(&bytes), &bytes) } else { bytes }
}

/// Lets packets come while 0 to all places are taken; returns the reasons.
pub fn play() -> Vec<Reason> {
    let tables = world::program().tables;
    let mut reached = Vec::new();
    for (program, kind) in hooks() {
        for audit in [false, true] {
            let mut kernel = kernel(&tables, kind, audit, None);
            for taken in [0, 1, NESTING_LEVELS - 1] {
                goes_on(&mut kernel, program, kind, taken);
            }
            reached.push(is_crowded_out(&mut kernel, program, kind));
            // And on, once a place is free.
            goes_on(&mut kernel, program, kind, 2);
        }
    }
    reached
}

/// A packet that begins a flow, in the first place that is free: its metadata and search are there alone.
fn goes_on(kernel: &mut Kernel, program: Program, kind: Kind, taken: u32) {
    let place = Place::new(program.direction(), true);
    let port = 20_000 + taken as u16;
    let packet = framed(kind, Ip::new(place.from, place.to, 17, udp((port, NAMES), &[0; 8])));
    kernel.occupy(taken as usize);
    kernel.forget_flows();
    let below: Vec<_> = (0..taken).map(|place| kernel.metadata_at(place)).collect();
    let before = kernel.rules();
    assert_eq!(kernel.run(program, &packet), Action::Pass, "{program:?}, {kind:?}, {taken} taken");
    let meta = kernel.metadata_at(taken);
    assert_eq!(meta.outcome.reason, Reason::Rule, "{program:?}, {kind:?}, {taken} taken");
    let rule = meta.outcome.rule as usize;
    let (before, after) = (before[rule], kernel.rules()[rule]);
    assert_eq!((after.packets - before.packets, after.bytes - before.bytes), (1, 36));
    assert_eq!(meta.headers.source_port, port);
    let unchanged: Vec<_> = (0..taken).map(|place| kernel.metadata_at(place)).collect();
    assert_eq!(below, unchanged, "what others work on");
    assert_eq!(kernel.flows().len(), 1);
    let mut at_work = vec![0; NESTING_LEVELS as usize];
    at_work[..taken as usize].fill(u64::MAX);
    assert_eq!(kernel.at_work(), at_work, "the place is given back, and no other");
}

/// A packet for which no place is free: dropped in audit mode too, for who is quarantined is not known.
fn is_crowded_out(kernel: &mut Kernel, program: Program, kind: Kind) -> Reason {
    let place = Place::new(program.direction(), true);
    kernel.occupy(NESTING_LEVELS as usize);
    kernel.forget_flows();
    let packet = framed(kind, Ip::new(place.from, place.to, 17, udp((21_000, NAMES), &[0; 8])));
    let (before, told) = (kernel.reasons(), kernel.events().len());
    assert_eq!(kernel.run(program, &packet), Action::Drop, "{program:?}, {kind:?}");
    let moved: Vec<_> = kernel
        .reasons()
        .into_iter()
        .zip(before)
        .enumerate()
        .filter_map(|(index, (a, b))| {
            (a != b).then_some((index as u32, a.packets - b.packets, a.bytes - b.bytes))
        })
        .collect();
    let index = program.direction().index() * REASONS + Reason::NestingDepth as u32;
    assert_eq!(moved, [(index, 1, 36)], "{program:?}, {kind:?}");
    assert_eq!((kernel.events().len(), told), (0, 0), "counted, and not told of");
    assert!(kernel.flows().is_empty());
    assert_eq!(kernel.at_work(), vec![u64::MAX; NESTING_LEVELS as usize]);
    // What is settled at once needs no place.
    if !kernel.audit {
        let packet = framed(kind, Ip::new(place.from, place.to, 6, tcp((50_000, WEB), ACK, &[])));
        assert_eq!(kernel.run(program, &packet), Action::Pass, "{program:?}, {kind:?}");
    }
    Reason::NestingDepth
}

#[test]
fn a_staged_policy_observes_in_the_same_place_on_a_real_time_kernel() {
    let tables = world::program().tables;
    // It denies everything.
    let candidate = Tables::deny_all();
    for (program, kind) in hooks() {
        let mut kernel = kernel(&tables, kind, false, Some(&candidate));
        let place = Place::new(program.direction(), true);
        let packet = |port| framed(kind, Ip::new(place.from, place.to, 6, tcp((50_000, port), 2, &[])));
        let mut differences = 0;
        for taken in [0, 3, NESTING_LEVELS - 1] {
            kernel.occupy(taken as usize);
            kernel.forget_flows();
            assert_eq!(kernel.observe(program, &packet(WEB)), Action::Pass, "{program:?}, {kind:?}");
            differences += 1;
            assert_eq!(kernel.differences(), differences);
            assert_eq!(kernel.observe(program, &packet(FORBIDDEN)), Action::Drop);
            assert_eq!(kernel.differences(), differences, "both drop it");
            let meta = kernel.metadata_at(taken);
            assert_eq!(meta.outcome.reason, Reason::DenyRule);
            let staged = kernel.metadata_at(NESTING_LEVELS + taken);
            assert_eq!((staged.outcome.rule, staged.headers), (NO_RULE, meta.headers));
            assert_eq!(kernel.at_work().iter().filter(|thread| **thread != 0).count(), taken as usize);
        }
        kernel.occupy(NESTING_LEVELS as usize);
        assert_eq!(kernel.observe(program, &packet(WEB)), Action::Drop);
        assert_eq!(kernel.differences(), differences);
    }
}
