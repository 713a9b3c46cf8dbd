//! TUN devices that a test writes packets to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

/// Opens a TUN device, made in the network namespace that the thread is in (linux/if_tun.h). What is
/// written begins with four bytes, 0, 0 and the EtherType: a TUN without them refuses what is of no IP
/// version.
///
/// # Errors
/// The system refuses.
pub fn open_tun(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_TUN as libc::c_short;
    // SAFETY: an open TUN and an ifreq of the kernel's layout, whose name is NUL-terminated.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if answer == 0 { Ok(file) } else { Err(io::Error::last_os_error()) }
}
