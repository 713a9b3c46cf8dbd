//! Drops, and what a staged policy would decide otherwise.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Protocol, Reason};

/// One or more drops of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Drop {
    /// `ingress` or `egress`, seen from this host.
    pub direction: Direction,
    /// Who sent it; absent if the packet could not be parsed that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<End>,
    /// Port of the source; absent in a summary of several drops, and for protocols without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// To whom; absent if the packet could not be parsed that far, and if there are `many`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<End>,
    /// Port of the destination; absent for protocols without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// IP protocol: its name as in policies, else its number as text; absent of frames and if there are `many`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Of a frame that is not IP: its EtherType, such as `0x88cc`; below `0x0600` it is a length (IEEE 802.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ethertype: Option<EtherType>,
    /// Why, by a stable name.
    pub reason: Reason,
    /// The rule that decided, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Interface; absent in a summary of the guard's, which are of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Packets.
    pub count: u64,
    /// Bytes of them, from the IP header on.
    pub bytes: u64,
    /// The generation that decided.
    pub generation: u32,
    /// Audit mode: they would have been dropped, and passed.
    pub audit: bool,
    /// In which of the two accounts of the kernel's counters they are: that of odd turns ([`super::Balance`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub odd: bool,
    /// Drops of more than one kind that have the source, interface and reason in common: destinations, ports and
    /// protocols were too many to tell each.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
}

/// What the staged policy would decide otherwise. Reason, rule and generation are the staged policy's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WouldDiffer {
    /// The packets, and what the staged policy would do to them.
    #[serde(flatten)]
    pub staged: Drop,
    /// What the enforced policy did.
    pub enforced: Enforced,
}

/// What the enforced policy decided where the staged one would not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Enforced {
    /// Why, by a stable name.
    pub reason: Reason,
    /// Whether the packets passed.
    pub passed: bool,
    /// The rule that decided, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
}

/// One end of a packet: its address, and whose that is by the inventory of the generation that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// The node that has the address or, with `route`, routes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// That node's WireGuard public key, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The user whose device it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its tags, such as `tag:oms`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The node's approved route that the address is of; the host there is not the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub route: Option<IpNet>,
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rule {
    /// Its number in the policy, from 1.
    pub number: u32,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its position: file, line and column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Who has asked for it and who has approved it, if it is a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Box<Granted>>,
}

/// What a rule says of itself that is granted for a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Granted {
    /// The grant's id: 32 hexadecimal digits.
    pub id: String,
    /// Where it was asked for.
    pub ticket: String,
    /// Who has asked.
    pub requester: String,
    /// Who has approved.
    pub approvers: Vec<String>,
    /// It is an emergency: one signature has sufficed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

impl Rule {
    /// One that is no grant.
    #[must_use]
    pub const fn plain(number: u32, name: Option<String>, position: Option<String>) -> Self {
        Self { number, name, position, grant: None }
    }

    /// Its name, else its number.
    #[must_use]
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("rule {}", self.number))
    }
}

/// Which way a packet goes, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into the host, or through it and not yet out.
    Ingress,
    /// Out of it.
    Egress,
}

impl Direction {
    /// `ingress` or `egress`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// An EtherType, in hexadecimal with four digits, such as `0x88cc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// What it stands for, where it is usual on a link of hosts (IANA, IEEE 802 numbers).
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x8809 => "lacp",
            0x8847 | 0x8848 => "mpls",
            0x8863 | 0x8864 => "pppoe",
            0x888e => "eapol",
            0x88cc => "lldp",
            0x88e5 => "macsec",
            0x88f7 => "ptp",
            0x8906 => "fcoe",
            0..0x0600 => "802.3",
            _ => return None,
        })
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl Serialize for EtherType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EtherType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_prefix("0x").and_then(|digits| u16::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or_else(|| de::Error::custom(format!("'{text}' is no EtherType, such as 0x88cc")))
    }
}
