//! Who sends a packet that leaves: what the packet's context tells of its socket.

use core::ptr::addr_of;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id};

/// `AF_PACKET` (linux/socket.h).
const AF_PACKET: u32 = 17;
/// The id of the root cgroup, in which the kernel's own sockets are. What has no socket has 0.
const ROOT: u64 = 1;

/// A context in which a view of the maps is used. One that knows of no sender lets nobody send.
pub(crate) trait Senders: Copy {
    /// Packets may have a sender on this host, and their interface may be `lo`.
    const HAS: bool = false;

    /// The id of the cgroup at a level below the root that the sending socket is in; 0 if there is none.
    #[inline(always)]
    fn ancestor(self, _level: u32) -> u64 {
        0
    }
    /// The kernel itself sends the packet.
    #[inline(always)]
    fn is_by_kernel(self) -> bool {
        false
    }
    /// A packet socket sends it.
    #[inline(always)]
    fn is_by_packet_socket(self) -> bool {
        true
    }
}

impl Senders for () {}
impl Senders for *mut xdp_md {}

impl Senders for *mut __sk_buff {
    const HAS: bool = true;

    #[inline(always)]
    fn ancestor(self, level: u32) -> u64 {
        // SAFETY: the packet's context.
        unsafe { bpf_skb_ancestor_cgroup_id(self, level as i32) }
    }
    #[inline(always)]
    fn is_by_kernel(self) -> bool {
        // SAFETY: the packet's context. What is forwarded came in by some interface.
        unsafe { addr_of!((*self).ingress_ifindex).read_volatile() == 0 && bpf_skb_cgroup_id(self) <= ROOT }
    }
    #[inline(always)]
    fn is_by_packet_socket(self) -> bool {
        // SAFETY: the packet's context; a socket that is not null lives as long as the packet.
        unsafe {
            let socket = addr_of!((*self).__bindgen_anon_2.sk).read_volatile();
            !socket.is_null() && addr_of!((*socket).family).read_volatile() == AF_PACKET
        }
    }
}
