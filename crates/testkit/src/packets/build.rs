//! Packets as bytes. Every part can be wrong, since a test may want it so. Checksums are left
//! zero: they are the receiving stack's to check.

use std::net::IpAddr;

use bulkhead_engine::parse::protocol;

/// Source and destination port, or an echo's identifier and 0.
pub type Ports = (u16, u16);

/// An IPv6 extension header: its number, and its bytes after the next-header byte.
#[derive(Clone, Debug)]
pub struct Extension {
    /// IP protocol number.
    pub kind: u8,
    /// From the second byte on: 7 bytes plus 8 for each that the length byte says.
    pub body: Vec<u8>,
}

impl Extension {
    /// A header of `units` × 8 bytes more than the first 8, filled with PadN.
    #[must_use]
    pub fn padded(kind: u8, units: u8) -> Self {
        let mut body = vec![0; 7 + 8 * usize::from(units)];
        (body[0], body[1], body[2]) = (units, 1, 4 + 8 * units);
        Self { kind, body }
    }

    /// A routing header (RFC 8200 section 4.4).
    #[must_use]
    pub fn routing(kind: u8, segments_left: u8) -> Self {
        Self { kind: 43, body: vec![0, kind, segments_left, 0, 0, 0, 0] }
    }

    /// A fragment header; `offset` in units of 8 bytes.
    #[must_use]
    pub fn fragment(offset: u16, more: bool, id: u32) -> Self {
        let mut body = vec![0];
        body.extend((offset << 3 | u16::from(more)).to_be_bytes());
        body.extend(id.to_be_bytes());
        Self { kind: 44, body }
    }
}

/// An IP packet of either family.
#[derive(Clone, Debug)]
pub struct Ip {
    /// Source.
    pub source: IpAddr,
    /// Destination, of the same family.
    pub destination: IpAddr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// IPv4: options, padded with end-of-options to a multiple of 4; at most 40 bytes.
    pub options: Vec<u8>,
    /// IPv4: flags and fragment offset.
    pub fragment: u16,
    /// IPv4: identification.
    pub id: u16,
    /// IPv6: extension headers in order.
    pub extensions: Vec<Extension>,
    /// What follows.
    pub payload: Vec<u8>,
}

impl Ip {
    /// A plain packet.
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one family");
        let (options, extensions) = Default::default();
        Self {
            source,
            destination,
            protocol,
            hop_limit: 64,
            options,
            fragment: 0,
            id: 7,
            extensions,
            payload,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut options = self.options.clone();
                options.resize(options.len().next_multiple_of(4).min(40), 0);
                let total = (20 + options.len() + self.payload.len()) as u16;
                let mut bytes = vec![0x45 + (options.len() / 4) as u8, 0];
                bytes.extend(total.to_be_bytes());
                bytes.extend(self.id.to_be_bytes());
                bytes.extend(self.fragment.to_be_bytes());
                bytes.extend([self.hop_limit, self.protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(options);
                bytes.extend(&self.payload);
                bytes
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let kinds = self.extensions.iter().map(|extension| extension.kind).chain([self.protocol]);
                let next: Vec<u8> = kinds.collect();
                let mut rest = Vec::new();
                for (extension, next) in self.extensions.iter().zip(&next[1..]) {
                    rest.push(*next);
                    rest.extend(&extension.body);
                }
                rest.extend(&self.payload);
                let mut bytes = vec![0x60, 0, 0, 0];
                bytes.extend((rest.len() as u16).to_be_bytes());
                bytes.extend([next[0], self.hop_limit]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(rest);
                bytes
            }
            _ => unreachable!("checked when made"),
        }
    }
}

/// A TCP segment.
#[must_use]
pub fn tcp(ports: Ports, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + data.len());
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    bytes.extend(data);
    bytes
}

/// A UDP datagram.
#[must_use]
pub fn udp(ports: Ports, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + data.len());
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend((8 + data.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    bytes
}

/// An SCTP packet with one chunk.
#[must_use]
pub fn sctp(ports: Ports, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([kind, 0]);
    bytes.extend((4 + body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An ICMP or ICMPv6 message.
#[must_use]
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    bytes.extend(body);
    bytes
}

/// An echo request or reply of the address's family.
#[must_use]
pub fn echo(v4: bool, reply: bool, identifier: u16) -> Vec<u8> {
    let kind = match (v4, reply) {
        (true, false) => 8,
        (true, true) => 0,
        (false, false) => 128,
        (false, true) => 129,
    };
    let [high, low] = identifier.to_be_bytes();
    icmp(kind, 0, [high, low, 0, 1], &[0; 8])
}

/// The number of ICMP in a family.
#[must_use]
pub const fn icmp_protocol(v4: bool) -> u8 {
    if v4 { protocol::ICMP } else { protocol::ICMPV6 }
}

/// An Ethernet frame around a payload, with VLAN tags of these EtherTypes.
#[must_use]
pub fn ethernet(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0, 42]);
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The EtherType of an IP packet, by its version.
#[must_use]
pub fn ethertype(packet: &[u8]) -> u16 {
    if packet.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 }
}

/// Hexadecimal, for failures.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
