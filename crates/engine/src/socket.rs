//! This host's TCP sockets, as the kernel knows them.

use bulkhead_abi::{Address, Direction};

/// State of a TCP socket, by Linux's numbers (net/tcp_states.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketState(pub u8);

/// Connections: established, the four that wait for a FIN or its acknowledgement, closing, and those
/// that are over and remembered. Not what only opens, which its SYN tracks.
pub(crate) const CONNECTION: u32 = set(&[1, 4, 5, 6, 8, 9, 11]);
/// This host has sent a FIN, or is about to.
pub(crate) const SENT_FIN: u32 = set(&[4, 5, 6, 9, 11]);
/// The other end has.
pub(crate) const GOT_FIN: u32 = set(&[6, 8, 9, 11]);

const fn set(states: &[u8]) -> u32 {
    let (mut bits, mut index) = (0, 0);
    while index < states.len() {
        bits |= 1 << states[index];
        index += 1;
    }
    bits
}

impl SocketState {
    /// No socket.
    pub const NONE: Self = Self(0);
    /// Established.
    pub const ESTABLISHED: Self = Self(1);
    /// Waits for connections.
    pub const LISTEN: Self = Self(10);

    #[inline(always)]
    pub(crate) const fn is_in(self, states: u32) -> bool {
        self.0 < 32 && states >> self.0 & 1 != 0
    }
}

/// One end of a TCP connection: its address, and its port in host byte order.
#[derive(Clone, Copy, Debug)]
pub struct End<'a>(pub &'a Address, pub u16);

/// Which way a connection of this host's was begun, as far as its `port` here tells: from outside if somebody
/// listens on it, which no connection outwards has; by this host if nobody does, and it is one that the kernel
/// gives to connections outwards, from the first to the last of `outward`. Of others it is not known: who
/// listened may have stopped. Host byte order.
#[inline(always)]
#[must_use]
pub const fn begun(is_listened_on: bool, port: u16, [first, last]: [u16; 2]) -> Option<Direction> {
    if is_listened_on {
        Some(Direction::Ingress)
    } else if first <= port && port <= last {
        Some(Direction::Egress)
    } else {
        None
    }
}
