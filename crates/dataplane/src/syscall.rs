//! bpf(2), for what aya does not offer.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use bulkhead_host::spare;

/// bpf(2).
///
/// # Safety
/// The attribute must be the command's, and what it points at be there.
pub(super) unsafe fn call<T>(command: libc::c_int, attribute: &mut T) -> io::Result<libc::c_long> {
    let attribute = std::ptr::from_mut(attribute);
    // SAFETY: the caller's; the size is the attribute's.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attribute, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// bpf(2) for a command that answers with a new descriptor, of the reserve's if there is no other.
///
/// # Safety
/// As for [`call`].
pub(super) unsafe fn open<T>(command: libc::c_int, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = spare::open(|| unsafe { call(command, attribute) })?;
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
