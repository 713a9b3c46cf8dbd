//! What only the packet's context can tell, out of line and out of the verifier's way, so that a view of the maps may
//! have one: segments that missed their flow, for which the host's sockets are asked, and what connections begin with.

use core::ffi::c_void;
use core::ptr::addr_of;

use aya_ebpf::bindings::{__sk_buff, bpf_sock_tuple, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_sk_release, bpf_skb_load_bytes, bpf_skc_lookup_tcp, bpf_xdp_load_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use bulkhead_abi::{Address, Direction};
use bulkhead_engine::parse::Headers;
use bulkhead_engine::{End, Metadata, Packet, SocketState, begins, compare, opaque};

use crate::environment::View;
use crate::packets::{tc_packet, xdp_packet};
use crate::senders::Senders;

/// Where a view of the maps is used.
pub(crate) trait Hook: Senders {
    /// [`bulkhead_engine::untracked`].
    fn untracked<const STAGED: bool>(self, meta: &mut Metadata, direction: Direction);
    /// [`bulkhead_engine::begins`]; `flags` are the cell's.
    fn begins<const STAGED: bool>(self, meta: &mut Metadata, direction: Direction, flags: u8);
    /// [`bulkhead_engine::compare`].
    fn compare(self, meta: &mut Metadata);
    /// Bytes of the packet, see [`bulkhead_engine::Environment::read`].
    fn read(self, offset: u32, count: u32) -> Option<u64>;
    /// [`bulkhead_engine::forgotten`], for what is enforced.
    fn forgotten(self, headers: &Headers);
    /// The context of the packet; without one no socket is found.
    fn context(self) -> Option<*mut c_void>;
    /// [`bulkhead_engine::rejected`], for what is enforced.
    fn rejected(self, meta: &Metadata, direction: Direction);
    /// Four bytes of the TCP segment whose header begins at `transport`, as a number: 0 to 16 bytes into it.
    fn tcp_word(self, transport: u32, offset: usize) -> Option<u32>;
}

/// Away from any packet: what is tracked already is all that there is.
impl Hook for () {
    #[inline(always)]
    fn untracked<const STAGED: bool>(self, _meta: &mut Metadata, _direction: Direction) {}
    #[inline(always)]
    fn begins<const STAGED: bool>(self, _meta: &mut Metadata, _direction: Direction, _flags: u8) {}
    #[inline(always)]
    fn compare(self, _meta: &mut Metadata) {}
    #[inline(always)]
    fn read(self, _offset: u32, _count: u32) -> Option<u64> {
        None
    }
    #[inline(always)]
    fn forgotten(self, _headers: &Headers) {}
    #[inline(always)]
    fn context(self) -> Option<*mut c_void> {
        None
    }
    #[inline(always)]
    fn rejected(self, _meta: &Metadata, _direction: Direction) {}
    #[inline(always)]
    fn tcp_word(self, _transport: u32, _offset: usize) -> Option<u32> {
        None
    }
}

macro_rules! hook {
    (
        $context:ty, $packet_of:path, $of:path, $load:path,
        $untracked:ident, $staged_untracked:ident, $begins:ident, $staged_begins:ident, $compare:ident, $forgotten:ident, $rejected:ident
    ) => {
        impl Hook for *mut $context {
            #[inline(always)]
            fn untracked<const STAGED: bool>(self, meta: &mut Metadata, direction: Direction) {
                let call = if STAGED { $staged_untracked } else { $untracked };
                call(self, meta, direction.index());
            }
            #[inline(always)]
            fn begins<const STAGED: bool>(self, meta: &mut Metadata, direction: Direction, flags: u8) {
                let call = if STAGED { $staged_begins } else { $begins };
                call(self, meta, direction.index(), flags.into());
            }
            #[inline(always)]
            fn compare(self, meta: &mut Metadata) {
                $compare(self, meta);
            }
            #[inline(always)]
            fn read(self, offset: u32, count: u32) -> Option<u64> {
                let mut word = 0u64;
                // Which the verifier follows: 1 to 8.
                let count = (opaque(count.wrapping_sub(1) as usize) as u32 & 7) + 1;
                // SAFETY: the packet's context, and room for so many bytes.
                let failed = unsafe { $load(self, offset, (&raw mut word).cast(), count) };
                (failed == 0).then_some(word)
            }
            #[inline(always)]
            fn forgotten(self, headers: &Headers) {
                $forgotten(self, headers);
            }
            #[inline(always)]
            fn context(self) -> Option<*mut c_void> {
                Some(self.cast())
            }
            #[inline(always)]
            fn rejected(self, meta: &Metadata, direction: Direction) {
                $rejected(self, meta, direction.index());
            }
            #[inline(always)]
            fn tcp_word(self, transport: u32, offset: usize) -> Option<u32> {
                let context = $of(self);
                let fixed = $packet_of(&context).header::<20>(transport as usize)?;
                Some(u32::from_be(fixed.word(offset)))
            }
        }

        /// [`bulkhead_engine::untracked`] for what is enforced; `direction` is its index. A global
        /// function: the verifier looks at it once, by itself.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $untracked(context: *mut $context, meta: *mut Metadata, direction: u32) -> u32 {
            go_on::<false>(context, meta, direction)
        }

        /// The same for what observes.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $staged_untracked(context: *mut $context, meta: *mut Metadata, direction: u32) -> u32 {
            go_on::<true>(context, meta, direction)
        }

        /// [`bulkhead_engine::begins`] for what is enforced. Global as well.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $begins(
            context: *mut $context,
            meta: *mut Metadata,
            direction: u32,
            flags: u32,
        ) -> u32 {
            look_at::<false>(context, &$packet_of(&$of(context)), meta, direction, flags)
        }

        /// The same for what observes.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $staged_begins(
            context: *mut $context,
            meta: *mut Metadata,
            direction: u32,
            flags: u32,
        ) -> u32 {
            look_at::<true>(context, &$packet_of(&$of(context)), meta, direction, flags)
        }

        /// [`bulkhead_engine::compare`]. Nothing of it is of a generation.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $compare(context: *mut $context, meta: *mut Metadata) -> u32 {
            // SAFETY: as above.
            if let Some(meta) = unsafe { meta.as_mut() } {
                compare(&View::<false, _>(context), &$packet_of(&$of(context)), meta);
            }
            0
        }

        /// [`bulkhead_engine::forgotten`]. Global as well, and so that its stack is none of the other's.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $forgotten(context: *mut $context, headers: *const Headers) -> u32 {
            // SAFETY: the verifier makes sure that what is not null can be read.
            if let Some(headers) = unsafe { headers.as_ref() } {
                bulkhead_engine::forgotten(&View::<false, _>(context), headers);
            }
            0
        }

        /// [`bulkhead_engine::rejected`], likewise; `direction` is its index.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $rejected(context: *mut $context, meta: *const Metadata, direction: u32) -> u32 {
            // SAFETY: the verifier makes sure that what is not null can be read.
            if let Some(meta) = unsafe { meta.as_ref() } {
                let direction = Direction::of_index(direction);
                bulkhead_engine::rejected(&View::<false, _>(context), meta, direction);
            }
            0
        }
    };
}

