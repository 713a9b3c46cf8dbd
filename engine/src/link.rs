//! Link protocols that an exchange-facing interface passes where its configuration names them.

use crate::layout::{Address, LINK_BFD, LINK_DHCP, LINK_PTP};
use crate::parse::{Headers, protocol};
use crate::{Environment, Reason};

const DHCP_PORTS: [u16; 2] = [67, 68];
const DHCPV6_PORTS: [u16; 2] = [546, 547];
const BFD_PORTS: [u16; 2] = [3784, 3785];
const PTP_PORTS: [u16; 2] = [319, 320];

/// The link protocol (`LINK_` bit) of a UDP datagram, or 0.
#[inline(always)]
const fn protocol_of(headers: &Headers) -> u8 {
    let (source, destination) = (headers.source_port, headers.destination_port);
    let dhcp = match headers.version {
        4 => DHCP_PORTS,
        _ => DHCPV6_PORTS,
    };
    if is_one_of(source, dhcp) && is_one_of(destination, dhcp) {
        LINK_DHCP
    // A TTL of 255 proves that no router forwarded it (RFC 5881 section 5).
    } else if is_one_of(destination, BFD_PORTS) && headers.hop_limit == 255 {
        LINK_BFD
    } else if is_one_of(destination, PTP_PORTS) && is_ptp_group(headers.version, &headers.destination) {
        LINK_PTP
    } else {
        0
    }
}

#[inline(always)]
const fn is_one_of(port: u16, ports: [u16; 2]) -> bool {
    port == ports[0] || port == ports[1]
}

/// 224.0.1.129 to 132 and 224.0.0.107; ff0x::181 to 184 and ff02::6b (IEEE 1588 annexes C and D).
#[inline(always)]
const fn is_ptp_group(version: u8, address: &Address) -> bool {
    let last = u32::from_be(address[3]);
    if version == 4 {
        return matches!(last, 0xe000_0181..=0xe000_0184 | 0xe000_006b);
    }
    let first = u32::from_be(address[0]);
    first & 0xfff0_ffff == 0xff00_0000
        && address[1] | address[2] == 0
        && (matches!(last, 0x181..=0x184) || (last == 0x6b && first == 0xff02_0000))
}

/// Whether a parsed packet is of a link protocol that passes here.
#[inline(always)]
pub(crate) fn passes(env: &impl Environment, headers: &Headers) -> bool {
    headers.protocol == protocol::UDP && protocol_of(headers) & env.link() != 0
}

/// A frame of a link protocol that is not IP: its bit is the headers' detail.
#[inline(always)]
pub(crate) fn frame(env: &impl Environment, headers: &Headers) -> Reason {
    if headers.detail & env.link() != 0 { Reason::Link } else { Reason::LinkProtocol }
}
