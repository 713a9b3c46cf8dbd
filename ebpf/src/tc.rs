//! TCX: both directions.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use bulkhead_abi::Direction;
use bulkhead_engine::parse::{Headers, Role, parse};
use bulkhead_engine::report::is_unread;
use bulkhead_engine::{Action, Case, Environment as _, Packet};

use crate::driver::{Hook, run};
use crate::environment::MAPS;
use crate::membership::tc_report;
use crate::packets::tc_packet;
use crate::reports;

/// `TCX_NEXT`: other filters still run.
const NEXT: i32 = -1;

/// How much of a packet is pulled into linear memory when its headers are not there: more
/// than the longest headers that are accepted in practice; beyond it, a packet is truncated.
const PULL: u32 = 512;

// In line: LLVM would else call the whole of it from a program that does nothing more.
#[classifier]
#[inline(always)]
fn tc_ingress(ctx: TcContext) -> i32 {
    verdict(run(&ctx, Direction::Ingress))
}

#[classifier]
#[inline(always)]
fn tc_egress(ctx: TcContext) -> i32 {
    verdict(run(&ctx, Direction::Egress))
}

impl Hook for TcContext {
    type Sockets = *mut __sk_buff;

    #[inline(always)]
    fn packet(&self) -> Packet<'_> {
        tc_packet(self)
    }
    /// The packet's bounds are read once more at the end, so that the verifier need not tell packets that were
    /// pulled from those that were not.
    #[inline(always)]
    fn parse(&self, case: &mut Case) -> Packet<'_> {
        parse(&tc_packet(self), MAPS.ethernet(), &mut case.headers);
        if wants_more(&case.headers) && self.data_end() - self.data() < self.len() as usize {
            // A failure leaves the packet as it was, and it is dropped as truncated.
            let _ = self.pull_data(self.len().min(PULL));
            tc_parse_again(self.as_ptr().cast(), case);
        }
        tc_packet(self)
    }
    #[inline(always)]
    fn sockets(&self) -> *mut __sk_buff {
        self.skb.skb
    }
    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is the kernel's `__sk_buff`.
        unsafe { (*self.as_ptr().cast::<__sk_buff>()).ifindex }
    }
    #[inline(always)]
    fn has_budget(&self, direction: Direction, is_known: bool) -> bool {
        tc_has_budget(self.as_ptr().cast(), direction, is_known)
    }
    #[inline(always)]
    fn judge_report(&self, case: &mut Case, direction: Direction) {
        if direction == Direction::Egress && is_unread(&MAPS, case) {
            tc_report(self.as_ptr().cast(), case);
        }
    }
}

/// [`reports::has_budget`].
#[inline(never)]
fn tc_has_budget(ctx: *mut __sk_buff, direction: Direction, is_known: bool) -> bool {
    reports::has_budget(&tc_packet(&TcContext::new(ctx)), direction, is_known)
}

/// The hook's own verdict.
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
        parse(&tc_packet(&TcContext::new(ctx)), MAPS.ethernet(), &mut case.headers);
    }
    0
}
