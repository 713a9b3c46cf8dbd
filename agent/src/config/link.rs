//! The protocols that an Ethernet link needs beside what the policy admits.

use bulkhead_abi::{
    LINK_BFD, LINK_BFD_LAG, LINK_BFD_MULTIHOP, LINK_DHCP, LINK_EAPOL, LINK_IGMP, LINK_LACP, LINK_LLDP,
    LINK_MACSEC, LINK_PTP, LINK_PTP_UNICAST, LINK_RA, LINK_VRRP,
};

/// A protocol that an Ethernet interface's link may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Link aggregation.
    Lacp,
    /// Neighbours' names.
    Lldp,
    /// Time, by frames and to groups.
    Ptp,
    /// Time, to one host.
    PtpUnicast,
    /// The interface's own address.
    Dhcp,
    /// IPv6 routers, prefixes and addresses.
    Ra,
    /// Liveness of the next hop.
    Bfd,
    /// Liveness of a host behind routers.
    BfdMultihop,
    /// Liveness of each member of a LAG.
    BfdLag,
    /// Which router has a shared address.
    Vrrp,
    /// Membership in any multicast group, IGMP and MLD.
    Igmp,
    /// Who may use the port.
    Eapol,
    /// Encrypted frames.
    Macsec,
}

impl Link {
    /// Its name, as in agent.toml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lacp => "lacp",
            Self::Lldp => "lldp",
            Self::Ptp => "ptp",
            Self::PtpUnicast => "ptp-unicast",
            Self::Dhcp => "dhcp",
            Self::Ra => "ra",
            Self::Bfd => "bfd",
            Self::BfdMultihop => "bfd-multihop",
            Self::BfdLag => "bfd-lag",
            Self::Vrrp => "vrrp",
            Self::Igmp => "igmp",
            Self::Eapol => "eapol",
            Self::Macsec => "macsec",
        }
    }

    /// Its bit in [`bulkhead_abi::Settings`].
    #[must_use]
    pub const fn bit(self) -> u32 {
        match self {
            Self::Lacp => LINK_LACP,
            Self::Lldp => LINK_LLDP,
            Self::Ptp => LINK_PTP,
            Self::PtpUnicast => LINK_PTP_UNICAST,
            Self::Dhcp => LINK_DHCP,
            Self::Ra => LINK_RA,
            Self::Bfd => LINK_BFD,
            Self::BfdMultihop => LINK_BFD_MULTIHOP,
            Self::BfdLag => LINK_BFD_LAG,
            Self::Vrrp => LINK_VRRP,
            Self::Igmp => LINK_IGMP,
            Self::Eapol => LINK_EAPOL,
            Self::Macsec => LINK_MACSEC,
        }
    }
}
