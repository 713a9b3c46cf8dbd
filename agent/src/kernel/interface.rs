//! The interface that is enforced on.

use std::ffi::CString;
use std::fs;

use super::KernelError;

/// What the interface hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ethernet frames.
    Ethernet,
    /// IP packets (WireGuard, TUN).
    BareIp,
}

/// One interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// What it hands over.
    pub kind: Kind,
}

/// `ARPHRD_` numbers of linux/if_arp.h.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_NONE: u16 = 0xfffe;
const ARPHRD_RAWIP: u16 = 519;

impl Interface {
    /// Finds an interface by its name.
    ///
    /// # Errors
    /// If there is none, or its link layer is one that is not parsed.
    pub fn find(name: &str) -> Result<Self, KernelError> {
        let missing = || KernelError::NoInterface(name.to_owned());
        let c_name = CString::new(name).map_err(|_| missing())?;
        // SAFETY: a NUL-terminated string.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        if index == 0 {
            return Err(missing());
        }
        let kind = match link_type(name)? {
            ARPHRD_ETHER => Kind::Ethernet,
            ARPHRD_NONE | ARPHRD_RAWIP => Kind::BareIp,
            link_type => return Err(KernelError::LinkType { name: name.to_owned(), link_type }),
        };
        Ok(Self { name: name.to_owned(), index, kind })
    }
}

/// Asks the kernel by ioctl: /sys shows the namespace that it was mounted in, not this one.
fn link_type(name: &str) -> Result<u16, KernelError> {
    let what = || format!("interface {name}: asking for its link type");
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").map_err(KernelError::refused(what()))?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: an open socket and an ifreq of the kernel's layout, whose name is NUL-terminated.
    let answer = unsafe { libc::ioctl(fd, libc::SIOCGIFHWADDR, &raw mut request) };
    if answer != 0 {
        return Err(KernelError::refused(what())(std::io::Error::last_os_error()));
    }
    // SAFETY: SIOCGIFHWADDR fills in the hardware address.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}

/// The kernel's release, for messages.
pub(super) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |s| s.trim().to_owned())
}
