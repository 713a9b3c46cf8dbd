//! Netlink's netfilter family (nfnetlink), as far as the guard needs it: requests, dumps, attributes.
//!
//! Numbers are those of linux/netfilter/nfnetlink.h and its neighbours.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use bulkhead_host::netlink::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, ROOM, messages, put,
};
pub use bulkhead_host::netlink::{attribute, attributes, named};
use netlink_packet_core::ErrorBuffer;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// `NFNL_SUBSYS_NFTABLES`.
pub const NFTABLES: u8 = 10;

/// `NFPROTO_UNSPEC`, for requests about no family.
pub const UNSPECIFIED: u8 = 0;
/// `NFPROTO_INET`, the guard's family.
pub const INET: u8 = 1;

/// Bytes of `nfgenmsg`.
const FAMILY_HEADER: usize = 4;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `NFNL_SUBSYS_`, then the subsystem's number of the message.
    pub message: (u8, u8),
    /// `NFPROTO_`.
    pub family: u8,
    /// The header's resource id.
    pub resource: u16,
    /// Attributes: number and payload.
    pub attributes: &'a [(u16, &'a [u8])],
}

impl Request<'_> {
    fn bytes(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&[self.message.1, self.message.0]);
        bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&[self.family, 0]);
        bytes.extend_from_slice(&self.resource.to_be_bytes());
        put(&mut bytes, self.attributes);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }
}

/// A socket of the netfilter family in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Netfilter {
    socket: Socket,
    /// Of the last question. Answers that are left of another one are none to it.
    sequence: Cell<u32>,
}

impl Netfilter {
    /// Opens one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// Opens one that is told what everybody does to a group of `NFNLGRP_`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn member(group: u32) -> io::Result<Self> {
        let member = Self::open()?;
        member.socket.add_membership(group)?;
        Ok(member)
    }

    /// Makes room for messages that have not been read, in bytes, whatever the system's limit.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_room(&self, bytes: i32) -> io::Result<()> {
        socket2::SockRef::from(self).set_recv_buffer_size(bytes as usize)
    }

    /// Asks, and gives every answer's attributes to `each`. `false` if what was listed changed meanwhile.
    ///
    /// # Errors
    /// What the kernel answers, such as `ENOENT` for what is not there.
    pub fn dump(&self, request: &Request, each: impl FnMut(&[u8])) -> io::Result<bool> {
        self.exchange(request, NLM_F_DUMP, each)
    }

    /// Asks, gives the answer's attributes to `each`, and waits until the kernel has confirmed.
    ///
    /// # Errors
    /// What the kernel answers, such as `ENOENT` for what is not there.
    pub fn ask(&self, request: &Request, each: impl FnMut(&[u8])) -> io::Result<()> {
        self.exchange(request, NLM_F_ACK, each).map(drop)
    }

    fn exchange(&self, request: &Request, flags: u16, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        self.socket.send(&request.bytes(flags, sequence), 0)?;
        let mut is_whole = true;
        let mut buffer = Vec::with_capacity(ROOM);
        loop {
            self.receive(&mut buffer, 0)?;
            for (kind, message_flags, answered, payload) in messages(&buffer) {
                if answered != sequence {
                    continue;
                }
                is_whole &= message_flags & NLM_F_DUMP_INTR == 0;
                match kind {
                    NLMSG_DONE => return Ok(is_whole),
                    NLMSG_ERROR => {
                        let error = ErrorBuffer::new_checked(payload).map_err(io::Error::other)?;
                        return match error.code() {
                            None => Ok(is_whole),
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                        };
                    }
                    _ => each(payload.get(FAMILY_HEADER..).unwrap_or(&[])),
                }
            }
        }
    }

    /// Gives everything that has arrived to `each`: the message's number and its attributes. Never waits.
    ///
    /// # Errors
    /// `ENOBUFS` once if the kernel had no room for some messages; what came before it was given.
    pub fn drain(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(ROOM);
        loop {
            match self.receive(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            for (kind, _, _, payload) in messages(&buffer) {
                if kind != NLMSG_ERROR && kind != NLMSG_DONE {
                    each(kind, payload.get(FAMILY_HEADER..).unwrap_or(&[]));
                }
            }
        }
    }

    fn receive(&self, buffer: &mut Vec<u8>, flags: i32) -> io::Result<()> {
        loop {
            buffer.clear();
            match self.socket.recv(buffer, flags) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Netfilter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket owns its descriptor for as long as it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// Attributes within an attribute.
pub fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, attributes);
    bytes
}

/// A name, as netlink writes it: it ends with a NUL.
pub fn name(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).unwrap_or_default()
}

/// A number of 4 bytes in network byte order.
pub fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// A number of 8 bytes in network byte order.
pub fn long(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{NLM_F_DUMP, Request, attribute, attributes, messages};

    #[test]
    fn what_is_asked_for_is_what_was_meant() {
        let request =
            Request { message: (10, 16), family: 1, resource: 7, attributes: &[(1, b"abc\0"), (2, b"x")] };
        let bytes = request.bytes(NLM_F_DUMP, 77);
        assert_eq!(bytes.len(), 20 + 8 + 8);
        let found: Vec<_> = messages(&bytes).collect();
        let (kind, flags, sequence, payload) = found[0];
        assert_eq!((kind, flags, sequence, found.len()), (10 << 8 | 16, 0x301, 77, 1));
        assert_eq!(payload[..4], [1, 0, 0, 7]);
        assert_eq!(attributes(&payload[4..]).collect::<Vec<_>>(), [(1, &b"abc\0"[..]), (2, b"x")]);
        assert_eq!(attribute(&payload[4..], 3), None);
        // What is cut short is not read past its end.
        assert_eq!(attributes(&payload[4..14]).count(), 1);
        assert_eq!(messages(&bytes[..10]).count(), 0);
    }
}
