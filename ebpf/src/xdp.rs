//! XDP, ingress: native on Ethernet interfaces, generic where asked for.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bulkhead_abi::Direction;
use bulkhead_engine::parse::parse;
use bulkhead_engine::{Action, Case, Environment as _, Packet};

use crate::driver::{Hook, run};
use crate::environment::MAPS;
use crate::packets::xdp_packet;
use crate::reports;

// In line: see `tc`.
#[xdp]
#[inline(always)]
fn xdp_ingress(ctx: XdpContext) -> u32 {
    match run(&ctx, Direction::Ingress) {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
    }
}

impl Hook for XdpContext {
    type Sockets = *mut xdp_md;

    #[inline(always)]
    fn packet(&self) -> Packet<'_> {
        xdp_packet(self)
    }
    #[inline(always)]
    fn parse(&self, case: &mut Case) -> Packet<'_> {
        let packet = xdp_packet(self);
        parse(&packet, MAPS.ethernet(), &mut case.headers);
        packet
    }
    #[inline(always)]
    fn sockets(&self) -> *mut xdp_md {
        self.ctx
    }
    #[inline(always)]
    fn interface(&self) -> u32 {
        self.ingress_ifindex() as u32
    }
    #[inline(always)]
    fn has_budget(&self, _direction: Direction, is_known: bool) -> bool {
        xdp_has_budget(self.as_ptr().cast(), is_known)
    }
    // What comes in is no report of this host's.
    #[inline(always)]
    fn judge_report(&self, _case: &mut Case, _direction: Direction) {}
}

/// [`reports::has_budget`].
#[inline(never)]
fn xdp_has_budget(ctx: *mut xdp_md, is_known: bool) -> bool {
    reports::has_budget(&xdp_packet(&XdpContext::new(ctx)), Direction::Ingress, is_known)
}
