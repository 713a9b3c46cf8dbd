//! The cookie by which programs know a network namespace.

use std::io;
use std::os::fd::AsRawFd as _;

/// `SO_NETNS_COOKIE` of asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The cookie of the calling thread's network namespace.
///
/// # Errors
/// If the kernel has none: Linux has them from 5.14 on.
pub(super) fn cookie() -> io::Result<u64> {
    let socket =
        std::net::UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| std::net::UdpSocket::bind(("::", 0)))?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the option is a double word, for which there is room.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::cookie;

    #[test]
    fn a_namespace_has_one_cookie() {
        assert_ne!(cookie().unwrap(), 0);
        assert_eq!(cookie().unwrap(), cookie().unwrap());
    }
}
