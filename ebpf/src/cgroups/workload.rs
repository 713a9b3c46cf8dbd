//! On a workload's cgroup: on the overlay its sockets have its own addresses, and no others.

use aya_ebpf::macros::{cgroup_skb, cgroup_sock_addr, cgroup_sockopt};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockoptContext};

use crate::host::is_bypass;
use crate::maps::is_overlay;
use crate::packet::{End, address, is_elsewhere};
use crate::settings::{is_own, is_wildcard};
use crate::socket::Question;
use crate::verdict::verdict;

#[cgroup_sock_addr(connect4)]
fn workload_connect4(ctx: SockAddrContext) -> i32 {
    verdict(connect(&Question::<false>(ctx)))
}

#[cgroup_sock_addr(connect6)]
fn workload_connect6(ctx: SockAddrContext) -> i32 {
    verdict(connect(&Question::<true>(ctx)))
}

/// A connection to the overlay comes from the workload's own address. One that is bound to another refuses.
#[inline(always)]
fn connect<const V6: bool>(question: &Question<V6>) -> bool {
    let destination = question.address();
    if question.is_elsewhere() || !is_overlay(&destination) {
        return true;
    }
    if let Some(bound) = question.bound() {
        return is_own(&bound);
    }
    match question.own_for(&destination) {
        Some(own) => question.bind(&own),
        None => false,
    }
}

#[cgroup_sock_addr(sendmsg4)]
fn workload_sendmsg4(ctx: SockAddrContext) -> i32 {
    verdict(send(&Question::<false>(ctx)))
}

#[cgroup_sock_addr(sendmsg6)]
fn workload_sendmsg6(ctx: SockAddrContext) -> i32 {
    verdict(send(&Question::<true>(ctx)))
}

/// A datagram to the overlay of a socket that is not connected comes from the workload's own address, whatever the
/// sender has asked for.
#[inline(always)]
fn send<const V6: bool>(question: &Question<V6>) -> bool {
    let destination = question.address();
    if question.is_elsewhere() || !is_overlay(&destination) {
        return true;
    }
    let Some(own) = question.own_for(&destination) else { return false };
    // One that is bound to another address of the workload's keeps that.
    if question.bound().is_none_or(|bound| !is_own(&bound)) {
        question.set_source(&own);
    }
    true
}

#[cgroup_sock_addr(bind4)]
fn workload_bind4(ctx: SockAddrContext) -> i32 {
    verdict(bind(&Question::<false>(ctx)))
}

#[cgroup_sock_addr(bind6)]
fn workload_bind6(ctx: SockAddrContext) -> i32 {
    verdict(bind(&Question::<true>(ctx)))
}

/// Of the overlay's addresses a workload binds its own alone. A connection that is bound to no address and no port
/// before it begins gets its own: once it is bound the kernel lets nobody else do that.
#[inline(always)]
fn bind<const V6: bool>(question: &Question<V6>) -> bool {
    let wanted = question.address();
    if question.is_elsewhere() {
        return true;
    }
    if is_wildcard(&wanted) {
        if question.has_no_port()
            && question.is_stream()
            && let Some(own) = question.own_for(&wanted)
        {
            question.replace(&own);
        }
        return true;
    }
    is_own(&wanted) || !is_overlay(&wanted)
}

#[cgroup_skb(egress)]
fn workload_egress(ctx: SkBuffContext) -> i32 {
    verdict(is_its_own(&ctx, End::Source))
}

#[cgroup_skb(ingress)]
fn workload_ingress(ctx: SkBuffContext) -> i32 {
    verdict(is_its_own(&ctx, End::Destination))
}

/// Nothing leaves or arrives under another overlay address than the workload's own, the host's among them; and nothing
/// goes between the overlay and another address, as from 127.0.0.1 to a service of the host's.
#[inline(always)]
fn is_its_own(ctx: &SkBuffContext, end: End) -> bool {
    let Some(near) = address(ctx, end) else { return false };
    if is_own(&near) {
        return true;
    }
    if is_overlay(&near) {
        return is_elsewhere(ctx);
    }
    let Some(far) = address(ctx, if end == End::Source { End::Destination } else { End::Source }) else {
        return false;
    };
    !is_overlay(&far) || is_elsewhere(ctx)
}

#[cgroup_sockopt(setsockopt)]
fn workload_setsockopt(ctx: SockoptContext) -> i32 {
    verdict(!is_bypass(&ctx))
}
