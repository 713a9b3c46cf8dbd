//! What the programs ask the agent to answer by a reset, and what not; the segment is dropped and counted
//! either way.

use std::net::SocketAddr;

use bulkhead_abi::{ANSWER_FORGOTTEN, AnswerRequest, Direction, REASONS, Rate, from_ip};
use bulkhead_dataplane::{Kind, Specification, Staged};
use bulkhead_engine::{Action, Reason};
use bulkhead_testkit::packets::build::{Extension, Ip, ethernet, ethertype, tcp};

use crate::hooks;
use crate::kernel::{Kernel, Program, ample, specification};
use crate::sockets::{HIGH, listener, of_both_ends};
use crate::world::{FORBIDDEN, Place, WEB, program};

const ACK: u8 = 0x10;
const FIN_ACK: u8 = 0x11;
const SYN_ACK: u8 = 0x12;
const RST: u8 = 0x04;
const ACKNOWLEDGED: u32 = 0xdead_beef;

/// A segment that acknowledges so much.
fn segment(from: SocketAddr, to: SocketAddr, flags: u8) -> Ip {
    let mut segment = tcp((from.port(), to.port()), flags, b"data");
    segment[8..12].copy_from_slice(&ACKNOWLEDGED.to_be_bytes());
    Ip::new(from.ip(), to.ip(), 6, segment)
}

fn framed(kind: Kind, tags: &[u16], packet: &Ip) -> Vec<u8> {
    let packet = packet.bytes();
    if kind == Kind::Ethernet { ethernet(tags, ethertype(&packet), &packet) } else { packet }
}

/// The far end's service, and this host's end of what it may have begun there.
fn ends(v4: bool) -> (SocketAddr, SocketAddr) {
    let Place { from, to, .. } = Place::new(Direction::Ingress, v4);
    (SocketAddr::new(from, WEB), SocketAddr::new(to, HIGH))
}

/// What is asked for in answer to a segment that is dropped for want of a flow, and moves that counter alone.
fn asked(kernel: &mut Kernel, program: Program, packet: &[u8]) -> Vec<AnswerRequest> {
    let moved = |kernel: &Kernel, before: &[u64]| -> Vec<usize> {
        let now = kernel.reasons().into_iter().map(|counter| counter.packets);
        now.zip(before).enumerate().filter(|(_, (now, then))| now != *then).map(|(index, _)| index).collect()
    };
    let before: Vec<u64> = kernel.reasons().iter().map(|counter| counter.packets).collect();
    assert_eq!(kernel.run(program, packet), Action::Drop);
    let index = program.direction().index() as usize * REASONS as usize + Reason::NoFlow as usize;
    assert_eq!(moved(kernel, &before), [index]);
    assert!(kernel.flows().is_empty());
    kernel.answers()
}

fn expected(from: SocketAddr, to: SocketAddr, time: u64) -> AnswerRequest {
    AnswerRequest {
        time,
        source: from_ip(from.ip()),
        destination: from_ip(to.ip()),
        number: ACKNOWLEDGED,
        source_port: from.port(),
        destination_port: to.port(),
        kind: ANSWER_FORGOTTEN,
        protocol: 6,
        direction: Direction::Ingress.index() as u8,
        reserved: [0; 5],
    }
}

#[test]
fn a_segment_to_a_forgotten_conversation_asks_for_a_reset() {
    of_both_ends("resets").run(every_hook).expect("the scenes");
}

fn every_hook() {
    let compiled = program();
    for (program, kind) in hooks().filter(|(program, _)| program.direction() == Direction::Ingress) {
        let mut kernel = Kernel::new(&compiled.tables, kind, false, ample());
        let mut seconds = 1..;
        let mut later = |kernel: &mut Kernel| kernel.set_clock(seconds.next().unwrap_or(0) * 1_000_000_000);
        for v4 in [true, false] {
            let (there, here) = ends(v4);
            let name = format!("{program:?} {kind:?} {here}");
            for listens in [false, true] {
                let open = listens.then(|| listener(here));
                for flags in [ACK, FIN_ACK] {
                    later(&mut kernel);
                    let found = asked(&mut kernel, program, &framed(kind, &[], &segment(there, here, flags)));
                    let time = found.first().map_or(0, |request| request.time);
                    assert_eq!(found, [expected(there, here, time)], "{name} {flags:#x} {listens}");
                    assert_ne!(time, 0);
                    // What follows at once is answered by the same.
                    assert_eq!(
                        asked(&mut kernel, program, &framed(kind, &[], &segment(there, here, flags))),
                        []
                    );
                }
                drop(open);
            }
            // What is before the header, or what of the segment is not there, moves nothing.
            let mut longer = segment(there, here, ACK);
            if v4 {
                longer.options = vec![1; 12];
            } else {
                longer.extensions = vec![Extension::padded(60, 2)];
            }
            later(&mut kernel);
            let tags: &[u16] = if kind == Kind::Ethernet { &[0x88a8, 0x8100] } else { &[] };
            let found = asked(&mut kernel, program, &framed(kind, tags, &longer));
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found, [expected(there, here, found[0].time)], "{name}");

            later(&mut kernel);
            for flags in [RST, RST | ACK, SYN_ACK] {
                kernel.run(program, &framed(kind, &[], &segment(there, here, flags)));
                assert_eq!(kernel.answers(), [], "{name} {flags:#x}");
            }
            // From a port that this host may not use; from who is cut off; of nobody.
            let others = [(2, FORBIDDEN), (3, WEB), (9, WEB)];
            for (node, port) in others {
                let (far, _) = Place::new(Direction::Ingress, v4).with_far(node);
                let far = SocketAddr::new(far, port);
                let packet = framed(kind, &[], &segment(far, here, ACK));
                assert_eq!(kernel.run(program, &packet), Action::Drop, "{name} {far}");
                assert_eq!(kernel.answers(), [], "{name} {far}");
            }
        }
    }
}

