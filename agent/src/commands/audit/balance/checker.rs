//! Checks balances against the records between them.

use std::collections::BTreeMap;

use bulkhead_api::event::{Account, Balance, Event, Kind, LostCause, Timestamp};
use serde::Serialize;

/// What was found. Sums are wider than what they are made of: a record may say anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Found {
    pub balances: u64,
    /// Closed intervals between two of them.
    pub intervals: u64,
    /// The first balance's time, and the last's.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Drops by the kernel's counters over these intervals, and what became of them.
    pub dropped: u128,
    pub told: u128,
    pub unwritten: u128,
    pub lost: u128,
    /// Drops beside them that nothing was to tell of, since the budget of reports was used up.
    pub unreported: u128,
    /// What does not balance.
    pub faults: Vec<Fault>,
    /// What the log says that it has lost.
    pub losses: Vec<Loss>,
    /// Times that no two balances enclose.
    pub open: Vec<Open>,
    /// Records behind the last checkpoint: not signed yet, and not counted.
    pub unsigned: u64,
}

/// What does not balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    /// The record's number.
    pub record: u64,
    pub time: Timestamp,
    pub what: String,
}

/// What the log says that it has lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Loss {
    /// The record that says so.
    pub record: u64,
    /// How many events, and the drops that they told of, as far as it is known.
    pub events: Option<u64>,
    pub drops: Option<u64>,
    pub cause: LostCause,
    /// The balances before and after it.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// A time that no two balances enclose: nothing is shown of what was dropped then beyond what records tell of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Open {
    /// The balances before and after it.
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Drops of that time that records tell of.
    pub told: u128,
    pub why: Why,
}

/// Why a time is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// It lies before the first balance.
    First,
    /// The kernel's counters began anew.
    Anew,
    /// The last balance is before it.
    Last,
}

impl Why {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::First => "the first balance comes after it",
            Self::Anew => "the kernel's counters began anew",
            Self::Last => "no balance follows yet",
        }
    }
}

/// What records tell of, by account: of even turns and of odd ones.
type Told = [u128; 2];

/// Checks records in their order.
#[derive(Debug, Default)]
pub(super) struct Checker {
    found: Found,
    /// The last balance, when it was, and what records before its places told of.
    last: Option<(Balance, Timestamp, Told)>,
    /// Drops of both accounts that records tell of, all together.
    told: Told,
    /// The same before records of late, by their numbers: a balance names some place among them.
    before: BTreeMap<u64, Told>,
    /// The number behind the last record's.
    next: Option<u64>,
    /// From which loss on there was no balance yet.
    unclosed: usize,
}

/// How far behind a balance the place is that it names, at most: what a flood writes meanwhile.
const BEHIND: usize = 1 << 20;

impl Checker {
    pub(super) fn take(&mut self, record: u64, event: &Event) {
        // Entries in between are no records, and tell of nothing.
        for number in self.next.unwrap_or(record)..=record {
            self.before.insert(number, self.told);
            if self.before.len() > BEHIND {
                self.before.pop_first();
            }
        }
        self.next = Some(record + 1);
        match &event.kind {
            Kind::Drop(drop) if !drop.reason.is_guards() => {
                self.told[usize::from(drop.odd)] += u128::from(drop.count);
            }
            Kind::Balance(balance) => {
                self.close(record, event.time, balance);
                for loss in &mut self.found.losses[self.unclosed..] {
                    loss.until = Some(event.time);
                }
                self.unclosed = self.found.losses.len();
                // The next one names a place behind this one's.
                let first = balance.accounts().map(|account| account.records).into_iter().min();
                self.before = self.before.split_off(&first.unwrap_or(record));
            }
            Kind::Lost(lost) => {
                let (events, drops, cause, from) = (lost.events, lost.drops, lost.cause, self.found.until);
                self.found.losses.push(Loss { record, events, drops, cause, from, until: None });
            }
            _ => {}
        }
    }

