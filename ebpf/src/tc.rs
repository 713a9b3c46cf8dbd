//! TC (TCX, clsact): both directions.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use bulkhead_abi::Direction;
use bulkhead_engine::parse::{Headers, Role, parse};
use bulkhead_engine::report::is_unread;
use bulkhead_engine::{Action, Case, Environment as _, Packet, Short, decide_parsed, judge_plain};

use crate::audit::{self, conclude, conclude_settled, count_crowded_out};
use crate::maps::{MAPS, View};
use crate::nesting::Place;
use crate::report::tc_report;

/// `TCX_NEXT`, and clsact's `TC_ACT_UNSPEC`: other filters still run.
const NEXT: i32 = -1;

/// How much of a packet is pulled into linear memory when its headers are not there: more
/// than the longest headers that are accepted in practice; beyond it, a packet is truncated.
const PULL: u32 = 512;

// In line: LLVM would else call the whole of it from a program that does nothing more.
#[classifier]
#[inline(always)]
fn tc_ingress(ctx: TcContext) -> i32 {
    run(&ctx, Direction::Ingress)
}

#[classifier]
#[inline(always)]
fn tc_egress(ctx: TcContext) -> i32 {
    run(&ctx, Direction::Egress)
}

#[inline(always)]
pub(crate) fn packet_of(ctx: &TcContext) -> Packet<'_> {
    // SAFETY: the context's bounds of the packet's linear part.
    let packet = unsafe { Packet::from_raw(ctx.data(), ctx.data_end(), ctx.len()) };
    // SAFETY: the context is the kernel's `__sk_buff`.
    packet.merged_from(unsafe { (*ctx.as_ptr().cast::<__sk_buff>()).gso_size })
}

/// Parses a packet into its case. Its bounds are read once more at the end, so that the verifier
/// need not tell packets that were pulled from those that were not.
#[inline(always)]
pub(crate) fn parse_packet<'a>(ctx: &'a TcContext, case: &mut Case) -> Packet<'a> {
    parse(&packet_of(ctx), MAPS.ethernet(), &mut case.headers);
    if wants_more(&case.headers) && ctx.data_end() - ctx.data() < ctx.len() as usize {
        // A failure leaves the packet as it was, and it is dropped as truncated.
        let _ = ctx.pull_data(ctx.len().min(PULL));
        tc_parse_again(ctx.as_ptr().cast(), case);
    }
    packet_of(ctx)
}

#[inline(always)]
fn run(ctx: &TcContext, direction: Direction) -> i32 {
    let packet = packet_of(ctx);
    let has_budget = |is_known| tc_has_budget(ctx.as_ptr().cast(), direction, is_known);
    let judged = match judge_plain(&MAPS, &packet, direction) {
        Some(Short::Settled(length, outcome, remote)) => {
            if let Some(action) = conclude_settled((length, outcome, remote), direction, has_budget) {
                return verdict(action);
            }
            None
        }
        Some(Short::Judged(judged)) => Some(judged),
        None => None,
    };
    let Some(place) = Place::enter(direction) else {
        return crowded_out(ctx, direction);
    };
    let Some(case) = place.case() else {
        return TC_ACT_SHOT;
    };
    match judged {
        Some(judged) => judged.decide(&View::<false, _>(ctx.skb.skb), &packet, direction, case),
        None => {
            let packet = parse_packet(ctx, case);
            decide_parsed(&View::<false, _>(ctx.skb.skb), &packet, direction, case);
            if direction == Direction::Egress && is_unread(&MAPS, case) {
                tc_report(ctx.as_ptr().cast(), case);
            }
        }
    }
    // SAFETY: the context is the kernel's `__sk_buff`.
    let interface = unsafe { (*ctx.as_ptr().cast::<__sk_buff>()).ifindex };
    #[cfg(feature = "log")]
    crate::audit::log(ctx, case, direction);
    let action = conclude(case, place, direction, interface);
    place.give_back();
    verdict(action)
}

/// [`audit::has_budget`].
#[inline(never)]
fn tc_has_budget(ctx: *mut __sk_buff, direction: Direction, is_known: bool) -> bool {
    audit::has_budget(&packet_of(&TcContext::new(ctx)), direction, is_known)
}

/// Drops a packet that there is no place to decide in.
#[inline(always)]
pub(crate) fn crowded_out(ctx: &TcContext, direction: Direction) -> i32 {
    count_crowded_out(packet_of(ctx).length_of_ip(MAPS.ethernet()), direction);
    TC_ACT_SHOT
}

#[inline(always)]
const fn verdict(action: Action) -> i32 {
    match action {
        Action::Pass => NEXT,
        Action::Drop => TC_ACT_SHOT,
    }
}

/// Whether more of the packet in linear memory might tell more. An ICMP error quotes another
/// packet behind its own headers.
#[inline(always)]
fn wants_more(headers: &Headers) -> bool {
    match headers.role {
        Role::Invalid => headers.fault.is_truncation(),
        role => role == Role::Error,
    }
}

/// The parser once more, which is rare. A global function: the verifier looks at it once, by itself,
/// and not again for every way through the parser before.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_parse_again(ctx: *mut __sk_buff, case: *mut Case) -> u32 {
    // SAFETY: the verifier makes sure that what is not null can be written.
    if let Some(case) = unsafe { case.as_mut() } {
        parse(&packet_of(&TcContext::new(ctx)), MAPS.ethernet(), &mut case.headers);
    }
    0
}