#[test]
fn what_goes_out_asks_for_none() {
    let compiled = program();
    for kind in [Kind::BareIp, Kind::Ethernet] {
        let mut kernel = Kernel::new(&compiled.tables, kind, false, ample());
        for v4 in [true, false] {
            let Place { from, to, .. } = Place::new(Direction::Egress, v4);
            let (here, there) = (SocketAddr::new(from, WEB), SocketAddr::new(to, HIGH));
            let packet = framed(kind, &[], &segment(here, there, ACK));
            assert_eq!(asked(&mut kernel, Program::TcEgress, &packet), []);
        }
    }
}

#[test]
fn the_answer_passes_where_the_policy_admits_it_and_opens_no_flow() {
    let compiled = program();
    for kind in [Kind::BareIp, Kind::Ethernet] {
        let mut kernel = Kernel::new(&compiled.tables, kind, false, ample());
        for v4 in [true, false] {
            let Place { from, to, .. } = Place::new(Direction::Egress, v4);
            let answer = segment(SocketAddr::new(from, HIGH), SocketAddr::new(to, WEB), RST);
            assert_eq!(kernel.run(Program::TcEgress, &framed(kind, &[], &answer)), Action::Pass);
            assert!(kernel.flows().is_empty());
        }
    }
}

#[test]
fn a_sender_is_answered_within_the_flows_that_he_may_begin() {
    let compiled = program();
    let rate = Rate { interval: 1_000_000_000, tolerance: 4_000_000_000 };
    for (program, kind) in hooks().filter(|(program, _)| program.direction() == Direction::Ingress) {
        let mut kernel = Kernel::with(&compiled.tables, kind, false, ample(), rate, 0);
        let (there, here) = ends(true);
        let mut answered = |ports: std::ops::Range<u16>| -> usize {
            let packets = ports.map(|port| segment(there, SocketAddr::new(here.ip(), port), ACK));
            packets.map(|packet| asked(&mut kernel, program, &framed(kind, &[], &packet)).len()).sum()
        };
        assert_eq!(answered(40_000..40_020), 5, "{program:?} {kind:?}");
    }
}

#[test]
fn neither_audit_mode_nor_what_observes_asks_for_any() {
    let compiled = program();
    let (there, here) = ends(true);
    let packet = segment(there, here, ACK);
    for (program, kind) in hooks().filter(|(program, _)| program.direction() == Direction::Ingress) {
        let packet = framed(kind, &[], &packet);
        let mut kernel = Kernel::new(&compiled.tables, kind, true, ample());
        assert_eq!(kernel.run(program, &packet), Action::Pass);
        assert_eq!(kernel.answers(), []);
        let staged = Some(Staged { number: 9, tables: &compiled.tables });
        let specification = Specification { staged, ..specification(&compiled.tables, ample()) };
        let mut kernel = Kernel::of(specification, kind, 0);
        assert_eq!(kernel.observe(program, &packet), Action::Drop);
        assert_eq!(kernel.answers().len(), 1, "the enforced one's");
    }
}

#[test]
fn a_ring_that_nobody_reads_changes_no_verdict() {
    let compiled = program();
    let mut kernel = Kernel::new(&compiled.tables, Kind::BareIp, false, ample());
    let (there, here) = ends(true);
    let to = |port| segment(there, SocketAddr::new(here.ip(), port), ACK).bytes();
    for port in 40_000..48_000 {
        assert_eq!(kernel.run(Program::TcIngress, &to(port)), Action::Drop);
    }
    let kept = kernel.answers().len();
    assert!((2000..3000).contains(&kept), "{kept}");
    kernel.set_clock(1_000_000_000);
    assert_eq!(asked(&mut kernel, Program::TcIngress, &to(50_000)).len(), 1, "there is room again");
}
