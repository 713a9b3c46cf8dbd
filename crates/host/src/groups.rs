//! Users and groups: by name, and of whoever is at the other end of a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::unistd::{Group, Uid, User};

/// More groups than Linux lets a process have (`NGROUPS_MAX` of linux/limits.h).
const MOST: usize = 65_536;

/// The id of a group by its name as the system has it, or of one that is written as a number; none: there is no such
/// group.
#[must_use]
pub fn id(name: &str) -> Option<u32> {
    let named = Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
    named.or_else(|| name.parse().ok())
}

/// The name of a user, as the system has it.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// The supplementary groups of the process at the other end of a Unix socket, when it connected
/// (`SO_PEERGROUPS`, Linux 4.13). Its own group is not among them, unless it is there, too.
///
/// # Errors
/// The kernel's.
pub fn of_peer(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 32];
    loop {
        let mut bytes = size_of_val(&*groups) as libc::socklen_t;
        // SAFETY: the kernel writes no more than `bytes` bytes, which `groups` has, and how many there are.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let wanted = bytes as usize / size_of::<u32>();
        if answer == 0 {
            groups.truncate(wanted);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // Then `bytes` is what they take.
        if error.raw_os_error() != Some(libc::ERANGE) || wanted <= groups.len() || wanted > MOST {
            return Err(error);
        }
        groups.resize(wanted, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_group_has_an_id_by_its_name_or_is_one() {
        assert_eq!(super::id("root"), Some(0));
        assert_eq!(super::id("4242"), Some(4242));
        assert_eq!(super::id("no-such-group-here"), None);
    }

    #[test]
    fn the_other_end_of_a_socket_has_this_process_groups() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        assert_eq!(super::of_peer(&one).unwrap(), own);
    }
}
