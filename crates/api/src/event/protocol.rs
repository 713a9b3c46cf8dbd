//! IP protocols by name.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An IP protocol: its name as in policies (`tcp`, `ipv6-icmp`, `gre`), else its number as text (`"41"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Whether policies know ports of it: TCP, UDP and SCTP.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self.0, 6 | 17 | 132)
    }

    /// The protocol of a name or a number.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        bulkhead_abi::protocol_number(text).or_else(|| text.parse().ok()).map(Self)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match bulkhead_abi::protocol_name(self.0) {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::of(&text).ok_or_else(|| de::Error::custom(format!("'{text}' is no protocol")))
    }
}
