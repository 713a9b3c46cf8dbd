//! Addresses of the packet that a program on a cgroup gets: it begins at its IP header.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id, bpf_skb_load_bytes,
};
use aya_ebpf::programs::SkBuffContext;
use bulkhead_abi::Address;

use crate::settings;
use crate::settings::mapped;

/// EtherTypes, as they lie in the packet.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// Which end of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

fn skb(ctx: &SkBuffContext) -> *mut __sk_buff {
    ctx.as_ptr().cast()
}

/// Whether the packet is known to be in a network namespace other than the host's, whose addresses are its own.
#[inline(always)]
pub(crate) fn is_elsewhere(ctx: &SkBuffContext) -> bool {
    // SAFETY: the context is the kernel's.
    settings::tells_netns() != 0 && unsafe { bpf_get_netns_cookie(ctx.as_ptr()) } != settings::netns()
}

/// The address of an end; `None` if there is none, as in a packet that is too short.
#[inline(always)]
pub(crate) fn address(ctx: &SkBuffContext, end: End) -> Option<Address> {
    // SAFETY: the context is the kernel's `__sk_buff`.
    match unsafe { (*skb(ctx)).protocol } {
        IPV4 => {
            let mut word = 0u32;
            let offset = if end == End::Source { 12 } else { 16 };
            load(ctx, offset, &mut word).then(|| mapped(word))
        }
        IPV6 => {
            let mut words = [0u32; 4];
            let offset = if end == End::Source { 8 } else { 24 };
            load(ctx, offset, &mut words).then_some(words)
        }
        _ => None,
    }
}

/// Reads words of the packet; whether they are there. `T` is words.
#[inline(always)]
fn load<T: Copy>(ctx: &SkBuffContext, offset: u32, to: &mut T) -> bool {
    let to: *mut c_void = core::ptr::from_mut(to).cast();
    // SAFETY: as much as there is room for, of any bytes.
    unsafe { bpf_skb_load_bytes(skb(ctx).cast(), offset, to, size_of::<T>() as u32) == 0 }
}

/// The id of the cgroup of the packet's socket; 1 is the root's, 0 none.
#[inline(always)]
pub(crate) fn cgroup(ctx: &SkBuffContext) -> u64 {
    // SAFETY: the context is the kernel's `__sk_buff`.
    unsafe { bpf_skb_cgroup_id(skb(ctx)) }
}

/// The id of the cgroup at a level that the socket's lies in or is; 0: there is none so deep.
#[inline(always)]
pub(crate) fn ancestor(ctx: &SkBuffContext, level: u32) -> u64 {
    // SAFETY: the context is the kernel's `__sk_buff`.
    unsafe { bpf_skb_ancestor_cgroup_id(skb(ctx), level as i32) }
}
