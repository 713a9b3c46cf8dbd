//! The interface that is enforced on.

use std::fs;

use super::device::{Device, Devices};
use super::{KernelError, Kind};

/// One interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name by which it is managed, which may be an alternative one.
    pub name: String,
    /// The name that its device has.
    pub device: String,
    /// Its index.
    pub index: u32,
    /// Its device's group.
    pub group: u32,
    /// The longest packet that its device takes, in bytes.
    pub mtu: u32,
    /// What it hands over.
    pub kind: Kind,
}

/// `ARPHRD_` numbers of linux/if_arp.h.
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const ARPHRD_NONE: u16 = 0xfffe;
const ARPHRD_RAWIP: u16 = 519;

impl Interface {
    /// Finds an interface by its name or by an alternative one.
    ///
    /// # Errors
    /// If there is none, or its link layer is one that is not parsed.
    pub fn find(name: &str) -> Result<Self, KernelError> {
        let asked = Devices::open().and_then(|devices| devices.by_name(name));
        let what = format!("interface {name}: asking for it");
        match asked.map_err(KernelError::refused(what))? {
            Some(device) => Self::of(name, &device),
            None => Err(KernelError::NoInterface(name.to_owned())),
        }
    }

    /// The interface that a device is, under the name by which it is managed.
    ///
    /// # Errors
    /// If its link layer is one that is not parsed.
    pub fn of(name: &str, device: &Device) -> Result<Self, KernelError> {
        let kind = match device.link_type {
            // Its frames have Ethernet headers as well.
            ARPHRD_ETHER | ARPHRD_LOOPBACK => Kind::Ethernet,
            ARPHRD_NONE | ARPHRD_RAWIP => Kind::BareIp,
            link_type => return Err(KernelError::LinkType { name: name.to_owned(), link_type }),
        };
        let Device { name: device, index, group, mtu, .. } = device.clone();
        Ok(Self { name: name.to_owned(), device, index, group, mtu, kind })
    }
}

/// The kernel's release, for messages.
pub(super) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |s| s.trim().to_owned())
}