hook!(
    __sk_buff,
    tc_packet,
    TcContext::new,
    load_skb,
    tc_untracked,
    staged_tc_untracked,
    tc_begins,
    staged_tc_begins,
    tc_compare,
    tc_forgotten,
    tc_rejected
);
hook!(
    xdp_md,
    xdp_packet,
    XdpContext::new,
    load_xdp,
    xdp_untracked,
    staged_xdp_untracked,
    xdp_begins,
    staged_xdp_begins,
    xdp_compare,
    xdp_forgotten,
    xdp_rejected
);

/// `bpf_skb_load_bytes`, which reads paged memory as well.
#[inline(always)]
unsafe fn load_skb(context: *mut __sk_buff, offset: u32, to: *mut c_void, count: u32) -> i64 {
    // SAFETY: the caller's.
    unsafe { bpf_skb_load_bytes(context.cast(), offset, to, count) }
}

/// `bpf_xdp_load_bytes`, which reads all fragments of a frame (Linux 5.18).
#[inline(always)]
unsafe fn load_xdp(context: *mut xdp_md, offset: u32, to: *mut c_void, count: u32) -> i64 {
    // SAFETY: the caller's.
    unsafe { bpf_xdp_load_bytes(context, offset, to, count) }
}

#[inline(always)]
fn look_at<const STAGED: bool>(
    hook: impl Hook,
    packet: &Packet,
    meta: *mut Metadata,
    direction: u32,
    flags: u32,
) -> u32 {
    // SAFETY: the verifier makes sure that what is not null can be written; the metadata is this CPU's own.
    if let Some(meta) = unsafe { meta.as_mut() } {
        begins(&View::<STAGED, _>(hook), packet, meta, Direction::of_index(direction), flags as u8);
    }
    0
}

#[inline(always)]
fn go_on<const STAGED: bool>(hook: impl Hook, meta: *mut Metadata, direction: u32) -> u32 {
    // SAFETY: the verifier makes sure that what is not null can be written; the metadata is this CPU's own.
    if let Some(meta) = unsafe { meta.as_mut() } {
        bulkhead_engine::untracked(&View::<STAGED, _>(hook), meta, Direction::of_index(direction));
    }
    0
}

/// `BPF_F_CURRENT_NETNS`: the namespace of the packet's interface.
const CURRENT: u64 = -1i64 as u64;

/// What the kernel's table of TCP sockets has for these ends.
#[inline(always)]
pub(crate) fn state(hook: impl Hook, version: u8, local: End, remote: End) -> SocketState {
    let Some(context) = hook.context() else {
        return SocketState::NONE;
    };
    let (End(here, port), End(there, other_port)) = (local, remote);
    // In network byte order: of a segment that the socket would get.
    let ports = u32::from(other_port.to_be()) | u32::from(port.to_be()) << 16;
    SocketState(look_up(context, version, here, there, ports) as u8)
}

/// The state by its number. Out of line, so that the tuple does not lie on the caller's stack: verifiers
/// add up those of all functions on a way, and older ones round each up to 32 bytes.
#[inline(never)]
fn look_up(context: *mut c_void, version: u8, here: &Address, there: &Address, ports: u32) -> u32 {
    // As in `struct bpf_sock_tuple`.
    let mut tuple = [0u32; 9];
    let length = if version == 4 {
        (tuple[0], tuple[1], tuple[2]) = (there[3], here[3], ports);
        12
    } else {
        [tuple[0], tuple[1], tuple[2], tuple[3]] = *there;
        [tuple[4], tuple[5], tuple[6], tuple[7]] = *here;
        tuple[8] = ports;
        36
    };
    let tuple = tuple.as_mut_ptr().cast::<bpf_sock_tuple>();
    // SAFETY: the packet's context, and a tuple of so many bytes.
    let socket = unsafe { bpf_skc_lookup_tcp(context, tuple, length, CURRENT, 0) };
    if socket.is_null() {
        return 0;
    }
    // SAFETY: it is there until it is released, and not used after that.
    unsafe {
        let state = addr_of!((*socket).state).read_volatile();
        bpf_sk_release(socket.cast());
        state
    }
}
