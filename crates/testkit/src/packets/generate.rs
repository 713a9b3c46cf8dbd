//! An endless, reproducible sequence of packets for one world.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use bulkhead_abi::Direction;
use bulkhead_engine::Reason;
use bulkhead_engine::memory::Memory;
use bulkhead_engine::parse::protocol;
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::reference::Probe;
use fastrand::Rng;

use super::build::{Ip, ethernet, ethertype, icmp, icmp_protocol, udp};
use super::conversation::error;
use super::damage::{adorn, corrupt, split};
use super::{Conversation, World};

/// Conversations that go on at the same time.
const LIVE: usize = 24;
/// Tries to find a tuple that the tables admit.
const TRIES: usize = 40;

const PORTS: [u16; 10] = [22, 22, 80, 443, 443, 8080, 53, 9100, 0, 65_535];
const PROTOCOLS: [u8; 8] = [6, 6, 6, 17, 17, 132, 1, 47];

/// An IPv4 address as IPv6 sockets write it; on the wire it has no business.
const MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::new(100, 64, 0, 2).to_ipv6_mapped());

/// A packet as an interface hands it over, and which way it goes.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Seen from the node.
    pub direction: Direction,
    /// From the link header on, if the interface has one.
    pub bytes: Vec<u8>,
}

/// Makes packets.
pub struct Generator<'a> {
    rng: Rng,
    world: &'a World,
    environment: Memory<'a>,
    is_ethernet: bool,
    live: Vec<(Conversation, u32)>,
    /// Fragments that are still to be sent.
    fragments: VecDeque<(Direction, Ip)>,
}

impl<'a> Generator<'a> {
    /// Packets for a world; the same seed makes the same ones.
    #[must_use]
    pub fn new(world: &'a World, seed: u64, is_ethernet: bool) -> Self {
        let environment = environment(&world.program.tables, 0);
        let (live, fragments) = Default::default();
        Self { rng: Rng::with_seed(seed), world, environment, is_ethernet, live, fragments }
    }

    /// The next packet.
    pub fn next_frame(&mut self) -> Frame {
        if self.live.len() < LIVE || self.rng.u8(..32) == 0 {
            let conversation = self.open();
            let slot = self.rng.usize(..LIVE);
            match self.live.get_mut(slot) {
                Some(old) => *old = (conversation, 0),
                None => self.live.push((conversation, 0)),
            }
        }
        let (direction, packet) = self.packet();
        let mut bytes = packet.bytes();
        if self.rng.u8(..8) == 0 {
            corrupt(&mut self.rng, &mut bytes);
        }
        if self.is_ethernet {
            bytes = self.frame(&bytes);
            if self.rng.u8(..32) == 0 {
                corrupt(&mut self.rng, &mut bytes);
            }
        }
        Frame { direction, bytes }
    }

    fn packet(&mut self) -> (Direction, Ip) {
        if self.rng.u8(..3) != 0
            && let Some(fragment) = self.fragments.pop_front()
        {
            return fragment;
        }
        let (direction, mut packet) = match self.rng.u8(..20) {
            0 => self.stray(),
            1 | 2 => self.error(),
            _ => self.talk(),
        };
        if self.rng.u8(..6) == 0 {
            adorn(&mut self.rng, &mut packet);
        }
        if self.rng.u8(..24) == 0 {
            let parts = split(&mut self.rng, &packet);
            self.fragments.extend(parts.into_iter().map(|part| (direction, part)));
        }
        (direction, packet)
    }

    fn address(&mut self) -> IpAddr {
        self.world.addresses[self.rng.usize(..self.world.addresses.len())]
    }

    /// Another address of the same family.
    fn address_like(&mut self, other: IpAddr) -> IpAddr {
        loop {
            let address = self.address();
            if address.is_ipv4() == other.is_ipv4() {
                return address;
            }
        }
    }

