//! Link protocols that an Ethernet interface passes where its configuration names them. Each is held
//! to what its own document has receivers demand, as far as it does: a group of the link, a TTL of
//! 255, which proves that no router forwarded the packet (RFC 5082), or neither.

use bulkhead_abi::{
    LINK_BFD, LINK_BFD_LAG, LINK_BFD_MULTIHOP, LINK_DHCP, LINK_EAPOL, LINK_LACP, LINK_LLDP, LINK_MACSEC,
    LINK_PTP, LINK_PTP_UNICAST, LINK_RA, LINK_VRRP,
};

use crate::multicast::{is_about_membership, is_multicast, is_ptp_group};
use crate::parse::{Headers, protocol};
use crate::{Case, Environment, Packet, Reason};

const ETHERTYPE_SLOW: u16 = 0x8809;
const ETHERTYPE_EAPOL: u16 = 0x888e;
const ETHERTYPE_LLDP: u16 = 0x88cc;
const ETHERTYPE_MACSEC: u16 = 0x88e5;
const ETHERTYPE_PTP: u16 = 0x88f7;

const DHCP_PORTS: [u16; 2] = [67, 68];
const DHCPV6_PORTS: [u16; 2] = [546, 547];
const BFD_PORTS: [u16; 2] = [3784, 3785];
const BFD_MULTIHOP_PORT: u16 = 4784;
const BFD_LAG_PORT: u16 = 6784;
const PTP_PORTS: [u16; 2] = [319, 320];

/// The link protocol (`LINK_` bit) of a frame that is not IP, or 0.
const fn of_frame(ethertype: u16) -> u32 {
    match ethertype {
        ETHERTYPE_SLOW => LINK_LACP,
        ETHERTYPE_EAPOL => LINK_EAPOL,
        ETHERTYPE_LLDP => LINK_LLDP,
        ETHERTYPE_MACSEC => LINK_MACSEC,
        ETHERTYPE_PTP => LINK_PTP,
        _ => 0,
    }
}

/// The link protocol (`LINK_` bit) of a packet, or 0. Out of line, like [`reason_of`]: what is rare makes
/// the way of the others no longer.
#[inline(never)]
const fn of_packet(headers: &Headers) -> u32 {
    match headers.protocol {
        protocol::UDP => of_datagram(headers),
        protocol::ICMPV6 if is_router_discovery(headers) => LINK_RA,
        protocol::VRRP if is_vrrp(headers) => LINK_VRRP,
        _ => 0,
    }
}

/// The link protocol (`LINK_` bit) of a UDP datagram, or 0.
#[inline(always)]
const fn of_datagram(headers: &Headers) -> u32 {
    let (source, destination) = (headers.source_port, headers.destination_port);
    let dhcp = match headers.version {
        4 => DHCP_PORTS,
        _ => DHCPV6_PORTS,
    };
    if is_one_of(source, dhcp) && is_one_of(destination, dhcp) {
        LINK_DHCP
    // RFC 5881 section 5: a TTL of 255, or it is discarded.
    } else if is_one_of(destination, BFD_PORTS) && headers.hop_limit == 255 {
        LINK_BFD
    // RFC 7130 section 2.2: packets as RFC 5881 has them, to another port.
    } else if destination == BFD_LAG_PORT && headers.hop_limit == 255 {
        LINK_BFD_LAG
    // RFC 5883: over any number of hops, so that no TTL proves anything.
    } else if destination == BFD_MULTIHOP_PORT {
        LINK_BFD_MULTIHOP
    } else if is_one_of(destination, PTP_PORTS) {
        if is_ptp_group(headers.version, &headers.destination) {
            LINK_PTP
        } else if !is_multicast(headers.version, &headers.destination) {
            LINK_PTP_UNICAST
        } else {
            0
        }
    } else {
        0
    }
}

#[inline(always)]
const fn is_one_of(port: u16, ports: [u16; 2]) -> bool {
    port == ports[0] || port == ports[1]
}

