//! Where an interface's programs are attached, and what they are specialised by.

use bulkhead_abi::{
    LINK_BFD, LINK_BFD_LAG, LINK_BFD_MULTIHOP, LINK_DHCP, LINK_EAPOL, LINK_IGMP, LINK_LACP, LINK_LLDP,
    LINK_MACSEC, LINK_PTP, LINK_PTP_UNICAST, LINK_RA, LINK_VRRP,
};
use bulkhead_api::link::Link;
use bulkhead_dataplane::{Hook, Kind, Specialisation};

use super::{HookChoice, Managed, Role};

impl Managed {
    /// An interface with defaults.
    #[must_use]
    pub fn new(name: &str, hook: HookChoice) -> Self {
        Self {
            name: name.to_owned(),
            zone: None,
            hook,
            is_optional: false,
            role: Role::default(),
            link: Vec::new(),
            overlay: None,
        }
    }

    /// What its programs are specialised by.
    #[must_use]
    pub fn specialisation(&self, kind: Kind) -> Specialisation {
        let link = self.link.iter().fold(0, |bits, link| bits | bit(*link));
        Specialisation { kind, zone: self.zone(kind), link, is_loopback: self.role == Role::Local }
    }

    /// The hooks to try at ingress, the best first.
    #[must_use]
    pub fn ingress(&self, kind: Kind) -> &'static [Hook] {
        match (kind, self.hook) {
            _ if self.role == Role::Local => &[Hook::TcxIngress],
            (_, HookChoice::Tcx) | (Kind::BareIp, HookChoice::Auto) => &[Hook::TcxIngress],
            (Kind::BareIp, HookChoice::Xdp) => &[Hook::XdpGeneric],
            (Kind::Ethernet, HookChoice::Auto) => &[Hook::XdpNative, Hook::TcxIngress],
            // Not generic XDP: merged packets count as one there, and no packet rate would hold.
            (Kind::Ethernet, HookChoice::Xdp) => &[Hook::XdpNative],
        }
    }
}

/// The bit of a link protocol in [`bulkhead_abi::Settings`].
const fn bit(link: Link) -> u32 {
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
