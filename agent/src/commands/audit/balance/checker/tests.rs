use bulkhead_api::event::{Account, Balance, Event, Kind, LostCause, LostEvents, Timestamp};

use super::{Checker, Found, Loss, Open, Why};

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

fn found(events: &[Event]) -> Found {
    let mut checker = Checker::default();
    (0..).zip(events).for_each(|(number, event)| checker.take(number, event));
    checker.end()
}

fn faults(events: &[Event]) -> Vec<String> {
    found(events).faults.into_iter().map(|fault| fault.what).collect()
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
    let found = found(&[balance([[10, 10, 0, 0], [0; 4]]), drops(5, "no_rule", false), anew]);
    assert_eq!((found.faults.len(), found.balances, found.intervals), (0, 2, 0));
    let time = Some(Timestamp::from_unix(9));
    // Its places are before all records: those after it are of no closed time either.
    let open = |from, until, told, why| Open { from, until, told, why };
    assert_eq!(found.open, [open(time, time, 0, Why::Anew), open(time, None, 5, Why::Last)]);
}

#[test]
fn losses_are_told_with_their_cause_and_the_balances_around_them() {
    let lost = |events, drops, cause| Event {
        time: Timestamp::from_unix(8),
        node: String::new(),
        kind: Kind::Lost(Box::new(LostEvents { events, drops, cause, detail: None })),
    };
    let mut second = balance([[10, 10, 0, 3], [0; 4]]);
    second.time = Timestamp::from_unix(11);
    let found = found(&[
        lost(None, None, LostCause::SetAside),
        balance([[10, 10, 0, 1], [0; 4]]),
        lost(Some(3), Some(7), LostCause::Refused),
        second,
        lost(Some(1), None, LostCause::Crash),
    ]);
    let [first, last] = [9, 11].map(|time| Some(Timestamp::from_unix(time)));
    let loss =
        |record, (events, drops), cause, from, until| Loss { record, events, drops, cause, from, until };
    assert_eq!(
        found.losses,
        [
            loss(0, (None, None), LostCause::SetAside, None, first),
            loss(2, (Some(3), Some(7)), LostCause::Refused, first, last),
            loss(4, (Some(1), None), LostCause::Crash, last, None),
        ]
    );
    assert_eq!((found.faults.len(), found.balances), (0, 2));
    let mut shown = Vec::new();
    Found { unsigned: 2, ..found }.show(&mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert_eq!(
        shown.lines().take(4).collect::<Vec<_>>(),
        [
            "the log has lost an unknown number of events, of an unknown number of drops: set_aside (record 0, before 1970-01-01T00:00:00.000Z)",
            "the log has lost 3 events, of 7 drops: refused (record 2, from 1970-01-01T00:00:00.000Z to 1970-01-01T00:00:00.000Z)",
            "the log has lost 1 events, of an unknown number of drops: crash (record 4, since 1970-01-01T00:00:00.000Z)",
            "2 records behind the last checkpoint are not signed yet, and not counted",
        ]
    );
}

#[test]
fn times_that_no_two_balances_enclose_are_told() {
    let drop = drops(3, "no_rule", false);
    let found = found(&[
        drop.clone(),
        balance([[3, 3, 0, 1], [0; 4]]),
        drop.clone(),
        balance([[6, 6, 0, 3], [0; 4]]),
        drop,
    ]);
    assert_eq!((found.faults.len(), found.intervals, found.told), (0, 1, 3));
    let time = Some(Timestamp::from_unix(9));
    let open = |from, until, why| Open { from, until, told: 3, why };
    assert_eq!(found.open, [open(None, time, Why::First), open(time, None, Why::Last)]);
}

#[test]
fn records_may_say_anything_and_no_sum_runs_over() {
    let most = u64::MAX;
    let all = drops(most, "no_rule", false);
    let found = found(&[
        balance([[0; 4]; 2]),
        all.clone(),
        all.clone(),
        balance([[most, most, most, 3], [most, most, most, 3]]),
        all,
        // Its places lie before those of the balance before.
        balance([[0, 0, 0, 4], [0, 0, 0, 0]]),
    ]);
    // By sums of 64 bits, told would have been two less than nothing.
    assert!(found.told >= 2 * u128::from(most), "{found:?}");
    assert!(found.faults.len() >= 3, "{found:?}");
    assert!(serde_json::to_string(&found).unwrap().contains("36893488147419103230"));
}

#[test]
fn an_entry_that_is_no_record_is_a_place_all_the_same() {
    let mut checker = Checker::default();
    checker.take(0, &balance([[0; 4]; 2]));
    checker.take(1, &drops(3, "no_rule", false));
    // Entry 2 is a new key of the log.
    checker.take(3, &balance([[3, 3, 0, 2], [0, 0, 0, 2]]));
    let found = checker.end();
    assert_eq!((found.faults.len(), found.intervals), (0, 1), "{found:?}");
}
