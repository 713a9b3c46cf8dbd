//! Packets, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::world::{ICMP, ICMPV6, TCP, UDP};

pub const FIN_ACK: u8 = 0x11;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;
pub const SYN_ACK: u8 = 0x12;

/// An IP packet of the family of its addresses.
pub fn ip(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ip4(source, destination, protocol, payload),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ip6(source, destination, protocol, payload),
        _ => panic!("two families"),
    }
}

fn ip4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

fn ip6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 255];
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

pub fn tcp_header(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut header = ports(from, to);
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

/// A UDP header that announces `length` bytes, itself included.
pub fn udp_header(from: u16, to: u16, length: u16) -> Vec<u8> {
    let mut header = ports(from, to);
    header.extend(length.to_be_bytes());
    header.extend([0, 0]);
    header
}

/// A TCP segment from (address, port) to (address, port).
pub fn tcp(from: (&str, u16), to: (&str, u16), flags: u8) -> Vec<u8> {
    ip(from.0, to.0, TCP, &tcp_header(from.1, to.1, flags))
}

pub fn udp(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    ip(from.0, to.0, UDP, &udp_header(from.1, to.1, 8))
}

/// An ICMP message of the addresses' family; `word` is its second word.
pub fn icmp(from: &str, to: &str, kind: u8, word: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(word);
    message.extend(body);
    ip(from, to, if from.contains(':') { ICMPV6 } else { ICMP }, &message)
}

pub fn echo(from: &str, to: &str, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    icmp(from, to, if from.contains(':') { 128 } else { 8 }, [high, low, 0, 1], &[])
}

pub fn echo_reply(from: &str, to: &str, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    icmp(from, to, if from.contains(':') { 129 } else { 0 }, [high, low, 0, 1], &[])
}

/// 'Too big' (IPv6) or 'fragmentation needed' (IPv4) about a quoted packet.
pub fn too_big(from: &str, to: &str, quote: &[u8]) -> Vec<u8> {
    icmp(from, to, if from.contains(':') { 2 } else { 3 }, [0, 0, 5, 0], quote)
}

/// Makes a fragment of an IPv4 packet: `offset` in bytes.
pub fn fragment4(mut packet: Vec<u8>, id: u16, offset: u16, more: bool) -> Vec<u8> {
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
    packet
}

/// An IPv6 fragment header in front of `payload`.
pub fn fragment6(next: u8, id: u32, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut fragment = vec![next, 0];
    fragment.extend((offset | u16::from(more)).to_be_bytes());
    fragment.extend(id.to_be_bytes());
    fragment.extend(payload);
    fragment
}
