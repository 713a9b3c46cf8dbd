//! (protocol, port) → port class: the per-port maps.

/// Blocks of 256 entries in the port-class table: 256 for each of TCP, UDP and SCTP, one
/// for all other protocols.
pub const PORT_BLOCKS: u32 = 3 * 256 + 1;

/// Which part of the port-class table a packet is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSlot {
    /// TCP, by destination port.
    Tcp,
    /// UDP, by destination port.
    Udp,
    /// SCTP, by destination port.
    Sctp,
    /// Any other protocol, by protocol number. For ICMP and ICMPv6 it is the class of echo.
    Other,
}

impl PortSlot {
    /// The slot of an IP protocol number.
    #[inline(always)]
    #[must_use]
    pub const fn of(protocol: u8) -> Self {
        match protocol {
            6 => Self::Tcp,
            17 => Self::Udp,
            132 => Self::Sctp,
            _ => Self::Other,
        }
    }
}

/// Index into the port-class table of `port` (host byte order) of an IP protocol; protocols
/// without ports ignore `port`. The table is stored in blocks of 256 entries.
#[inline(always)]
#[must_use]
pub const fn port_index(protocol: u8, port: u16) -> u32 {
    match PortSlot::of(protocol) {
        PortSlot::Tcp => port as u32,
        PortSlot::Udp => 0x1_0000 | port as u32,
        PortSlot::Sctp => 0x2_0000 | port as u32,
        PortSlot::Other => 0x3_0000 | protocol as u32,
    }
}
