//! Two ends talking, mostly as their protocol says.

use std::net::IpAddr;

use bulkhead_abi::Direction;
use bulkhead_engine::parse::{protocol, tcp as flag};
use fastrand::Rng;

use super::build::{Ip, Ports, echo, icmp, icmp_protocol, sctp, tcp, udp};

/// The tuple of a conversation's first packet, and which way that goes.
#[derive(Clone, Copy, Debug)]
pub struct Conversation {
    /// Who starts.
    pub initiator: IpAddr,
    /// Who answers.
    pub responder: IpAddr,
    /// Ports of the first packet; an echo's identifier is the first.
    pub ports: Ports,
    /// IP protocol number.
    pub protocol: u8,
    /// The way of the initiator's packets, seen from the node.
    pub direction: Direction,
}

impl Conversation {
    /// One packet of one end. The flags or type are likely to be of `step`, the number of
    /// packets so far, and are sometimes anything.
    #[must_use]
    pub fn packet(&self, rng: &mut Rng, forward: bool, step: u32) -> Ip {
        let (source, destination) =
            if forward { (self.initiator, self.responder) } else { (self.responder, self.initiator) };
        let ports = if forward { self.ports } else { (self.ports.1, self.ports.0) };
        let data =
            if rng.bool() { vec![0x61; rng.usize(..24)] } else { beginning(rng, self.protocol, forward) };
        let payload = match self.protocol {
            protocol::TCP => {
                let flags = tcp_flags(rng, forward, step);
                segment(rng, tcp(ports, flags, &data))
            }
            protocol::UDP => udp(ports, &data),
            protocol::SCTP => sctp_packet(rng, ports, forward, step),
            protocol::ICMP | protocol::ICMPV6 => {
                // Now and then a request where a reply is due.
                echo(source.is_ipv4(), forward == (rng.u8(..16) == 0), self.ports.0)
            }
            _ => data,
        };
        Ip::new(source, destination, self.protocol, payload)
    }

    /// The direction of an end's packets.
    #[must_use]
    pub fn direction(&self, forward: bool) -> Direction {
        if forward { self.direction } else { self.direction.opposite() }
    }

    /// An ICMP error about one of this conversation's packets, to who sent it.
    #[must_use]
    pub fn error_about(&self, rng: &mut Rng, forward: bool, router: IpAddr) -> Ip {
        let mut quoted = self.packet(rng, forward, 3);
        // Quotes of what a host or a router may have changed or added.
        match rng.u8(..12) {
            0 => quoted.options = vec![1, 1, 1, 0],
            1 => quoted.extensions.push(super::build::Extension::padded(60, 0)),
            2 => quoted.fragment = rng.u16(..),
            3 => quoted.protocol = rng.u8(..),
            4 => quoted.source = router,
            _ => {}
        }
        let mut quote = quoted.bytes();
        let header = if quoted.source.is_ipv4() { 20 } else { 40 };
        match rng.u8(..8) {
            0 => quote.truncate(rng.usize(..=quote.len())),
            1..5 => quote.truncate((header + 8).min(quote.len())),
            5 => quote[rng.usize(..header)] = rng.u8(..),
            _ => {}
        }
        error(rng, router, quoted_sender(self, forward), &quote)
    }
}

fn quoted_sender(conversation: &Conversation, forward: bool) -> IpAddr {
    if forward { conversation.initiator } else { conversation.responder }
}

/// An ICMP error of some type that quotes these bytes.
pub(super) fn error(rng: &mut Rng, source: IpAddr, destination: IpAddr, quote: &[u8]) -> Ip {
    let v4 = destination.is_ipv4();
    let kinds: &[u8] = if v4 { &[3, 3, 3, 11, 12, 4, 5] } else { &[1, 2, 2, 3, 4, 5, 137] };
    let kind = kinds[rng.usize(..kinds.len())];
    let code = if v4 && kind == 3 { 4 } else { 0 };
    Ip::new(source, destination, icmp_protocol(v4), icmp(kind, code, [0, 0, 5, 0], quote))
}

fn tcp_flags(rng: &mut Rng, forward: bool, step: u32) -> u8 {
    const ECN: u8 = 0xc0;
    const PUSH: u8 = 0x08;
    if rng.u8(..16) == 0 {
        return rng.u8(..);
    }
    match (forward, step) {
        (true, 0) => flag::SYN | if rng.u8(..4) == 0 { ECN } else { 0 },
        (false, 0 | 1) => flag::SYN | flag::ACK,
        _ => match rng.u8(..10) {
            0 => flag::FIN | flag::ACK,
            1 => flag::RST,
            2 => flag::RST | flag::ACK,
            3 if forward => flag::SYN,
            3 => flag::SYN | flag::ACK,
            4 => flag::ACK | PUSH,
            _ => flag::ACK,
        },
    }
}

fn sctp_packet(rng: &mut Rng, ports: Ports, forward: bool, step: u32) -> Vec<u8> {
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    let kind = match (forward, step) {
        (true, 0) => INIT,
        (false, 0 | 1) => INIT_ACK,
        _ => [0, 3, 4, 6, 7, 8, 10, 11, 14, INIT, INIT_ACK, rng.u8(..)][rng.usize(..12)],
    };
    let mut packet = sctp(ports, kind, &vec![0; rng.usize(..24)]);
    match rng.u8(..12) {
        // Another chunk behind it.
        0 => packet.extend([0, 0, 0, 4]),
        1 => packet[14..16].copy_from_slice(&rng.u16(..40).to_be_bytes()),
        _ => {}
    }
    packet
}

/// What a conversation over TLS may begin with, or a part of it, or nearly that.
fn beginning(rng: &mut Rng, protocol: u8, forward: bool) -> Vec<u8> {
    let hello = if forward { 1 } else { 2 };
    let mut bytes = match (protocol, rng.u8(..4)) {
        (protocol::UDP, 0 | 1) => {
            [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50, hello][..], &[7; 20]].concat()
        }
        (protocol::UDP, _) => [&[0xc3, 0, 0, 0, 1][..], &[7; 20]].concat(),
        (_, 0) if forward => vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f, 22, 3, 1, 1, 0, 1],
        (_, 0) => vec![b'S', 22, 3, 3, 1, 0, 2],
        (_, 1) if !forward => vec![21, 3, 3, 0, 2, 2, 40],
        // Where a SYN was, and behind it.
        (_, 2) => vec![0, 22, 3, 1, 1, 0, hello, 0, 0],
        _ => vec![22, 3, 1, 1, 0, hello, 0, 0],
    };
    if rng.u8(..4) == 0 {
        let at = rng.usize(..bytes.len());
        bytes[at] = rng.u8(..);
    }
    let (from, to) = if rng.bool() { (0, bytes.len()) } else { (rng.usize(..4), rng.usize(4..=bytes.len())) };
    bytes[from..to].to_vec()
}

/// A segment with a sequence number near its direction's first ones, and an acknowledgement likewise.
fn segment(rng: &mut Rng, mut segment: Vec<u8>) -> Vec<u8> {
    if rng.bool() {
        segment[4..8].copy_from_slice(&rng.u32(1..6).to_be_bytes());
        segment[8..12].copy_from_slice(&[2u32, 3, 8, 16][rng.usize(..4)].to_be_bytes());
    }
    segment
}
