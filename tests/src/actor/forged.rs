//! Packets that a process makes itself.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Protocol, Socket, Type};

use super::Words;

const PACKET_QDISC_BYPASS: i32 = 20;

/// The port that forged datagrams are from.
const FROM: u16 = 4000;
/// What they say, and how long that is with the header of UDP.
const SAID: &[u8] = b"forge";
const LENGTH: u8 = 13;

/// A UDP datagram with its IPv4 header.
fn datagram4(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 20 + LENGTH, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !(((sum >> 16) + (sum & 0xffff)) as u16);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp(port));
    packet
}

/// The same with an IPv6 header. Its checksum is none, which the receiver's stack minds and a capture there does not.
fn datagram6(source: Ipv6Addr, destination: Ipv6Addr, port: u16) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, LENGTH, 17, 64];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(udp(port));
    packet
}

fn udp(port: u16) -> Vec<u8> {
    [&FROM.to_be_bytes()[..], &port.to_be_bytes(), &[0, LENGTH, 0, 0], SAID].concat()
}

fn ends(words: &Words<'_>) -> io::Result<(Vec<u8>, SocketAddr)> {
    let source: IpAddr = words.at(1)?.parse().map_err(io::Error::other)?;
    let to = words.address(2)?;
    match (source, to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ok((datagram4(source, destination, to.port()), to)),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ok((datagram6(source, destination, to.port()), to)),
        _ => Err(io::Error::other("two families")),
    }
}

/// By a raw socket, with an IP header of its own.
pub fn raw(words: &Words<'_>) -> io::Result<String> {
    let (packet, mut to) = ends(words)?;
    let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
    if to.is_ipv6() {
        // Here a port is a protocol.
        to.set_port(0);
    }
    socket.send_to(&packet, &to.into())?;
    Ok("sent".to_owned())
}

/// By a packet socket on an interface that carries bare IP, or on `lo`.
pub fn packet(words: &Words<'_>) -> io::Result<String> {
    let (packet, destination) = ends(words)?;
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
    let kind: u16 = if destination.is_ipv4() { 0x0800 } else { 0x86dd };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = kind.to_be();
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
