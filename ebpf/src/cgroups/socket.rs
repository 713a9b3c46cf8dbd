//! What a program is asked about a socket: the address that it is to be bound or connected to.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock_addr, sockaddr};
use aya_ebpf::helpers::generated::{bpf_bind, bpf_get_netns_cookie};
use aya_ebpf::programs::SockAddrContext;
use bulkhead_abi::Address;

use crate::settings;
use crate::settings::{is_mapped, mapped};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `SOCK_STREAM` of linux/net.h.
const STREAM: u32 = 1;

/// `struct sockaddr_in` of linux/in.h.
#[repr(C)]
struct Inet {
    family: u16,
    port: u16,
    address: u32,
    zero: [u8; 8],
}

/// `struct sockaddr_in6` of linux/in6.h.
#[repr(C)]
struct Inet6 {
    family: u16,
    port: u16,
    flow: u32,
    address: Address,
    scope: u32,
}

/// A question about a socket of one family.
pub(crate) struct Question<const V6: bool>(pub(crate) SockAddrContext);

impl<const V6: bool> Question<V6> {
    #[inline(always)]
    fn ctx(&self) -> *mut bpf_sock_addr {
        self.0.as_ptr().cast()
    }

    /// Whether the socket is in a network namespace other than the host's, whose addresses are its own.
    #[inline(always)]
    pub(crate) fn is_elsewhere(&self) -> bool {
        // SAFETY: the context is the kernel's.
        unsafe { bpf_get_netns_cookie(self.0.as_ptr()) != settings::netns() }
    }

    /// The address that is asked for, of IPv4 in its mapped form.
    #[inline(always)]
    pub(crate) fn address(&self) -> Address {
        let ctx = self.ctx();
        // SAFETY: fields of the context, read a word at a time.
        unsafe {
            if V6 {
                let ip = &raw const (*ctx).user_ip6;
                let ip: *const u32 = ip.cast();
                [read(ip), read(ip.add(1)), read(ip.add(2)), read(ip.add(3))]
            } else {
                mapped(read(&raw const (*ctx).user_ip4))
            }
        }
    }

    /// Whether no port is asked for.
    #[inline(always)]
    pub(crate) fn has_no_port(&self) -> bool {
        // SAFETY: a field of the context.
        unsafe { read(&raw const (*self.ctx()).user_port) == 0 }
    }

    /// Whether the socket is one of TCP, or MPTCP.
    #[inline(always)]
    pub(crate) fn is_stream(&self) -> bool {
        // SAFETY: a field of the context.
        unsafe { read(&raw const (*self.ctx()).type_) == STREAM }
    }

    /// Asks for another address.
    #[inline(always)]
    pub(crate) fn replace(&self, address: &Address) {
        let ctx = self.ctx();
        // SAFETY: fields of the context that a program may write, a word at a time.
        unsafe {
            if V6 {
                let ip = (&raw mut (*ctx).user_ip6).cast::<u32>();
                write(ip, address[0]);
                write(ip.add(1), address[1]);
                write(ip.add(2), address[2]);
                write(ip.add(3), address[3]);
            } else {
                write(&raw mut (*ctx).user_ip4, address[3]);
            }
        }
    }

    /// Sets the source address of a datagram.
    #[inline(always)]
    pub(crate) fn set_source(&self, address: &Address) {
        let ctx = self.ctx();
        // SAFETY: fields of the context that a program may write, a word at a time.
        unsafe {
            if V6 {
                let ip = (&raw mut (*ctx).msg_src_ip6).cast::<u32>();
                write(ip, address[0]);
                write(ip.add(1), address[1]);
                write(ip.add(2), address[2]);
                write(ip.add(3), address[3]);
            } else {
                write(&raw mut (*ctx).msg_src_ip4, address[3]);
            }
        }
    }

    /// The address that the socket has, if it has a port already.
    #[inline(always)]
    pub(crate) fn bound(&self) -> Option<Address> {
        // SAFETY: the kernel's socket, whose fields are read a word at a time.
        unsafe {
            let socket = (*self.ctx()).__bindgen_anon_1.sk;
            if socket.is_null() || read(&raw const (*socket).src_port) == 0 {
                return None;
            }
            if !V6 {
                return Some(mapped(read(&raw const (*socket).src_ip4)));
            }
            let ip = (&raw const (*socket).src_ip6).cast::<u32>();
            Some([read(ip), read(ip.add(1)), read(ip.add(2)), read(ip.add(3))])
        }
    }

    /// Binds the socket to an address, and to no port yet; whether that was done.
    #[inline(always)]
    pub(crate) fn bind(&self, address: &Address) -> bool {
        let answer = if V6 {
            let mut to = Inet6 { family: AF_INET6, port: 0, flow: 0, address: *address, scope: 0 };
            let length = size_of::<Inet6>() as i32;
            // SAFETY: the context is the kernel's, and the address as long as it says.
            unsafe { bpf_bind(self.ctx(), (&raw mut to).cast::<sockaddr>(), length) }
        } else {
            let mut to = Inet { family: AF_INET, port: 0, address: address[3], zero: [0; 8] };
            let length = size_of::<Inet>() as i32;
            // SAFETY: as above.
            unsafe { bpf_bind(self.ctx(), (&raw mut to).cast::<sockaddr>(), length) }
        };
        answer == 0
    }

    /// The workload's address for packets to another one; `None` if it has none of that family.
    #[inline(always)]
    pub(crate) fn own_for(&self, destination: &Address) -> Option<Address> {
        if !V6 || is_mapped(destination) {
            let own = settings::own4(0);
            return if own == 0 { None } else { Some(mapped(own)) };
        }
        let own = settings::own6(0);
        if own == [0; 4] { None } else { Some(own) }
    }
}

/// One word of what the kernel gives: of a context it must be read by itself.
///
/// # Safety
/// It may be read.
#[inline(always)]
unsafe fn read(word: *const u32) -> u32 {
    // SAFETY: the caller's.
    unsafe { core::ptr::read_volatile(word) }
}

/// Writes one word of a context.
///
/// # Safety
/// It may be written.
#[inline(always)]
unsafe fn write(word: *mut u32, value: u32) {
    // SAFETY: the caller's.
    unsafe { core::ptr::write_volatile(word, value) }
}