    /// All that was found.
    pub(super) fn end(mut self) -> Found {
        if let Some((_, time, told)) = self.last {
            self.open(Some(time), None, sum(self.told) - sum(told), Why::Last);
        }
        self.found
    }

    fn close(&mut self, record: u64, time: Timestamp, balance: &Balance) {
        let mut faults = Vec::new();
        if !balance.is_balanced() {
            let settled = balance.accounts().iter().all(|account| account.settled);
            let (dropped, accounted) = (balance.dropped(), balance.accounted());
            faults.push(if settled {
                format!("the kernel has counted {dropped} drops, and {accounted} are accounted for")
            } else {
                "what was dropped could not be waited for".to_owned()
            });
        }
        // What the records before its places tell of, by each account.
        let told =
            |is_odd: usize, account: &Account| self.before.get(&account.records).map(|told| told[is_odd]);
        let told = [told(0, &balance.even), told(1, &balance.odd)];
        let [Some(even), Some(odd)] = told else {
            if self.last.is_none() && balance.accounts().iter().all(|account| account.records <= record) {
                // The place that it names may have been pruned; the next one is compared with its own.
                return self.fault(record, time, faults);
            }
            faults.push("it names a place in the log that is not before it".to_owned());
            return self.fault(record, time, faults);
        };
        let told = [even, odd];
        match self.last.replace((balance.clone(), time, told)) {
            None => self.open(None, Some(time), sum(told), Why::First),
            // Counters that began anew are another account.
            Some((last, from, before)) if last.counted_since != balance.counted_since => {
                // A place that lies before the last one's tells of nothing.
                self.open(Some(from), Some(time), sum(told).saturating_sub(sum(before)), Why::Anew);
            }
            Some((last, _, before)) => faults.extend(self.interval(&last, before, balance, told)),
        }
        self.found.balances += 1;
        self.found.from.get_or_insert(time);
        self.found.until = Some(time);
        self.fault(record, time, faults);
    }

    /// Compares two balances with what records between their places tell of.
    fn interval(&mut self, last: &Balance, before: Told, balance: &Balance, told: Told) -> Vec<String> {
        let mut faults = Vec::new();
        let mut all = 0;
        for (place, (last, now)) in last.accounts().into_iter().zip(balance.accounts()).enumerate() {
            let turns = ["even", "odd"][place];
            let Some(found) = told[place].checked_sub(before[place]) else {
                faults.push(format!("its place for {turns} turns lies before that of the balance before"));
                continue;
            };
            all += found;
            if u128::from(last.told) + found != u128::from(now.told) {
                faults.push(format!(
                    "its records tell of {found} drops of {turns} turns since the balance before, and it has {}",
                    i128::from(now.told) - i128::from(last.told)
                ));
            }
        }
        let more = |number: fn(&Account) -> u64| balance.sum(number).saturating_sub(last.sum(number));
        self.found.intervals += 1;
        self.found.dropped += more(|account| account.dropped);
        self.found.told += all;
        self.found.unwritten += more(|account| account.unwritten);
        self.found.lost += balance.lost().saturating_sub(last.lost());
        self.found.unreported += u128::from(balance.unreported.saturating_sub(last.unreported));
        faults
    }

    /// Notes a time that is not closed, if records tell of anything in it or nobody knows what was in it.
    fn open(&mut self, from: Option<Timestamp>, until: Option<Timestamp>, told: u128, why: Why) {
        if told != 0 || why == Why::Anew {
            self.found.open.push(Open { from, until, told, why });
        }
    }

    fn fault(&mut self, record: u64, time: Timestamp, faults: Vec<String>) {
        self.found.faults.extend(faults.into_iter().map(|what| Fault { record, time, what }));
    }
}

/// Of both accounts.
fn sum(told: Told) -> u128 {
    told[0] + told[1]
}

#[cfg(test)]
mod tests;
