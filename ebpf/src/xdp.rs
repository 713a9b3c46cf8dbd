//! XDP, ingress: native on Ethernet interfaces, generic where asked for.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bulkhead_engine::layout::Direction;
use bulkhead_engine::parse::parse;
use bulkhead_engine::{Action, Case, Environment as _, Packet, decide_parsed};

use crate::audit::conclude;
use crate::maps::{MAPS, case};

/// Parses a packet into its case.
#[inline(always)]
pub(crate) fn parse_packet<'a>(ctx: &'a XdpContext, case: &mut Case) -> Packet<'a> {
    let (start, end) = (ctx.data(), ctx.data_end());
    // SAFETY: the context's bounds of the packet.
    let packet = unsafe { Packet::from_raw(start, end, (end - start) as u32) };
    parse(&packet, MAPS.ethernet(), &mut case.headers);
    packet
}

#[xdp]
fn xdp_ingress(ctx: XdpContext) -> u32 {
    let Some(case) = case(Direction::Ingress) else {
        return XDP_DROP;
    };
    let packet = parse_packet(&ctx, case);
    decide_parsed(&MAPS, &packet, Direction::Ingress, case);
    #[cfg(feature = "log")]
    crate::audit::log(&ctx, case, Direction::Ingress);
    match conclude(case, Direction::Ingress, ctx.ingress_ifindex() as u32) {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
    }
}
