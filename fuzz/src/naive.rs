//! What a passing packet must be, from another parser's reading of it and from the rules.

use std::collections::HashSet;
use std::net::IpAddr;

use bulkhead_abi::{Direction, to_ip};
use bulkhead_engine::{Action, Case, Reason};
use bulkhead_policy::reference::{self, Probe, Verdict};
use etherparse::{IpSlice, Ipv6ExtensionSlice, Ipv6ExtensionsSlice, LaxIpSlice, TcpSlice, UdpSlice};

use crate::world::{NODE, World};

/// A packet as etherparse reads it.
#[derive(Clone, Copy, Debug)]
struct Reading {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// An echo's identifier is the first.
    ports: (u16, u16),
    /// It may begin a conversation.
    opens: bool,
    /// Identification, and whether it is the first, of a datagram in parts.
    fragment: Option<(u32, bool)>,
}

/// The first packet of a conversation: who, whom, how, and which way.
type Tuple = (IpAddr, IpAddr, u8, (u16, u16), Direction);

/// Remembers what passed, as a person with a notebook would.
pub(crate) struct Observer {
    world: &'static World,
    is_ethernet: bool,
    conversations: HashSet<Tuple>,
    datagrams: HashSet<(IpAddr, IpAddr, u8, u32, Direction)>,
}

impl Observer {
    pub(crate) fn new(world: &'static World, is_ethernet: bool) -> Self {
        Self { world, is_ethernet, conversations: HashSet::new(), datagrams: HashSet::new() }
    }

    /// Panics if a packet passed that should not have.
    pub(crate) fn check(&mut self, bytes: &[u8], direction: Direction, case: &Case, now: u64) {
        let reason = case.outcome.reason;
        if reason.action() == Action::Drop {
            return;
        }
        let wrong = |why: &str| -> ! { panic!("{why}: {bytes:02x?}\n{case:?}") };
        if reason == Reason::Arp {
            assert!(self.is_ethernet && has_ethertype(bytes, 0x0806), "{bytes:02x?}");
            return;
        }
        let Some(packet) = self.read(bytes) else { wrong("another parser refuses it") };
        let seen = (to_ip(&case.headers.source), to_ip(&case.headers.destination));
        if seen != (packet.source, packet.destination) || case.headers.protocol != packet.protocol {
            wrong("another parser reads other headers");
        }
        let tuple = (packet.source, packet.destination, packet.protocol, packet.ports, direction);
        match reason {
            Reason::Rule => {
                let wanted = self.judge(&tuple, now);
                let rule = self.world.program.rules[case.outcome.rule as usize];
                if wanted != Verdict::Allow(rule) {
                    wrong(&format!("the rules say {wanted:?}"));
                }
                if packet.opens {
                    self.conversations.insert(tuple);
                }
            }
            Reason::Reply => self.admitted(&reversed(&tuple), now).unwrap_or_else(|why| wrong(why)),
            Reason::IcmpError => {
                let Some(quoted) = self.quoted(bytes) else { wrong("it quotes nothing") };
                let sent =
                    (quoted.source, quoted.destination, quoted.protocol, quoted.ports, direction.opposite());
                if quoted.source != packet.destination {
                    wrong("it goes to another than the sender of what it quotes");
                }
                let either = self.admitted(&sent, now).or_else(|_| self.admitted(&reversed(&sent), now));
                either.unwrap_or_else(|why| wrong(why));
            }
            Reason::Fragment => {
                let id = packet.fragment.map(|(id, _)| id).unwrap_or_else(|| wrong("no fragment"));
                let datagram = (packet.source, packet.destination, packet.protocol, id, direction);
                if !self.datagrams.contains(&datagram) {
                    wrong("its first fragment never passed");
                }
            }
            Reason::NeighbourDiscovery => {
                if !self.is_ethernet || packet.protocol != 58 {
                    wrong("no neighbour discovery");
                }
            }
            _ => wrong("nothing here lets a packet pass for this reason"),
        }
        if let Some((id, true)) = packet.fragment {
            self.datagrams.insert((packet.source, packet.destination, packet.protocol, id, direction));
        }
    }

