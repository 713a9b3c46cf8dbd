//! Access that ends: what is granted, requests and answers.

use serde::{Deserialize, Serialize};

/// A grant that is handed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "GrantRequest"))]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The signed note (C2SP signed-note), whole.
    pub note: String,
}

/// What is to be revoked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// The grant's id: 32 hexadecimal digits.
    pub id: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "GrantAnswer"))]
pub struct Answer {
    /// Whether it was done; else `notes` says why not.
    pub done: bool,
    /// The grant.
    pub grant: Option<Entry>,
    /// What else the operator should know.
    pub notes: Vec<String>,
}

impl Answer {
    /// Nothing was done, and why.
    #[must_use]
    pub fn no(note: String) -> Self {
        Self { done: false, grant: None, notes: vec![note] }
    }
}

/// What has become of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "GrantStanding"))]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is in force.
    Running,
    /// Its time is over.
    Expired,
    /// Somebody has ended it.
    Revoked,
    /// The policy or the inventory does not allow it any more.
    Ended,
}

impl Standing {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Ended => "ended",
        }
    }
}

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "GrantEntry"))]
pub struct Entry {
    /// Its id: 32 hexadecimal digits.
    pub id: String,
    /// What has become of it.
    pub standing: Standing,
    /// Who begins: a selector.
    pub source: String,
    /// To whom: `SELECTOR:PORTS`.
    pub destination: String,
    /// The protocol, by name or number.
    pub protocol: String,
    /// Until when, RFC 3339.
    pub until: String,
    /// Where it was asked for.
    pub ticket: String,
    /// What for.
    pub reason: String,
    /// Who has asked.
    pub requester: String,
    /// Who has approved.
    pub approvers: Vec<String>,
    /// It is an emergency: one signature has sufficed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// Why it is over, if it is not because of its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Entry {
    /// What it opens, for people.
    #[must_use]
    pub fn what(&self) -> String {
        format!("{} to {}/{}", self.source, self.destination, self.protocol)
    }

    /// The same with who has asked, who has approved, and why.
    #[must_use]
    pub fn words(&self) -> String {
        let glass = if self.break_glass { ", break-glass" } else { "" };
        let (what, approvers) = (self.what(), self.approvers.join(", "));
        let Self { until, ticket, reason, requester, .. } = self;
        format!(
            "{what} until {until}; {ticket}: {reason}; requested by {requester}, approved by {approvers}{glass}"
        )
    }
}
