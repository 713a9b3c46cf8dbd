//! `bulkhead audit balance`: whether every drop is told of, or counted as lost.

use std::collections::BTreeMap;

use bulkhead_api::event::{Account, Balance, Event, Kind, Timestamp};
use serde::Serialize;

use super::source::{Records, Source};
use crate::exit::Answer;
use crate::global::Global;

/// Check that the log tells of every drop that the kernel counted.
///
/// To the packet: between any two balances in the log, the records in between tell of as many drops as the second has
/// more than the first, and each covers what the kernel's counters say. Ends with 1 if not.
#[derive(Debug, clap::Args)]
pub struct AuditBalance {
    #[command(flatten)]
    source: Source,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Found {
    balances: u64,
    /// Closed intervals between two of them.
    intervals: u64,
    /// The first balance's time, and the last's.
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Drops by the kernel's counters over these intervals, and what became of them.
    dropped: u64,
    told: u64,
    unwritten: u64,
    lost: u64,
    /// Drops beside them that nothing was to tell of, since the budget of reports was used up.
    unreported: u64,
    /// What does not balance.
    faults: Vec<Fault>,
}

/// What does not balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Fault {
    /// The record's number.
    record: u64,
    time: Timestamp,
    what: String,
}

/// Checks records in their order.
#[derive(Debug, Default)]
struct Checker {
    found: Found,
    /// The last balance, and what records before its places told of.
    last: Option<(Balance, [u64; 2])>,
    /// Drops of both accounts that records tell of, all together.
    told: [u64; 2],
    /// The same before records of late, by their numbers: a balance names some place among them.
    before: BTreeMap<u64, [u64; 2]>,
}

/// How far behind a balance the place is that it names, at most: what a flood writes meanwhile.
const BEHIND: usize = 1 << 20;

impl AuditBalance {
    pub fn run(&self, global: &Global) -> anyhow::Result<Answer> {
        let mut checker = Checker::default();
        for record in Records::open(&self.source, global)? {
            let (number, record) = record?;
            checker.take(number, &record.event);
        }
        let found = checker.found;
        if global.json {
            println!("{}", serde_json::to_string(&found)?);
        } else {
            found.show();
        }
        Ok(if found.faults.is_empty() && found.balances != 0 { Answer::Yes } else { Answer::No })
    }
}

impl Checker {
    fn take(&mut self, record: u64, event: &Event) {
        self.before.insert(record, self.told);
        if self.before.len() > BEHIND {
            self.before.pop_first();
        }
        match &event.kind {
            Kind::Drop(drop) if !drop.reason.is_guards() => self.told[usize::from(drop.odd)] += drop.count,
            Kind::Balance(balance) => {
                self.close(record, event.time, balance);
                // The next one names a place behind this one's.
                let first = balance.accounts().map(|account| account.records).into_iter().min();
                self.before = self.before.split_off(&first.unwrap_or(record));
            }
            _ => {}
        }
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
        // Counters that began anew are another account.
        let last = self.last.replace((balance.clone(), told));
        if let Some((last, told_before)) =
            last.filter(|(last, _)| last.counted_since == balance.counted_since)
        {
            for (place, (before, after)) in last.accounts().into_iter().zip(balance.accounts()).enumerate() {
                let found = told[place] - told_before[place];
                if before.told.checked_add(found) != Some(after.told) {
                    faults.push(format!(
                        "its records tell of {found} drops of {} turns since the balance before, and it has {}",
                        ["even", "odd"][place],
                        i128::from(after.told) - i128::from(before.told)
                    ));
                }
            }
            let more = |number: fn(&Account) -> u64| balance.sum(number).saturating_sub(last.sum(number));
            self.found.intervals += 1;
            self.found.dropped += more(|account| account.dropped);
            self.found.told += told.iter().sum::<u64>() - told_before.iter().sum::<u64>();
            self.found.unwritten += more(|account| account.unwritten);
            self.found.lost += more(|account| account.lost) + balance.unread.saturating_sub(last.unread);
            self.found.unreported += balance.unreported.saturating_sub(last.unreported);
        }
        self.found.balances += 1;
        self.found.from.get_or_insert(time);
        self.found.until = Some(time);
        self.fault(record, time, faults);
    }

    fn fault(&mut self, record: u64, time: Timestamp, faults: Vec<String>) {
        self.found.faults.extend(faults.into_iter().map(|what| Fault { record, time, what }));
    }
}