    /// Whether a conversation was begun so and may go on.
    fn admitted(&self, first: &Tuple, now: u64) -> Result<(), &'static str> {
        if !self.conversations.contains(first) {
            return Err("nobody began this conversation");
        }
        match self.judge(first, now) {
            Verdict::Allow(_) => Ok(()),
            _ => Err("the conversation is no longer allowed"),
        }
    }

    fn judge(&self, tuple: &Tuple, now: u64) -> Verdict {
        let (source, destination, protocol, ports, direction) = *tuple;
        let World { ruleset, inventory, .. } = self.world;
        let Some(node) = inventory.node(NODE) else { return Verdict::NotLocal };
        let probe = Probe { source, destination, protocol, port: ports.1 };
        reference::judge(ruleset, inventory, node, direction, &probe, now)
    }

    fn read(&self, bytes: &[u8]) -> Option<Reading> {
        let packet = IpSlice::from_slice(self.network(bytes)?).ok()?;
        let payload = packet.payload().payload;
        let fragment = match &packet {
            IpSlice::Ipv4(ip) => {
                let header = ip.header();
                let id = u32::from(header.identification());
                header.is_fragmenting_payload().then_some((id, header.fragments_offset().value() == 0))
            }
            IpSlice::Ipv6(ip) => fragment6(ip.extensions()),
        };
        let protocol = packet.payload_ip_number().0;
        let is_later = fragment.is_some_and(|(_, is_first)| !is_first);
        let (ports, opens) = if is_later { ((0, 0), false) } else { transport(protocol, payload)? };
        let is_whole = match protocol {
            _ if fragment.is_some() => true,
            6 => TcpSlice::from_slice(payload).is_ok(),
            17 => UdpSlice::from_slice(payload).is_ok(),
            _ => true,
        };
        if !is_whole {
            return None;
        }
        let (source, destination) = (packet.source_addr(), packet.destination_addr());
        Some(Reading { source, destination, protocol, ports, opens, fragment })
    }

    /// The packet behind its link header.
    fn network<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        if !self.is_ethernet {
            return Some(bytes);
        }
        let ethertype = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let mut at = 12;
        while at < 20 && matches!(ethertype(at)?, 0x8100 | 0x88a8 | 0x9100) {
            at += 4;
        }
        let version = bytes.get(at + 2)? >> 4;
        matches!((ethertype(at)?, version), (0x0800, 4) | (0x86dd, 6)).then_some(&bytes[at + 2..])
    }

    /// The start of the packet that an ICMP error quotes.
    fn quoted(&self, bytes: &[u8]) -> Option<Reading> {
        let packet = IpSlice::from_slice(self.network(bytes)?).ok()?;
        let quote = LaxIpSlice::from_slice(packet.payload().payload.get(8..)?).ok()?.0;
        let payload = quote.payload();
        let protocol = payload.ip_number.0;
        let ports = ports(protocol, payload.payload)?;
        let (source, destination) = (quote.source_addr(), quote.destination_addr());
        Some(Reading { source, destination, protocol, ports, opens: false, fragment: None })
    }
}

/// RFC 8200 section 4.5, by hand: etherparse 0.19 takes the wrong bits.
fn fragment6(extensions: &Ipv6ExtensionsSlice<'_>) -> Option<(u32, bool)> {
    let headers = extensions.clone().into_iter();
    let mut fragments = headers.filter_map(|header| match header {
        Ipv6ExtensionSlice::Fragment(header) => Some(header),
        _ => None,
    });
    let header = fragments.next()?;
    let field = u16::from_be_bytes([header.slice()[2], header.slice()[3]]);
    (field & 0xfff9 != 0).then_some((header.identification(), field >> 3 == 0))
}

/// Ports, and whether it opens a conversation, if all of the header is there.
fn transport(protocol: u8, bytes: &[u8]) -> Option<((u16, u16), bool)> {
    let ports = ports(protocol, bytes)?;
    let opens = match protocol {
        6 => *bytes.get(13)? & 0x12 == 0x02,
        1 => bytes[0] == 8,
        58 => bytes[0] == 128,
        132 => *bytes.get(12)? == 1,
        _ => true,
    };
    Some((ports, opens))
}

/// Ports, or an echo's identifier, from the 8 bytes that every quote has.
fn ports(protocol: u8, bytes: &[u8]) -> Option<(u16, u16)> {
    let at = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    match protocol {
        6 | 17 | 132 => Some((at(0)?, at(2)?)),
        1 | 58 => Some((at(4)?, 0)),
        _ => Some((0, 0)),
    }
}

/// The tuple that a packet would have to be a reply in.
fn reversed(&(source, destination, protocol, ports, direction): &Tuple) -> Tuple {
    // An echo's identifier is the same both ways.
    let ports = if matches!(protocol, 1 | 58) { ports } else { (ports.1, ports.0) };
    (destination, source, protocol, ports, direction.opposite())
}

fn has_ethertype(frame: &[u8], wanted: u16) -> bool {
    // Behind up to two VLAN tags.
    [12, 16, 20].iter().any(|at| frame.get(*at..at + 2) == Some(&wanted.to_be_bytes()))
}