    /// Some tuple; mostly one that the tables admit.
    fn tuple(&mut self) -> Conversation {
        let direction = if self.rng.bool() { Direction::Ingress } else { Direction::Egress };
        let local = if self.rng.u8(..16) == 0 {
            self.address()
        } else {
            self.world.locals[self.rng.usize(..self.world.locals.len())]
        };
        let remote = self.address_like(local);
        let (initiator, responder) = match direction {
            Direction::Ingress => (remote, local),
            Direction::Egress => (local, remote),
        };
        let mut protocol = PROTOCOLS[self.rng.usize(..PROTOCOLS.len())];
        let mut ports = (self.rng.u16(32_768..), PORTS[self.rng.usize(..PORTS.len())]);
        if protocol == protocol::ICMP {
            protocol = icmp_protocol(initiator.is_ipv4());
            ports.1 = 0;
        }
        Conversation { initiator, responder, ports, protocol, direction }
    }

    fn open(&mut self) -> Conversation {
        let mut conversation = self.tuple();
        for _ in 0..if self.rng.u8(..5) == 0 { 0 } else { TRIES } {
            let probe = Probe {
                source: conversation.initiator,
                destination: conversation.responder,
                protocol: conversation.protocol,
                port: conversation.ports.1,
            };
            if evaluate(&self.environment, conversation.direction, &probe).reason == Reason::Rule {
                break;
            }
            conversation = self.tuple();
        }
        conversation
    }

    fn talk(&mut self) -> (Direction, Ip) {
        let index = self.rng.usize(..self.live.len());
        let (conversation, step) = &mut self.live[index];
        let forward = if *step == 0 { self.rng.u8(..8) != 0 } else { self.rng.bool() };
        let mut packet = conversation.packet(&mut self.rng, forward, *step);
        let mut direction = conversation.direction(forward);
        *step += 1;
        match self.rng.u8(..64) {
            // The wrong way round, or somebody else's.
            0 => direction = direction.opposite(),
            1 => packet.source = self.address_like(packet.destination),
            2 if packet.source.is_ipv6() => packet.source = MAPPED,
            _ => {}
        }
        (direction, packet)
    }

    /// An ICMP error about a conversation, or about nothing.
    fn error(&mut self) -> (Direction, Ip) {
        let index = self.rng.usize(..self.live.len());
        let (conversation, _) = self.live[index];
        let forward = self.rng.bool();
        let sender = if forward { conversation.initiator } else { conversation.responder };
        let other = if forward { conversation.responder } else { conversation.initiator };
        let router = if self.rng.bool() { other } else { self.address_like(sender) };
        let packet = if self.rng.u8(..8) == 0 {
            let garbage: Vec<u8> = (0..self.rng.usize(..64)).map(|_| self.rng.u8(..)).collect();
            error(&mut self.rng, router, sender, &garbage)
        } else {
            conversation.error_about(&mut self.rng, forward, router)
        };
        (conversation.direction(!forward), packet)
    }

    /// Something else: neighbour discovery, other ICMP, any protocol.
    fn stray(&mut self) -> (Direction, Ip) {
        let mut conversation = self.tuple();
        let v4 = conversation.initiator.is_ipv4();
        let direction = conversation.direction;
        let kind = match self.rng.u8(..6) {
            4 => return (direction, self.report(v4)),
            5 => return (direction, self.link_datagram(&conversation)),
            0 => {
                conversation.protocol = self.rng.u8(..);
                return (direction, conversation.packet(&mut self.rng, true, 0));
            }
            1 => 133 + self.rng.u8(..5),
            _ => self.rng.u8(..),
        };
        let message = icmp(kind, 0, [0; 4], &[0; 16]);
        // ICMP of the other family as well, now and then.
        let number = icmp_protocol(v4 != (self.rng.u8(..8) == 0));
        let (source, destination) = (conversation.initiator, conversation.responder);
        // A router's own address, now and then.
        let router = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
        let source = if !v4 && self.rng.u8(..4) == 0 { router } else { source };
        let mut packet = Ip::new(source, destination, number, message);
        packet.hop_limit = if self.rng.bool() { 255 } else { 64 };
        (direction, packet)
    }

