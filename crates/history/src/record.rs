//! What is recorded.

use std::collections::HashMap;
use std::net::IpAddr;

/// What became of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// A rule admitted a conversation; counted in looks at the table of flows in which it was there.
    Allowed = 0,
    /// No rule admitted a conversation, and audit mode let it pass; counted in looks.
    Audited = 1,
    /// Dropped; counted in packets.
    Dropped = 2,
    /// Would have been dropped, but for audit mode; counted in packets.
    WouldDrop = 3,
    /// Passed, and the staged policy would have dropped it; counted in packets.
    StagedDrops = 4,
    /// Dropped, and the staged policy would have let it pass; counted in packets.
    StagedPasses = 5,
}

impl Verdict {
    /// All, by their numbers in the file.
    pub const ALL: [Self; 6] =
        [Self::Allowed, Self::Audited, Self::Dropped, Self::WouldDrop, Self::StagedDrops, Self::StagedPasses];

    /// Whether it is use of the rule that is named: it admitted or denied. What a staged policy would do is none.
    #[must_use]
    pub const fn is_use(self) -> bool {
        matches!(self, Self::Allowed | Self::Dropped | Self::WouldDrop)
    }

    /// The verdict of a number in the file.
    pub(crate) fn of(number: i64) -> Option<Self> {
        usize::try_from(number).ok().and_then(|number| Self::ALL.get(number).copied())
    }
}

/// One end of a conversation. Neither name nor address: not known which, or too many to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// The node that has the address, by the inventory of then; none: nobody has.
    pub name: Option<String>,
    /// The address.
    pub address: Option<IpAddr>,
}

impl End {
    /// Not known which.
    pub const UNKNOWN: Self = Self { name: None, address: None };
}

/// Who did what to whom, by which rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Use {
    /// The fingerprint of the rule that decided; none: no rule did, or it is not known any more.
    pub rule: Option<String>,
    /// Who began.
    pub source: End,
    /// With whom.
    pub destination: End,
    /// The destination's port, host byte order; 0 for protocols without ports.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// What became of it.
    pub verdict: Verdict,
}

/// How often something was seen, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Looks or packets, by the [`Verdict`].
    pub count: u64,
    /// When last, s since the Unix epoch: the row is of that day.
    pub last: u64,
}

/// A rule that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleNote {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its number in the policy.
    pub number: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// File, line and column.
    pub position: Option<String>,
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub struct Batch {
    /// What was seen.
    pub uses: HashMap<Use, Seen>,
    /// All rules that are in force, if they may be others than at the last batch.
    pub rules: Option<Vec<RuleNote>>,
    /// Packets that rules have admitted or denied in all, by fingerprint.
    pub counters: Vec<(String, u64)>,
    /// Looks at the table of flows.
    pub looks: u64,
}

impl Batch {
    /// Adds what was seen.
    pub fn add(&mut self, of: Use, count: u64, time: u64) {
        let seen = self.uses.entry(of).or_default();
        seen.count = seen.count.saturating_add(count);
        seen.last = seen.last.max(time);
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty() && self.rules.is_none() && self.counters.is_empty() && self.looks == 0
    }
}
