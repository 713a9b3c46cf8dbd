//! What a host says of itself.

use serde::{Deserialize, Serialize};

/// Bytes of the longest text in a report.
pub(crate) const MOST_TEXT: usize = 512;

/// The longest list in a report.
pub(crate) const MOST_LINES: usize = 32;

/// What is enforced, asked of the host's kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every packet meets the enforced generation first.
    Enforced,
    /// It would, but everything passes and drops are only reported.
    Audit,
    /// Some managed interface or the guard is not as it should be.
    Degraded,
    /// Hooks run different generations.
    Mixed,
    /// Nothing is attached.
    Detached,
    /// One that this version does not know, or none.
    #[default]
    #[serde(other)]
    Unknown,
}

impl State {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Audit => "audit",
            Self::Degraded => "degraded",
            Self::Mixed => "mixed",
            Self::Detached => "detached",
            Self::Unknown => "unknown",
        }
    }
}

/// A policy or an inventory that a host enforces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bundle {
    /// Its version in the fleet's repository; none: it is not from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// SHA-256 of the file, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Packets that a host has dropped for a reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// `ingress` or `egress`.
    pub direction: String,
    /// The reason's name.
    pub reason: String,
    /// Packets since the host began to count.
    pub packets: u64,
}

/// How the rules of a host's policy stand with those who answer for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Review {
    /// Rules of the policy.
    pub rules: u64,
    /// Rules without an owner.
    pub ownerless: u64,
    /// Rules whose review is overdue.
    pub overdue: u64,
    /// The next day, UTC, on which one is to be reviewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a host says of itself. Members that are not known are passed over, so that newer agents can say more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The agent's version.
    pub version: String,
    /// What is enforced.
    pub state: State,
    /// The enforced generation; 0: none.
    pub generation: u32,
    /// The enforced policy.
    pub policy: Bundle,
    /// The enforced inventory.
    pub inventory: Bundle,
    /// What is not as it should be.
    pub gaps: Vec<String>,
    /// Seconds without enforcement since the agent started, of the interface that has most.
    pub unenforced_seconds: u64,
    /// Why the newest bundle was not taken, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The version of the policy that the host went back from, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<u64>,
    /// When it last verified the fleet's metadata, ns since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<u64>,
    /// Drops by reason, most first.
    pub denied: Vec<Denied>,
    /// Who answers for the rules, if the policy says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// Alarms that are on.
    pub alarms: u64,
}

impl Report {
    /// The same within what a collector takes: texts and lists cut short.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.gaps.truncate(MOST_LINES);
        self.denied.truncate(MOST_LINES);
        self.texts().into_iter().for_each(cut);
        self
    }

    /// Whether it is within that.
    pub(crate) fn fits(&mut self) -> bool {
        self.gaps.len() <= MOST_LINES
            && self.denied.len() <= MOST_LINES
            && self.texts().iter().all(|text| text.len() <= MOST_TEXT)
    }

    fn texts(&mut self) -> Vec<&mut String> {
        let mut all = vec![&mut self.version];
        all.extend(&mut self.policy.sha256);
        all.extend(&mut self.inventory.sha256);
        all.extend(&mut self.refusal);
        all.extend(&mut self.gaps);
        all.extend(self.review.iter_mut().filter_map(|review| review.next.as_mut()));
        for denied in &mut self.denied {
            all.extend([&mut denied.direction, &mut denied.reason]);
        }
        all
    }

    /// Packets dropped, of all reasons.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.denied.iter().map(|denied| denied.packets).fold(0, u64::saturating_add)
    }
}

/// Cuts a text to what fits.
pub(crate) fn cut(text: &mut String) {
    if text.len() > MOST_TEXT {
        let end = (0..=MOST_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
}
