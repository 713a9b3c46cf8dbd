//! On the root cgroup, for every socket of the host: a workload's address is used by its cgroup alone, and a cgroup
//! that the agent has not looked at yet uses no overlay address, since it may be a workload's.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sockopt;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_netns_cookie,
};
use aya_ebpf::macros::{cgroup_skb, cgroup_sock_addr, cgroup_sockopt};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockoptContext};

use crate::maps::{holder, is_overlay, is_seen};
use crate::packet::{End, address, ancestor, cgroup, is_elsewhere};
use crate::settings;
use crate::settings::is_near;
use crate::socket::Question;
use crate::verdict::verdict;

/// The highest id of what the kernel itself sends by: the root cgroup's.
const KERNEL: u64 = 1;

/// `SOL_PACKET`, `SOL_XDP` of linux/socket.h, `PACKET_QDISC_BYPASS` of linux/if_packet.h.
const SOL_PACKET: i32 = 263;
const SOL_XDP: i32 = 283;
const PACKET_QDISC_BYPASS: i32 = 20;

/// The longest option that the kernel copies for programs; of longer ones they see the beginning.
const LONGEST_OPTION: i32 = 4096;

#[cgroup_skb(ingress)]
fn host_ingress(ctx: SkBuffContext) -> i32 {
    verdict(may_use(&ctx, End::Destination, false))
}

#[cgroup_skb(egress)]
fn host_egress(ctx: SkBuffContext) -> i32 {
    // Resets of the kernel: whether they pass is judged where it is known what they answer.
    verdict(may_use(&ctx, End::Source, true) && may_reach(&ctx))
}

/// Whether a packet may go to its destination, if that is this host's on the overlay: over lo a source such as 127.0.0.1
/// says nothing of who sends.
#[inline(always)]
fn may_reach(ctx: &SkBuffContext) -> bool {
    let Some(address) = address(ctx, End::Destination) else { return true };
    !is_near(&address) || is_elsewhere(ctx) || holder(&address).is_none() || is_seen(cgroup(ctx))
}

/// Whether a packet's socket may have the address of an end.
#[inline(always)]
fn may_use(ctx: &SkBuffContext, end: End, is_kernels: bool) -> bool {
    // What is neither IPv4 nor IPv6 has none of these addresses.
    let Some(address) = address(ctx, end) else { return true };
    if !is_near(&address) || is_elsewhere(ctx) {
        return true;
    }
    match holder(&address) {
        None => true,
        Some(holder) if holder.cgroup == 0 => is_seen(cgroup(ctx)),
        Some(holder) => ancestor(ctx, holder.level) == holder.cgroup || is_kernels && cgroup(ctx) <= KERNEL,
    }
}

#[cgroup_sock_addr(bind4)]
fn host_bind4(ctx: SockAddrContext) -> i32 {
    verdict(bind(&Question::<false>(ctx)))
}

#[cgroup_sock_addr(bind6)]
fn host_bind6(ctx: SockAddrContext) -> i32 {
    verdict(bind(&Question::<true>(ctx)))
}

/// Of a workload's address the process is asked: the kernel does not tell whose the socket is here. If that is
/// another's, its packets are dropped.
#[inline(always)]
fn bind<const V6: bool>(question: &Question<V6>) -> bool {
    let wanted = question.address();
    if !is_near(&wanted) || question.is_elsewhere() {
        return true;
    }
    match holder(&wanted) {
        Some(holder) if holder.cgroup != 0 => {
            // SAFETY: the helper has no preconditions.
            let process = unsafe { bpf_get_current_ancestor_cgroup_id(holder.level as i32) };
            process == holder.cgroup
        }
        _ => true,
    }
}

#[cgroup_sock_addr(connect4)]
fn host_connect4(ctx: SockAddrContext) -> i32 {
    verdict(connect(&Question::<false>(ctx)))
}

#[cgroup_sock_addr(connect6)]
fn host_connect6(ctx: SockAddrContext) -> i32 {
    verdict(connect(&Question::<true>(ctx)))
}

/// Who may be a workload connects to the overlay once that is known: refused at once, not dropped for minutes.
#[inline(always)]
fn connect<const V6: bool>(question: &Question<V6>) -> bool {
    // SAFETY: the helper has no preconditions.
    let process = unsafe { bpf_get_current_cgroup_id() };
    is_seen(process) || question.is_elsewhere() || !is_overlay(&question.address())
}

#[cgroup_sockopt(setsockopt)]
fn host_setsockopt(ctx: SockoptContext) -> i32 {
    // SAFETY: the context is the kernel's.
    let is_elsewhere = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) } != settings::netns();
    // SAFETY: the helper has no preconditions.
    let process = unsafe { bpf_get_current_cgroup_id() };
    // An option that is set stays, whoever the process turns out to be.
    let may_bypass = settings::refuses_bypass() == 0 && is_seen(process);
    verdict(is_elsewhere || may_bypass || !is_bypass(&ctx))
}

/// Whether an option lets packets leave or come around the programs on interfaces.
#[inline(always)]
pub(crate) fn is_bypass(ctx: &SockoptContext) -> bool {
    let option: *mut bpf_sockopt = ctx.as_ptr().cast();
    // SAFETY: fields of the context, each of which is read or written by itself.
    unsafe {
        let level = (&raw const (*option).level).read_volatile();
        let name = (&raw const (*option).optname).read_volatile();
        if level == SOL_XDP || level == SOL_PACKET && name == PACKET_QDISC_BYPASS {
            return true;
        }
        if (&raw const (*option).optlen).read_volatile() > LONGEST_OPTION {
            // The kernel takes the caller's own bytes then, all of them.
            (&raw mut (*option).optlen).write_volatile(0);
        }
    }
    false
}
