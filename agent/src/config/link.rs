//! Link protocols as the programs know them.

use bulkhead_abi::{
    LINK_BFD, LINK_BFD_LAG, LINK_BFD_MULTIHOP, LINK_DHCP, LINK_EAPOL, LINK_IGMP, LINK_LACP, LINK_LLDP,
    LINK_MACSEC, LINK_PTP, LINK_PTP_UNICAST, LINK_RA, LINK_VRRP,
};
use bulkhead_api::link::Link;

/// The bit of a link protocol in [`bulkhead_abi::Settings`].
#[must_use]
pub const fn bit(link: Link) -> u32 {
    match link {
        Link::Lacp => LINK_LACP,
        Link::Lldp => LINK_LLDP,
        Link::Ptp => LINK_PTP,
        Link::PtpUnicast => LINK_PTP_UNICAST,
        Link::Dhcp => LINK_DHCP,
        Link::Ra => LINK_RA,
        Link::Bfd => LINK_BFD,
        Link::BfdMultihop => LINK_BFD_MULTIHOP,
        Link::BfdLag => LINK_BFD_LAG,
        Link::Vrrp => LINK_VRRP,
        Link::Igmp => LINK_IGMP,
        Link::Eapol => LINK_EAPOL,
        Link::Macsec => LINK_MACSEC,
    }
}
