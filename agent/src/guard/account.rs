//! What the guard has dropped, and how much of it has been told: what is told later is the difference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::state::Count;

/// Packets and bytes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Packets.
    pub packets: u64,
    /// Bytes of their IP headers and what follows.
    pub bytes: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }

    fn less(self, other: Self) -> Self {
        let Self { packets, bytes } = self;
        Self { packets: packets.saturating_sub(other.packets), bytes: bytes.saturating_sub(other.bytes) }
    }
}

/// One kind's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    /// The counter that was last seen.
    counter: (u64, u64),
    /// What it said.
    seen: Amount,
    /// What counters before it said.
    earlier: Amount,
    /// What reports have told of.
    told: Amount,
}

/// All kinds', over every table that the instance has had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The boot that the counters are of: the next one's may have the same handles.
    boot: String,
    kinds: BTreeMap<Kind, Line>,
}

impl Account {
    /// The same in this boot.
    #[must_use]
    pub fn in_boot(mut self, boot: &str) -> Self {
        if self.boot != boot {
            boot.clone_into(&mut self.boot);
            self.kinds.values_mut().for_each(|line| line.counter = (0, 0));
        }
        self
    }

    /// Takes in what the counters say now.
    pub fn see(&mut self, counts: &BTreeMap<Kind, Count>) {
        for (kind, count) in counts {
            let line = self.kinds.entry(*kind).or_default();
            let now = Amount { packets: count.packets, bytes: count.bytes };
            if line.counter != count.counter || now.packets < line.seen.packets {
                // Another counter, or the same set back by somebody.
                line.earlier = line.earlier.plus(line.seen);
                line.counter = count.counter;
            }
            line.seen = now;
        }
    }

    /// Notes that a report tells of so much.
    pub fn tell(&mut self, kind: Kind, amount: Amount) {
        let line = self.kinds.entry(kind).or_default();
        line.told = line.told.plus(amount);
    }

    /// What no report has told of yet, by kind.
    #[must_use]
    pub fn untold(&self) -> Vec<(Kind, Amount)> {
        let untold = self.kinds.iter().map(|(kind, line)| (*kind, line.total().less(line.told)));
        untold.filter(|(_, amount)| amount.packets != 0).collect()
    }

    /// What was dropped, by kind.
    #[must_use]
    pub fn totals(&self) -> Vec<(Kind, Amount)> {
        let totals = self.kinds.iter().map(|(kind, line)| (*kind, line.total()));
        totals.filter(|(_, amount)| amount.packets != 0).collect()
    }
}

impl Line {
    fn total(&self) -> Amount {
        self.earlier.plus(self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, Amount, Count, Kind};

    fn amount(packets: u64) -> Amount {
        Amount { packets, bytes: packets * 100 }
    }

    #[test]
    fn counters_are_reports_and_summaries_whatever_becomes_of_the_table() {
        let kind = Kind::OwnSource;
        let mut account = Account::default().in_boot("a");
        let see = |account: &mut Account, counter, packets| {
            account.see(&[(kind, Count { counter, packets, bytes: packets * 100 })].into());
        };
        see(&mut account, (1, 5), 10);
        account.tell(kind, amount(4));
        assert_eq!(account.untold(), [(kind, amount(6))]);
        account.tell(kind, amount(6));
        assert_eq!(account.untold(), []);
        // A report that comes before its drop is counted is no loss and no gain.
        account.tell(kind, amount(1));
        assert_eq!(account.untold(), []);
        see(&mut account, (1, 5), 12);
        assert_eq!(account.untold(), [(kind, amount(1))]);
        // Another table, whose counter is at the same number by chance; then one that was set back.
        see(&mut account, (2, 5), 12);
        assert_eq!(account.totals(), [(kind, amount(24))]);
        see(&mut account, (2, 5), 3);
        assert_eq!(account.totals(), [(kind, amount(27))]);
        see(&mut account, (2, 5), 5);
        assert_eq!(account.totals(), [(kind, amount(29))]);
        // After a reboot handles begin anew.
        let mut account = account.in_boot("b");
        see(&mut account, (2, 5), 7);
        assert_eq!(account.totals(), [(kind, amount(36))]);
        let text = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<Account>(&text).unwrap(), account);
    }
}
