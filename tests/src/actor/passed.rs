//! Sockets that are handed to another process (unix(7), SCM_RIGHTS).

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use socket2::Socket;

/// Room for one descriptor, aligned.
type Room = [u64; 4];

fn message(part: &mut libc::iovec, room: &mut Room) -> libc::msghdr {
    // SAFETY: plain old data.
    let mut message: libc::msghdr = unsafe { zeroed() };
    (message.msg_iov, message.msg_iovlen) = (part, 1);
    message.msg_control = room.as_mut_ptr().cast();
    // SAFETY: a sum.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as usize;
    message
}

/// Waits for whoever takes it at a path.
pub fn give(socket: &Socket, path: &str) -> io::Result<String> {
    let (taker, _) = UnixListener::bind(path)?.accept()?;
    let mut byte = *b"x";
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut room = Room::default();
    let message = message(&mut part, &mut room);
    // SAFETY: there is room for one header and a descriptor.
    let answer = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(socket.as_raw_fd());
        libc::sendmsg(taker.as_raw_fd(), &raw const message, 0)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok("given".to_owned()) }
}

/// Takes what is given at a path.
pub fn take(path: &str) -> io::Result<Socket> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let giver = loop {
        match UnixStream::connect(path) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            connected => break connected?,
        }
    };
    let mut byte = [0];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut room = Room::default();
    let mut message = message(&mut part, &mut room);
    // SAFETY: there is room for one header and a descriptor, which is nobody else's here.
    unsafe {
        if libc::recvmsg(giver.as_raw_fd(), &raw mut message, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() {
            return Err(io::Error::other("no descriptor came"));
        }
        Ok(Socket::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
    }
}
