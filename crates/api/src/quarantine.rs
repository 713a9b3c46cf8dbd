//! Quarantine: who is cut off, requests and answers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What `quarantine` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "QuarantineRequest"))]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// A node, its key or an address.
    pub subject: String,
    /// Seconds; none: until released.
    pub seconds: Option<u64>,
    /// Why.
    pub reason: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "QuarantineAnswer"))]
pub struct Answer {
    /// Whether it was done; else `notes` says why not.
    pub done: bool,
    /// The entries that are new or gone.
    pub entries: Vec<Entry>,
    /// What else the operator should know.
    pub notes: Vec<String>,
}

impl Answer {
    /// Nothing was done, and why.
    #[must_use]
    pub fn no(note: String) -> Self {
        Self { done: false, entries: Vec::new(), notes: vec![note] }
    }
}

/// One identity that is cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "QuarantineEntry"))]
pub struct Entry {
    /// What was asked for: a node's name, a key or an address.
    pub subject: String,
    /// The node meant, by name.
    pub node: Option<String>,
    /// The node meant, by its WireGuard public key.
    pub key: Option<String>,
    /// Its addresses when it was last known.
    pub addresses: Vec<IpAddr>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Since when, ns since the Unix epoch.
    pub since: u64,
    /// Until when, ns since the Unix epoch; none: until it is released.
    pub until: Option<u64>,
    /// The agent did it by itself, since `[alarms.quarantine]` asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    /// The fleet has ordered it, by this note: it ends with its time, or with another note that lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetOrder>,
}

/// The note by which people have an identity cut off on every host of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "QuarantineOrder"))]
pub struct FleetOrder {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// Where it was asked for.
    pub ticket: String,
    /// Who has signed it.
    pub signers: Vec<String>,
}

impl Entry {
    /// Whether both are one quarantine of the same identity: by key, else by node, else by addresses. One of the fleet
    /// and one of this host are two.
    #[must_use]
    pub fn is_about_same(&self, other: &Self) -> bool {
        let id = |entry: &Self| entry.fleet.as_ref().map(|order| order.id.clone());
        if id(self).is_some() || id(other).is_some() {
            return id(self) == id(other);
        }
        match (&self.key, &other.key) {
            (Some(one), Some(other)) => one == other,
            _ => match (&self.node, &other.node) {
                (Some(one), Some(other)) => one == other,
                (None, None) => self.addresses == other.addresses,
                _ => false,
            },
        }
    }

    /// The identity, for people.
    #[must_use]
    pub fn title(&self) -> String {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        match &self.node {
            Some(node) => format!("{node} ({})", addresses.join(", ")),
            None => addresses.join(", "),
        }
    }
}
