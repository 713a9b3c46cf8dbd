//! Packets that a process makes itself.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Protocol, Socket, Type};

use super::Words;

const PACKET_QDISC_BYPASS: i32 = 20;

/// A UDP datagram with its IPv4 header.
fn datagram(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !(((sum >> 16) + (sum & 0xffff)) as u16);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(4000u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0, 13, 0, 0]);
    packet.extend(b"forge");
    packet
}

fn ends(words: &Words<'_>) -> io::Result<(Vec<u8>, SocketAddr)> {
    let source: Ipv4Addr = words.at(1)?.parse().map_err(io::Error::other)?;
    let to = words.address(2)?;
    let IpAddr::V4(destination) = to.ip() else { return Err(io::Error::other("IPv4 alone")) };
    Ok((datagram(source, destination, to.port()), to))
}

/// By a raw socket.
pub fn raw(words: &Words<'_>) -> io::Result<String> {
    let (packet, to) = ends(words)?;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    socket.send_to(&packet, &to.into())?;
    Ok("sent".to_owned())
}

/// By a packet socket on an interface that carries bare IP, or on `lo`.
pub fn packet(words: &Words<'_>) -> io::Result<String> {
    let (packet, _) = ends(words)?;
    let name = std::ffi::CString::new(words.at(3)?).map_err(io::Error::other)?;
    // SAFETY: a string with its end.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // SAFETY: numbers; plain old data.
    let (descriptor, mut to): (i32, libc::sockaddr_ll) =
        unsafe { (libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0), zeroed()) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let socket: Socket = unsafe { std::os::fd::FromRawFd::from_raw_fd(descriptor) };
    if words.has("bypass") {
        let on = 1i32;
        // SAFETY: a value of this length.
        let answer = unsafe {
            let value = (&raw const on).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_QDISC_BYPASS, value, 4)
        };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = 0x0800u16.to_be();
    to.sll_ifindex = index as i32;
    to.sll_halen = 6;
    // SAFETY: bytes of this length, and an address of its size.
    let answer = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok("sent".to_owned()) }
}
