//! The packets that hooks hand over: their bounds, in memory that may be read.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::{TcContext, XdpContext};
use bulkhead_engine::Packet;

/// The frame of an XDP program.
#[inline(always)]
pub(crate) fn xdp_packet(ctx: &XdpContext) -> Packet<'_> {
    let (start, end) = (ctx.data(), ctx.data_end());
    // SAFETY: the context's bounds of the packet.
    unsafe { Packet::from_raw(start, end, (end - start) as u32) }
}

/// The packet of a TC program, as far as it lies in linear memory.
#[inline(always)]
pub(crate) fn tc_packet(ctx: &TcContext) -> Packet<'_> {
    // SAFETY: the context's bounds of the packet's linear part.
    let packet = unsafe { Packet::from_raw(ctx.data(), ctx.data_end(), ctx.len()) };
    // SAFETY: the context is the kernel's `__sk_buff`.
    packet.merged_from(unsafe { (*ctx.as_ptr().cast::<__sk_buff>()).gso_size })
}
