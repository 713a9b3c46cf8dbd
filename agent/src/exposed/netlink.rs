//! Lists that the kernel gives by netlink, in the network namespace of the calling thread.

use std::io;

use bulkhead_host::netlink::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, ROOM, messages,
};
use netlink_packet_core::ErrorBuffer;
use netlink_sys::{Socket, SocketAddr};

/// How often a list is asked for that changes while it is told.
const ATTEMPTS: usize = 5;

/// The payloads of all messages of a list. `kind` is the request's type and `request` its payload.
///
/// # Errors
/// What the kernel answers, or that the list changes all the time.
pub(super) fn list(protocol: isize, kind: u16, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    for _ in 0..ATTEMPTS {
        if let Some(whole) = attempt(protocol, kind, request)? {
            return Ok(whole);
        }
    }
    Err(io::Error::other("the list changes all the time"))
}

/// The same once; `None` if the list changed meanwhile.
fn attempt(protocol: isize, kind: u16, request: &[u8]) -> io::Result<Option<Vec<Vec<u8>>>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut bytes = (16 + request.len() as u32).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence and port: one question a socket.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(request);
    socket.send(&bytes, 0)?;
    let (mut found, mut is_whole) = (Vec::new(), true);
    let mut buffer = Vec::with_capacity(ROOM);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        for (kind, flags, _, payload) in messages(&buffer) {
            is_whole &= flags & NLM_F_DUMP_INTR == 0;
            match kind {
                NLMSG_DONE => return Ok(is_whole.then_some(found)),
                NLMSG_ERROR => {
                    let error = ErrorBuffer::new_checked(payload).map_err(io::Error::other)?;
                    let code = error.code().map_or(0, |code| -code.get());
                    return Err(io::Error::from_raw_os_error(code));
                }
                _ => found.push(payload.to_vec()),
            }
        }
    }
}
