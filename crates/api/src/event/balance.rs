//! That every drop is told of, or counted as lost.

use serde::{Deserialize, Serialize};

use super::{Direction, Reason, Timestamp};

/// The account of drops since the kernel's counters began, to the packet.
///
/// The kernel keeps two accounts that take turns about every second, each with counters of its own. One whose turn is
/// over stands still: what it has counted can be compared with what is told of without a flood moving either. A
/// balance closes both, one after the other; together they are every drop that was reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Balance {
    /// Since when the counters count; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_since: Option<Timestamp>,
    /// The account of even turns.
    pub even: Account,
    /// The account of odd turns.
    pub odd: Account,
    /// Drops that are not in either, since nothing was to tell of them: the budget of reports was used up. They are
    /// counted by reason as well.
    pub unreported: u64,
    /// Drops of both accounts that were in tables of another map ABI, which this agent could not read.
    pub unread: u64,
    /// The kernel's counters of drops by reason and direction: of both accounts, and what is not in either.
    pub reasons: Vec<Count>,
    /// What the guard has dropped, by reason, by its own counters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guard: Vec<Count>,
}

/// One of the two accounts, when its turn was over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Account {
    /// Drops by the kernel's counters.
    pub dropped: u64,
    /// Drops that the records before `records` tell of.
    pub told: u64,
    /// Drops that were told of, and that the event log has not got.
    pub unwritten: u64,
    /// Drops that nothing tells of: the ring, or the table of summaries, was full.
    pub lost: u64,
    /// The log had so many records when `told` was settled.
    pub records: u64,
    /// All that it had counted had been told of by then: if not, it does not balance, and the next one may.
    pub settled: bool,
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
    /// Both accounts: that of even turns first.
    #[must_use]
    pub const fn accounts(&self) -> [&Account; 2] {
        [&self.even, &self.odd]
    }

    /// Drops that the kernel has counted in the accounts.
    #[must_use]
    pub fn dropped(&self) -> u128 {
        self.sum(|account| account.dropped)
    }

    /// Of these, those that are told of, not written, or lost.
    #[must_use]
    pub fn accounted(&self) -> u128 {
        let sums = [self.sum(|account| account.told), self.sum(|account| account.unwritten), self.lost()];
        sums.into_iter().sum()
    }

    /// Drops that nothing tells of, or that could not be read.
    #[must_use]
    pub fn lost(&self) -> u128 {
        self.sum(|account| account.lost) + u128::from(self.unread)
    }

    /// The sum of a number over both accounts, which none of them can exceed: a record may say anything.
    pub fn sum(&self, number: impl Fn(&Account) -> u64) -> u128 {
        self.accounts().into_iter().map(|account| u128::from(number(account))).sum()
    }

    /// Whether every drop is accounted for, and no more.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.accounts().iter().all(|account| account.settled) && self.dropped() == self.accounted()
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Balance};

    #[test]
    fn it_balances_to_the_packet() {
        let account =
            |dropped, settled| Account { dropped, told: 90, unwritten: 3, lost: 2, records: 7, settled };
        let balance = |even, odd, settled| {
            let (even, odd) = (account(even, true), account(odd, settled));
            Balance { even, odd, unread: 4, ..Balance::default() }.is_balanced()
        };
        assert!(balance(95, 99, true) && balance(99, 95, true));
        assert!(!balance(95, 98, true) && !balance(95, 100, true) && !balance(95, 99, false));
    }

    #[test]
    fn a_record_that_says_anything_does_not_balance_by_its_sums_running_over() {
        let most = u64::MAX;
        let all =
            Account { dropped: most, told: most, unwritten: most, lost: most, records: most, settled: true };
        let balance = Balance { even: all, odd: all, unread: most, unreported: most, ..Balance::default() };
        assert!(!balance.is_balanced());
        assert_eq!((balance.dropped(), balance.accounted()), (2 * u128::from(most), 7 * u128::from(most)));
        // Of 64 bits both sums would be nothing.
        let even = Account { dropped: 0, told: most, lost: 1, ..all };
        let none = Account { settled: true, ..Account::default() };
        assert!(
            !Balance { even: Account { unwritten: 0, ..even }, odd: none, ..Balance::default() }
                .is_balanced()
        );
    }
}
