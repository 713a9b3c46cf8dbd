//! BPF links by bpf(2): a program on a hook of an interface, named by its index, that stays there
//! until its last descriptor or pin is gone. aya chooses between links and netlink by the kernel's
//! number, or where the kernel refuses a link; here there are only links.

use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use super::Hook;
use super::syscall::{call, open};

/// Of `enum bpf_cmd`, linux/bpf.h.
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Of `enum bpf_attach_type`.
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// With nothing named that it goes before: at the head of the chain.
const BPF_F_BEFORE: u32 = 1 << 3;
/// `XDP_FLAGS_` of linux/if_link.h.
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// A link.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

/// What a link is: `struct bpf_link_info`, whose union is that of TCX and XDP links here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkInfo {
    /// `BPF_LINK_TYPE_`.
    pub kind: u32,
    /// Its number.
    pub id: u32,
    /// The number of the program that it has now.
    pub program: u32,
    padding: u32,
    /// The interface's index in the namespace where it is; 0 if it is gone.
    pub index: u32,
    /// `BPF_TCX_INGRESS` or `BPF_TCX_EGRESS`; 0 of an XDP link.
    pub attach_type: u32,
    rest: [u32; 10],
}

impl LinkInfo {
    /// Of a link on a cgroup, whose part of the union is its id, 64 bits: the cgroup's; 0 if it is gone, or the link was
    /// detached.
    pub(crate) fn cgroup(&self) -> u64 {
        u64::from(self.index) | u64::from(self.attach_type) << 32
    }
}

/// `union bpf_attr` of `BPF_LINK_CREATE`.
#[repr(C)]
struct Create {
    program: u32,
    /// An interface's index, or the descriptor of a cgroup.
    index: u32,
    attach_type: u32,
    flags: u32,
    /// What a TCX link goes before or after, and the chain's revision; 0: nothing, any.
    relative: u64,
    revision: u64,
}

/// `union bpf_attr` of `BPF_LINK_UPDATE`.
#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// `union bpf_attr` of `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// Pins a link, map or program, so that it outlives its descriptor.
///
/// # Errors
/// If something is there, or it is no BPF file system.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut attribute =
        Pinned { path: path.as_ptr() as u64, fd: object.as_raw_fd().cast_unsigned(), flags: 0 };
    // SAFETY: the attribute of this command; its path is NUL-terminated.
    unsafe { call(BPF_OBJ_PIN, &mut attribute) }.map(drop)
}

impl Link {
    /// Puts a program on a hook of the interface with this index. A TCX program becomes the first
    /// of its chain.
    ///
    /// # Errors
    /// EBUSY: another XDP program is there. EOPNOTSUPP: the driver has no XDP. EINVAL: the kernel
    /// knows no such hook. ENODEV: there is no such interface.
    pub(crate) fn create(program: BorrowedFd<'_>, index: u32, hook: Hook) -> io::Result<Self> {
        let (attach_type, flags) = match hook {
            Hook::TcxIngress => (BPF_TCX_INGRESS, BPF_F_BEFORE),
            Hook::TcxEgress => (BPF_TCX_EGRESS, BPF_F_BEFORE),
            Hook::XdpNative => (BPF_XDP, XDP_FLAGS_DRV_MODE),
            Hook::XdpGeneric => (BPF_XDP, XDP_FLAGS_SKB_MODE),
        };
        let program = program.as_raw_fd().cast_unsigned();
        let mut attribute = Create { program, index, attach_type, flags, relative: 0, revision: 0 };
        // SAFETY: the attribute of this command.
        unsafe { open(BPF_LINK_CREATE, &mut attribute) }.map(Self)
    }

    /// Puts a program on a hook of the cgroup of a descriptor, beside others that are there; the hook is of
    /// `enum bpf_attach_type`.
    ///
    /// # Errors
    /// EPERM: a program is there that lets no other beside it.
    pub(crate) fn create_on_cgroup(
        program: BorrowedFd<'_>,
        cgroup: BorrowedFd<'_>,
        attach_type: u32,
    ) -> io::Result<Self> {
        let program = program.as_raw_fd().cast_unsigned();
        let index = cgroup.as_raw_fd().cast_unsigned();
        let mut attribute = Create { program, index, attach_type, flags: 0, relative: 0, revision: 0 };
        // SAFETY: the attribute of this command.
        unsafe { open(BPF_LINK_CREATE, &mut attribute) }.map(Self)
    }

    /// Gives it another program, atomically.
    ///
    /// # Errors
    /// ENOLINK: its interface is gone, and with it the hook.
    pub(crate) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let program = program.as_raw_fd().cast_unsigned();
        let mut attribute =
            Update { link: self.0.as_raw_fd().cast_unsigned(), program, flags: 0, old_program: 0 };
        // SAFETY: the attribute of this command.
        unsafe { call(BPF_LINK_UPDATE, &mut attribute) }.map(drop)
    }

    /// Takes the program off its hook, for good.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn detach(&self) -> io::Result<()> {
        let mut attribute = self.0.as_raw_fd();
        // SAFETY: the attribute of this command.
        unsafe { call(BPF_LINK_DETACH, &mut attribute) }.map(drop)
    }

    /// Pins it, so that it outlives its descriptor.
    ///
    /// # Errors
    /// If something is there, or it is no BPF file system.
    pub(crate) fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.0.as_fd(), path)
    }

    /// Opens one that is pinned, if it is.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn pinned(path: &Path) -> io::Result<Option<Self>> {
        let path = CString::new(path.as_os_str().as_encoded_bytes())?;
        let mut attribute = Pinned { path: path.as_ptr() as u64, fd: 0, flags: 0 };
        // SAFETY: the attribute of this command; its path is NUL-terminated.
        match unsafe { open(BPF_OBJ_GET, &mut attribute) } {
            Ok(fd) => Ok(Some(Self(fd))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What it is now.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn info(&self) -> io::Result<LinkInfo> {
        let mut info = LinkInfo::default();
        let mut attribute = GetInfo {
            fd: self.0.as_raw_fd().cast_unsigned(),
            length: size_of::<LinkInfo>() as u32,
            info: (&raw mut info) as u64,
        };
        // SAFETY: the attribute of this command; the kernel writes at most `length` bytes to `info`.
        unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &mut attribute) }?;
        Ok(info)
    }
}
