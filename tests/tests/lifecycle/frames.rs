//! Frames that are not IP, by packet sockets (packet(7)).

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_tests::lab::Namespace;

/// EtherType of LLDP (IEEE 802.1AB).
pub const LLDP: u16 = 0x88cc;

/// A packet socket on eth0 of the namespace that the thread is in.
fn socket(kind: u16) -> io::Result<OwnedFd> {
    let protocol = libc::c_int::from(kind.to_be());
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a NUL-terminated name; all zeros is a valid address.
    let (index, mut address) =
        unsafe { (libc::if_nametoindex(c"eth0".as_ptr()), std::mem::zeroed::<libc::sockaddr_ll>()) };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = kind.to_be();
    address.sll_ifindex = index.cast_signed();
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: an address of the length that is given.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == 0 { Ok(fd) } else { Err(io::Error::last_os_error()) }
}

fn hardware_address(of: &Namespace) -> [u8; 6] {
    let shown = of.ip("-brief link show eth0").unwrap();
    let written = shown.split_whitespace().find(|word| word.matches(':').count() == 5).unwrap();
    let bytes: Vec<u8> = written.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Whether a frame of a kind gets from one host's eth0 to the other's. It is addressed to the
/// receiver itself: a bridge keeps frames to the protocol's own group for itself.
pub fn heard(from: &Namespace, to: &Namespace, kind: u16) -> bool {
    let receiver = to.run(|| socket(kind)).unwrap().unwrap();
    let sender = from.run(|| socket(kind)).unwrap().unwrap();
    let mut frame = [0u8; 60];
    frame[..6].copy_from_slice(&hardware_address(to));
    frame[6..12].copy_from_slice(&hardware_address(from));
    frame[12..14].copy_from_slice(&kind.to_be_bytes());
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut bytes = [0u8; 64];
    while Instant::now() < deadline {
        // SAFETY: as many bytes as are given.
        let sent = unsafe { libc::send(sender.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, 60, "{}", io::Error::last_os_error());
        std::thread::sleep(Duration::from_millis(50));
        // SAFETY: room for as many bytes as are given.
        let got = unsafe { libc::recv(receiver.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got > 0 {
            return bytes[12..14] == kind.to_be_bytes();
        }
    }
    false
}
