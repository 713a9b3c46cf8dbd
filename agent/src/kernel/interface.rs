//! The interface that is enforced on.

use std::fs;

use super::{KernelError, Link, link};

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
    /// The name that it is known by to whoever asked for it; it may be an alternative one.
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
    /// Finds an interface by its name or by an alternative one.
    ///
    /// # Errors
    /// If there is none, or its link layer is one that is not parsed.
    pub fn find(name: &str) -> Result<Self, KernelError> {
        let what = format!("interface {name}: asking for it");
        let found = link(name).map_err(KernelError::refused(what))?;
        let Link { index, link_type, .. } = found.ok_or_else(|| KernelError::NoInterface(name.to_owned()))?;
        let kind = match link_type {
            ARPHRD_ETHER => Kind::Ethernet,
            ARPHRD_NONE | ARPHRD_RAWIP => Kind::BareIp,
            link_type => return Err(KernelError::LinkType { name: name.to_owned(), link_type }),
        };
        Ok(Self { name: name.to_owned(), index, kind })
    }
}

/// The kernel's release, for messages.
pub(super) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |s| s.trim().to_owned())
}
