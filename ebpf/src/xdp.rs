//! XDP, ingress: native on Ethernet interfaces, generic where asked for.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bulkhead_abi::Direction;
use bulkhead_engine::parse::parse;
use bulkhead_engine::{Action, Case, Environment as _, Packet, Short, decide_parsed, judge_plain};

use crate::audit::{self, conclude, conclude_settled, count_crowded_out};
use crate::maps::{MAPS, View};
use crate::nesting::Place;

#[inline(always)]
pub(crate) fn packet_of(ctx: &XdpContext) -> Packet<'_> {
    let (start, end) = (ctx.data(), ctx.data_end());
    // SAFETY: the context's bounds of the packet.
    unsafe { Packet::from_raw(start, end, (end - start) as u32) }
}

/// Parses a packet into its case.
#[inline(always)]
pub(crate) fn parse_packet<'a>(ctx: &'a XdpContext, case: &mut Case) -> Packet<'a> {
    let packet = packet_of(ctx);
    parse(&packet, MAPS.ethernet(), &mut case.headers);
    packet
}

// In line: see `tc`.
#[xdp]
#[inline(always)]
fn xdp_ingress(ctx: XdpContext) -> u32 {
    let packet = packet_of(&ctx);
    let has_budget = |is_known| xdp_has_budget(ctx.as_ptr().cast(), is_known);
    let judged = match judge_plain(&MAPS, &packet, Direction::Ingress) {
        Some(Short::Settled(length, outcome, remote)) => {
            if let Some(action) = conclude_settled((length, outcome, remote), Direction::Ingress, has_budget)
            {
                return verdict(action);
            }
            None
        }
        Some(Short::Judged(judged)) => Some(judged),
        None => None,
    };
    let Some(place) = Place::enter(Direction::Ingress) else {
        return crowded_out(&packet);
    };
    let Some(case) = place.case() else {
        return XDP_DROP;
    };
    match judged {
        Some(judged) => judged.decide(&View::<false, _>(ctx.ctx), &packet, Direction::Ingress, case),
        None => {
            let packet = parse_packet(&ctx, case);
            decide_parsed(&View::<false, _>(ctx.ctx), &packet, Direction::Ingress, case);
        }
    }
    #[cfg(feature = "log")]
    crate::audit::log(&ctx, case, Direction::Ingress);
    let action = conclude(case, place, Direction::Ingress, ctx.ingress_ifindex() as u32);
    place.give_back();
    verdict(action)
}

/// [`audit::has_budget`].
#[inline(never)]
fn xdp_has_budget(ctx: *mut xdp_md, is_known: bool) -> bool {
    audit::has_budget(&packet_of(&XdpContext::new(ctx)), Direction::Ingress, is_known)
}

/// Drops a packet that there is no place to decide in.
#[inline(always)]
pub(crate) fn crowded_out(packet: &Packet) -> u32 {
    count_crowded_out(packet.length_of_ip(MAPS.ethernet()), Direction::Ingress);
    XDP_DROP
}

#[inline(always)]
const fn verdict(action: Action) -> u32 {
    match action {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
    }
}
