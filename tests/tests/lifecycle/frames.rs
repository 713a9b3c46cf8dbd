//! Frames that are not IP, by packet sockets (packet(7)).

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::Namespace;

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

/// Whether a frame of a kind gets from one host's eth0 to the other's. It is to the nearest bridge's group (IEEE
/// 802.1AB section 7.1), as LLDP's are.
pub fn heard(from: &Namespace, to: &Namespace, kind: u16) -> bool {
    let receiver = to.run(|| socket(kind)).unwrap().unwrap();
    let sender = from.run(|| socket(kind)).unwrap().unwrap();
    let mut frame = [0u8; 60];
    frame[..6].copy_from_slice(&[1, 0x80, 0xc2, 0, 0, 0x0e]);
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

/// The hardware address that a link-local address of these tests goes with.
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The router's address.
pub const ROUTER_ADDRESS: &str = "fe80::1234";

/// An IPv6 router's advertisement of itself as the way to everywhere, for ten minutes (RFC 4861 section 4.2).
fn advertisement() -> Vec<u8> {
    let (mut from, mut to) = ([0; 16], [0; 16]);
    (from[0], from[1], from[14], from[15]) = (0xfe, 0x80, 0x12, 0x34);
    (to[0], to[1], to[15]) = (0xff, 2, 1);
    let mut message = vec![134, 0, 0, 0, 64, 0, 2, 88, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    message.extend(ROUTER);
    let pseudo = [&from[..], &to, &(message.len() as u32).to_be_bytes(), &[0, 0, 0, 58]].concat();
    let pairs = pseudo.chunks(2).chain(message.chunks(2));
    let sum: u32 = pairs.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    message[2..4].copy_from_slice(&(!((sum + (sum >> 16)) as u16)).to_be_bytes());
    let length = (message.len() as u16).to_be_bytes();
    let header = [0x60, 0, 0, 0, length[0], length[1], 58, 255];
    [&[0x33, 0x33, 0, 0, 0, 1][..], &ROUTER, &[0x86, 0xdd], &header, &from, &to, &message].concat()
}

/// Whether a host takes the route that a router on its link advertises. It has none afterwards.
pub fn learns_route(from: &Namespace, to: &Namespace) -> bool {
    let sender = from.run(|| socket(0x86dd)).unwrap().unwrap();
    let frame = advertisement();
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        // SAFETY: as many bytes as are given.
        let sent = unsafe { libc::send(sender.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
        std::thread::sleep(Duration::from_millis(50));
        if to.ip("-6 route show default").unwrap().contains(ROUTER_ADDRESS) {
            to.ip("-6 route del default").unwrap();
            return true;
        }
    }
    false
}
