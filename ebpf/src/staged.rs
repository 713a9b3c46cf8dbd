//! A generation that only observes: it decides first, on the flows as they are before the packet,
//! and then the enforced program runs. It lies in programs of its own, which are on the hooks only
//! while a policy is staged: the enforced ones carry nothing of it, and the verifier sees each
//! alone. Where the enforced program cannot be reached, the packet is dropped.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::{TcContext, XdpContext};
use bulkhead_abi::{DIRECTIONS, Direction};

use crate::audit::undecided;
use crate::driver::{Hook as _, observe};
use crate::nesting::Place;

/// The enforced program of this interface's XDP hook.
#[map]
static XDP_ENFORCED: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// The enforced programs of its TC hooks, by direction.
#[map]
static TC_ENFORCED: ProgramArray = ProgramArray::with_max_entries(DIRECTIONS, 0);

#[xdp]
fn xdp_observe(ctx: XdpContext) -> u32 {
    let direction = Direction::Ingress;
    if let Some(place) = observe(&ctx, direction) {
        // SAFETY: nothing here needs to be dropped.
        unsafe { XDP_ENFORCED.tail_call(&ctx, 0) };
        end(place, direction, ctx.interface());
    }
    XDP_DROP
}

#[classifier]
fn tc_observe_in(ctx: TcContext) -> i32 {
    tc_observe(&ctx, Direction::Ingress)
}

#[classifier]
fn tc_observe_out(ctx: TcContext) -> i32 {
    tc_observe(&ctx, Direction::Egress)
}

#[inline(always)]
fn tc_observe(ctx: &TcContext, direction: Direction) -> i32 {
    if let Some(place) = observe(ctx, direction) {
        // SAFETY: nothing here needs to be dropped.
        unsafe { TC_ENFORCED.tail_call(ctx, direction.index()) };
        end(place, direction, ctx.interface());
    }
    TC_ACT_SHOT
}

/// The enforced program could not be reached.
#[inline(always)]
fn end(place: Place, direction: Direction, interface: u32) {
    undecided(place.staged_meta(), direction, interface);
    place.give_back();
}