/// RFC 9568 sections 5.1.1 and 5.1.2: to 224.0.0.18 or ff02::12, with a TTL of 255, or it is discarded
/// (section 7.1). Never in fragments: it fits into any packet.
#[inline(always)]
const fn is_vrrp(headers: &Headers) -> bool {
    let address = &headers.destination;
    let last = u32::from_be(address[3]);
    let to_group = match headers.version {
        4 => last == 0xe000_0012,
        _ => u32::from_be(address[0]) == 0xff02_0000 && address[1] | address[2] == 0 && last == 0x12,
    };
    to_group && headers.hop_limit == 255 && headers.fragment_end == 0
}

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;

/// RFC 4861 sections 6.1.1 and 6.1.2: a hop limit of 255, and an advertisement is from a link-local
/// address. RFC 6980 section 5: not in fragments.
#[inline(always)]
const fn is_router_discovery(headers: &Headers) -> bool {
    let is_from_router = u32::from_be(headers.source[0]) >> 22 == 0xfe80 >> 6;
    headers.version == 6
        && headers.hop_limit == 255
        && headers.fragment_end == 0
        && (headers.detail == ROUTER_SOLICITATION || headers.detail == ROUTER_ADVERTISEMENT && is_from_router)
}

/// Whether a parsed packet is of a link protocol that passes here.
#[inline(always)]
pub(crate) fn passes(env: &impl Environment, headers: &Headers) -> bool {
    of_packet(headers) & env.link() != 0
}

/// A frame that is neither IP nor ARP.
#[inline(always)]
pub(crate) fn frame(env: &impl Environment, packet: &Packet, headers: &Headers) -> Reason {
    let protocol = of_frame(headers.destination_port);
    let passes = protocol & env.link() != 0 && is_to_link(env, packet, headers.destination_port, protocol);
    if passes { Reason::Link } else { Reason::LinkProtocol }
}

/// Whether a frame is to whom its protocol is for. The 16 groups from 01:80:c2:00:00:00 on no bridge forwards
/// (IEEE 802.1Q table 8-1), so that they prove that a frame is of this link, as far as it has no tag.
#[inline(always)]
fn is_to_link(env: &impl Environment, packet: &Packet, ethertype: u16, protocol: u32) -> bool {
    let Some(fixed) = packet.header::<14>(0) else {
        return false;
    };
    let (first, last) = (u32::from_be(fixed.word(0)), fixed.be16(4));
    let is_tagged = fixed.be16(12) != ethertype;
    let is_reserved = first == 0x0180_c200 && last < 16;
    let is_unicast = first & 0x0100_0000 == 0;
    match protocol {
        LINK_LACP | LINK_LLDP => is_reserved && !is_tagged,
        // Who authenticates may answer the host itself (IEEE 802.1X-2020 section 11.1.1).
        LINK_EAPOL => (is_reserved || is_unicast) && !is_tagged,
        // IEEE 1588 annex F: 01:1b:19:00:00:00, and 01:80:c2:00:00:0e for delays between neighbours.
        LINK_PTP => {
            first == 0x011b_1900 && last == 0
                || is_reserved
                || is_unicast && env.link() & LINK_PTP_UNICAST != 0
        }
        _ => true,
    }
}

/// Names what an Ethernet link's hosts need, and the configuration does not name, by a reason of its own:
/// it goes to groups, which no rule is about.
#[inline(always)]
pub(crate) fn name_unnamed(env: &impl Environment, case: &mut Case) {
    let reason = case.outcome.reason;
    if env.ethernet() && matches!(reason, Reason::NotLocal | Reason::UnknownAddress | Reason::IcmpType) {
        case.outcome.reason = reason_of(&case.headers, reason);
    }
}

#[inline(never)]
fn reason_of(headers: &Headers, reason: Reason) -> Reason {
    if headers.protocol == protocol::ICMPV6 && is_router_discovery(headers) {
        Reason::RouterDiscovery
    } else if is_about_membership(headers) {
        Reason::MembershipGroup
    } else {
        reason
    }
}
