//! That every drop is told of, or counted as lost.

use serde::{Deserialize, Serialize};

use super::{Direction, Reason, Timestamp};

/// The account of drops since the kernel's counters began. The event log makes it out when it writes it: `told` is
/// what all records before this one tell of.
///
/// It is balanced if `dropped.before` ≤ `told` + `unwritten` + `lost` ≤ `dropped.after`: the first was read before
/// what it counts was waited for, the second after the record's place in the log was settled. While nothing is
/// dropped in between, the two are one number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Balance {
    /// Since when the counters count; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_since: Option<Timestamp>,
    /// Drops by the kernel's counters, all reasons together.
    pub dropped: Dropped,
    /// Drops that records in the event log tell of.
    pub told: u64,
    /// Drops that were told of, and that the event log has not got.
    pub unwritten: u64,
    /// Drops that are counted as lost, by cause.
    pub lost: LostDrops,
    /// All that was dropped until `before` had been waited for: if not, it does not balance, and the next one may.
    pub settled: bool,
    /// The kernel's counters by reason and direction, when `dropped.before` was read.
    pub reasons: Vec<Count>,
    /// What the guard has dropped, by reason, by its own counters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guard: Vec<Count>,
}

/// Drops by the kernel's counters, read twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Dropped {
    /// Before what they count was waited for.
    pub before: u64,
    /// After `told` was settled.
    pub after: u64,
}

/// Drops that nothing tells of, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LostDrops {
    /// The ring had no room.
    pub ring: u64,
    /// The budget of reports was used up, and the tables of summaries were full.
    pub budget: u64,
    /// They were in tables of another map ABI, which this agent could not read.
    pub unread: u64,
}

/// Packets under one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Count {
    /// `ingress` or `egress`; absent of the guard's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Why.
    pub reason: Reason,
    /// Packets.
    pub packets: u64,
}

impl Balance {
    /// Drops that are accounted for.
    #[must_use]
    pub const fn accounted(&self) -> u64 {
        self.told + self.unwritten + self.lost.ring + self.lost.budget + self.lost.unread
    }

    /// Whether every drop is accounted for, and no more.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        let Dropped { before, after } = self.dropped;
        self.settled && before <= self.accounted() && self.accounted() <= after
    }
}

#[cfg(test)]
mod tests {
    use super::{Balance, Dropped, LostDrops};

    #[test]
    fn it_balances_between_the_two_readings_and_nowhere_else() {
        let lost = LostDrops { ring: 1, budget: 2, unread: 4 };
        let balance = |before, after, settled| {
            let dropped = Dropped { before, after };
            Balance { dropped, told: 90, unwritten: 3, lost, settled, ..Balance::default() }.is_balanced()
        };
        assert!(balance(100, 100, true) && balance(95, 105, true));
        assert!(!balance(101, 105, true) && !balance(90, 99, true) && !balance(100, 100, false));
    }
}