    /// A membership report of some groups, some of them of feeds; or a query, or something like it.
    fn report(&mut self, v4: bool) -> Ip {
        let mut groups: Vec<IpAddr> = Vec::new();
        for _ in 0..self.rng.usize(..4) {
            groups.push(match (self.rng.u8(..4), v4) {
                (0, true) => [224, 0, 0, self.rng.u8(..)].into(),
                (0, false) => [0xff02, 0, 0, 0, 0, 1, 0xff00, self.rng.u16(..)].into(),
                (1, true) => self.rng.u32(..).to_be_bytes().into(),
                (1, false) => self.rng.u128(..).to_be_bytes().into(),
                (_, true) => [233, 54, 12, 7].into(),
                (_, false) => [0xff3e, 0x30, 0x2001, 0xdb8, 0, 0, 0, 7].into(),
            });
        }
        let kinds: [u8; 5] = if v4 { [0x22, 0x22, 0x16, 0x17, 0x11] } else { [143, 143, 131, 132, 130] };
        let kind = kinds[self.rng.usize(..kinds.len())];
        let octets = |group: &IpAddr| match group {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let many = kind == kinds[0];
        let records: Vec<u8> = if many {
            groups.iter().flat_map(|group| [&[4, 0, 0, 0][..], &octets(group)].concat()).collect()
        } else {
            groups.iter().take(1).flat_map(octets).collect()
        };
        let count = groups.len() as u8 + u8::from(self.rng.u8(..16) == 0);
        let rest = if many {
            vec![0, 0, 0, count]
        } else if v4 {
            Vec::new()
        } else {
            vec![0; 4]
        };
        let payload = [&[kind, 0, 0, 0][..], &rest, &records].concat();
        let source = self.address_like(if v4 { [0; 4].into() } else { [0; 16].into() });
        let destination: IpAddr =
            if v4 { [224, 0, 0, 22].into() } else { [0xff02, 0, 0, 0, 0, 0, 0, 0x16].into() };
        let mut packet =
            Ip::new(source, destination, if v4 { protocol::IGMP } else { protocol::ICMPV6 }, payload);
        packet.hop_limit = if self.rng.u8(..8) == 0 { 64 } else { 1 };
        packet
    }

    /// A datagram between ports of link protocols; or VRRP.
    fn link_datagram(&mut self, conversation: &Conversation) -> Ip {
        let port = [67, 68, 546, 547, 3784, 3785, 319, 320, 4784, 6784];
        let ports = (port[self.rng.usize(..port.len())], port[self.rng.usize(..port.len())]);
        let mut destination = conversation.responder;
        let (mut number, mut payload) = (protocol::UDP, udp(ports, b"link"));
        if self.rng.bool() {
            let (ptp4, ptp6) = ([224, 0, 1, 129], [0xff0e, 0, 0, 0, 0, 0, 0, 0x181]);
            let (vrrp4, vrrp6) = ([224, 0, 0, 18], [0xff02, 0, 0, 0, 0, 0, 0, 0x12]);
            let is_vrrp = self.rng.bool();
            destination = match (is_vrrp, destination.is_ipv4()) {
                (false, true) => ptp4.into(),
                (false, false) => ptp6.into(),
                (true, true) => vrrp4.into(),
                (true, false) => vrrp6.into(),
            };
            if is_vrrp {
                (number, payload) = (protocol::VRRP, vec![0x31, 1, 100, 1, 0, 100, 0, 0]);
            }
        }
        let mut packet = Ip::new(conversation.initiator, destination, number, payload);
        packet.hop_limit = [1, 64, 255][self.rng.usize(..3)];
        packet
    }

    /// An Ethernet frame around a packet: with tags, and now and then of another EtherType.
    fn frame(&mut self, packet: &[u8]) -> Vec<u8> {
        let count = match self.rng.u8(..12) {
            0 => 1,
            1 => 2,
            2 => 3,
            _ => 0,
        };
        let tags: Vec<u16> = (0..count).map(|_| [0x8100, 0x88a8, 0x9100][self.rng.usize(..3)]).collect();
        let ethertype = match self.rng.u8(..32) {
            0 => 0x0806,
            1 => [0x88cc, 0x8809, 0x88f7, 0x888e, 0x88e5, 0x8863, 0x0800, 0x86dd][self.rng.usize(..8)],
            2 => self.rng.u16(..),
            _ => ethertype(packet),
        };
        ethernet(&tags, ethertype, packet)
    }
}
