//! The protocols that an Ethernet link needs beside what the policy admits.

use serde::{Deserialize, Serialize};

/// A protocol that an Ethernet interface's link may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
}
