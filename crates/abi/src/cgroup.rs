//! What programs on cgroups are specialised by, and what they look up.

use crate::Address;

/// Addresses of one family that a workload can have.
pub const WORKLOAD_ADDRESSES: usize = 8;

/// Constants of one program on a cgroup. Addresses are in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupSettings {
    /// The cookie of the host's network namespace; sockets of others pass.
    pub netns: u64,
    /// Not 0: the kernel tells programs of packets in which namespace they are, as Linux does from 6.15 on. Where it
    /// does not, packets of every namespace are judged.
    pub tells_netns: u64,
    /// Not 0: options that lead around the programs on interfaces are refused to every process.
    pub refuses_bypass: u64,
    /// The workload's IPv4 addresses; the first is what its sockets get. Behind the last one it is repeated; all
    /// zeros: it has none.
    pub own4: [u32; WORKLOAD_ADDRESSES],
    /// Its IPv6 addresses, in the same way.
    pub own6: [Address; WORKLOAD_ADDRESSES],
    /// A prefix, address and mask, that holds all IPv4 addresses of this host on the overlay. A mask of all ones
    /// over all zeros: there are none.
    pub near4: [u32; 2],
    /// The same of IPv6.
    pub near6: [Address; 2],
}
const _: () = assert!(size_of::<CgroupSettings>() == 224);

impl CgroupSettings {
    /// All zeros: no namespace has the cookie 0.
    pub const UNSET: Self = Self {
        netns: 0,
        tells_netns: 0,
        refuses_bypass: 0,
        own4: [0; WORKLOAD_ADDRESSES],
        own6: [[0; 4]; WORKLOAD_ADDRESSES],
        near4: [0; 2],
        near6: [[0; 4]; 2],
    };
}

/// Whose an overlay address of this host is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The cgroup whose sockets alone use it, itself or below it; 0: it is the host's own; `u64::MAX`: nobody may.
    pub cgroup: u64,
    /// How many levels that cgroup lies below the root.
    pub level: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Holder>() == 16);

impl Holder {
    /// Of an address of the host itself.
    pub const HOST: Self = Self { cgroup: 0, level: 0, reserved: 0 };
    /// Of an address of a workload that does not run.
    pub const NOBODY: Self = Self { cgroup: u64::MAX, level: 0, reserved: 0 };
}

/// Value of the table of overlay prefixes: the prefix is of the overlay.
pub const PREFIX_OVERLAY: u32 = 1;
/// Value of the table of overlay prefixes: it never is, whatever prefix holds it.
pub const PREFIX_OTHER: u32 = 0;