impl Found {
    fn show(&self) {
        for Fault { record, time, what } in &self.faults {
            println!("record {record}, {}: {what}", time.milliseconds());
        }
        let (Some(from), Some(until)) = (self.from, self.until) else {
            println!("no balance in the log: the agent writes one every `[events] attest_seconds`");
            return;
        };
        let Self { balances, intervals, dropped, told, unwritten, lost, unreported, .. } = self;
        let (from, until) = (from.milliseconds(), until.milliseconds());
        println!("{balances} balances, {intervals} closed intervals, {from} to {until}");
        println!("{dropped} dropped = {told} told + {unwritten} not written + {lost} lost");
        if *unreported != 0 {
            println!("{unreported} more dropped and counted by reason, over the budget of reports");
        }
        match self.faults.len() {
            0 => println!("balanced"),
            faults => println!("NOT balanced: {faults} faults"),
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_api::event::{Account, Balance, Event, Kind, Timestamp};

    use super::Checker;

    fn drops(count: u64, reason: &str, odd: bool) -> Event {
        let line = format!(
            r#"{{"time":"2026-11-28T08:53:14Z","kind":"drop","direction":"ingress","reason":"{reason}",
            "count":{count},"bytes":60,"generation":1,"audit":false,"odd":{odd}}}"#
        );
        Event::read(line.as_bytes()).unwrap()
    }

    /// A balance of accounts by dropped, told, lost and records.
    fn balance([even, odd]: [[u64; 4]; 2]) -> Event {
        let account = |[dropped, told, lost, records]: [u64; 4]| Account {
            dropped,
            told,
            unwritten: 0,
            lost,
            records,
            settled: true,
        };
        let (even, odd, since) = (account(even), account(odd), Timestamp::from_unix(7));
        let balance = Balance { counted_since: Some(since), even, odd, ..Balance::default() };
        Event { time: Timestamp::from_unix(9), node: String::new(), kind: Kind::Balance(Box::new(balance)) }
    }

    fn faults(events: &[Event]) -> Vec<String> {
        let mut checker = Checker::default();
        (0..).zip(events).for_each(|(number, event)| checker.take(number, event));
        checker.found.faults.into_iter().map(|fault| fault.what).collect()
    }

    #[test]
    fn every_drop_between_two_balances_is_in_a_record_or_lost() {
        let first = balance([[10, 10, 0, 0], [5, 5, 0, 0]]);
        let (even, odd) = (drops(3, "no_rule", false), drops(4, "no_rule", true));
        let guard = drops(1, "guard_own_source", false);
        // What comes behind an account's place is the next balance's.
        let good = [
            first.clone(),
            even.clone(),
            guard,
            odd.clone(),
            even.clone(),
            balance([[15, 13, 2, 4], [9, 9, 0, 5]]),
        ];
        assert_eq!(faults(&good), [""; 0]);
        // A record is missing, or there twice; a loss is not counted; a drop was not told of.
        let wrong = |events: &[&Event], last: Event| {
            let all: Vec<Event> =
                [&first].into_iter().chain(events.iter().copied()).cloned().chain([last]).collect();
            faults(&all).len()
        };
        assert_eq!(wrong(&[&even], balance([[13, 13, 0, 2], [5, 5, 0, 2]])), 0);
        assert_eq!(wrong(&[], balance([[13, 13, 0, 1], [5, 5, 0, 1]])), 1);
        assert_eq!(wrong(&[&even, &even], balance([[13, 13, 0, 3], [5, 5, 0, 3]])), 1);
        assert_eq!(wrong(&[&odd], balance([[14, 14, 0, 2], [5, 5, 0, 2]])), 2, "of another account");
        assert_eq!(wrong(&[&even], balance([[15, 13, 1, 2], [5, 5, 0, 2]])), 1);
        assert_eq!(wrong(&[&even], balance([[14, 13, 0, 2], [5, 5, 0, 2]])), 1);
        assert_eq!(wrong(&[&even], balance([[13, 13, 0, 9], [5, 5, 0, 2]])), 1, "a place that is not there");
    }

    #[test]
    fn counters_that_begin_anew_are_another_account() {
        let mut anew = balance([[0; 4]; 2]);
        let Kind::Balance(account) = &mut anew.kind else { unreachable!() };
        account.counted_since = Some(Timestamp::from_unix(8));
        let mut checker = Checker::default();
        let events = [balance([[10, 10, 0, 0], [0; 4]]), drops(5, "no_rule", false), anew];
        (0..).zip(&events).for_each(|(number, event)| checker.take(number, event));
        assert_eq!((checker.found.faults.len(), checker.found.balances, checker.found.intervals), (0, 2, 0));
    }
}
