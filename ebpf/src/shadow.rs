//! A generation that only observes: it decides first, on the flows as they are before the packet,
//! and then the enforced program runs. It lies in programs of its own, which are on the hooks only
//! while a candidate is staged: the enforced ones carry nothing of it, and the verifier sees each
//! alone. Where the enforced program cannot be reached, the packet is dropped.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::{classifier, map, xdp};
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::{TcContext, XdpContext};
use bulkhead_abi::{AggregateKey, DIRECTIONS, Direction, KIND_SHADOW, shadow_index};
use bulkhead_engine::{Action, Case, Reason, decide_parsed};

use crate::audit::{count, report_difference, undecided};
use crate::maps::{SHADOW_COUNTERS, View};
use crate::nesting::Place;
use crate::settings;

/// The enforced program of this interface's XDP hook.
#[map]
static XDP_ENFORCED: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// The enforced programs of its TC hooks, by direction.
#[map]
static TC_ENFORCED: ProgramArray = ProgramArray::with_max_entries(DIRECTIONS, 0);

#[xdp]
fn xdp_observe(ctx: XdpContext) -> u32 {
    let Some(place) = Place::take(Direction::Ingress) else {
        return crate::xdp::crowded_out(&crate::xdp::packet_of(&ctx));
    };
    if let Some(case) = place.shadow_case() {
        let packet = crate::xdp::parse_packet(&ctx, case);
        decide_parsed(&View::<true, _>(ctx.ctx), &packet, Direction::Ingress, case);
    }
    // SAFETY: nothing here needs to be dropped.
    unsafe { XDP_ENFORCED.tail_call(&ctx, 0) };
    undecided(place.shadow_case(), Direction::Ingress, ctx.ingress_ifindex() as u32);
    place.give_back();
    XDP_DROP
}

#[classifier]
fn tc_observe_in(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Ingress)
}

#[classifier]
fn tc_observe_out(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Egress)
}

#[inline(always)]
fn observe(ctx: &TcContext, direction: Direction) -> i32 {
    let Some(place) = Place::take(direction) else {
        return crate::tc::crowded_out(ctx, direction);
    };
    if let Some(case) = place.shadow_case() {
        let packet = crate::tc::parse_packet(ctx, case);
        decide_parsed(&View::<true, _>(ctx.skb.skb), &packet, direction, case);
    }
    // SAFETY: nothing here needs to be dropped.
    unsafe { TC_ENFORCED.tail_call(ctx, direction.index()) };
    // SAFETY: the context is the kernel's `__sk_buff`.
    let interface = unsafe { (*ctx.as_ptr().cast::<__sk_buff>()).ifindex };
    undecided(place.shadow_case(), direction, interface);
    place.give_back();
    TC_ACT_SHOT
}

/// Counts and reports a packet that the observing generation decided otherwise.
#[inline(always)]
pub(crate) fn compare(case: &Case, place: Place, direction: Direction, interface: u32) {
    if !settings::has_shadow() || !is_of_policy(case.outcome.reason) {
        return;
    }
    let Some(shadow) = place.shadow_case() else {
        return;
    };
    let would_pass = shadow.outcome.reason.action() == Action::Pass;
    if would_pass == (case.outcome.reason.action() == Action::Pass) {
        return;
    }
    count(SHADOW_COUNTERS.get_ptr_mut(shadow_index(direction, would_pass)), case.headers.length);
    let key = || AggregateKey {
        other_rule: case.outcome.rule,
        other_generation: settings::generation(),
        other_reason: case.outcome.reason as u8,
        kind: KIND_SHADOW,
        ..shadow.drop_key(direction, interface, settings::shadow_generation())
    };
    report_difference(key, case, direction);
}

/// Whether the policy had a say: a quarantine, a rate, a link protocol and who may send errors are not its.
#[inline(always)]
const fn is_of_policy(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::Quarantined
            | Reason::Link
            | Reason::Membership
            | Reason::MembershipGroup
            | Reason::PacketRate
            | Reason::NewFlowRate
            | Reason::InitiatorRate
            | Reason::IcmpErrorSource
            | Reason::IcmpErrorRate
    )
}
