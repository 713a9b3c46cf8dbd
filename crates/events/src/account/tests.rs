//! The account over kills, refusals and older agents.

use std::io;

use super::{Account, FILE, LENGTH, Noted, STEPS, Step, Written};
use crate::sink::{Entry, Origin};
use bulkhead_api::event::{Counted, Event, EventStats};

/// Three drops of the account of odd turns.
fn drops(origin: Origin) -> Step {
    let line = br#"{"time":"2026-11-28T08:53:14Z","kind":"drop","direction":"ingress","reason":"no_rule",
        "count":3,"bytes":60,"generation":1,"audit":false,"odd":true}"#;
    Step::of(&Entry { event: Event::read(line).unwrap(), counted: Counted::Events, origin })
}

fn ring(item: &[u8]) -> Step {
    drops(Origin::Ring(item.to_vec()))
}

fn summary(item: &[u8]) -> Step {
    drops(Origin::Summary(item.to_vec()))
}

fn agent() -> Step {
    drops(Origin::Agent)
}

/// Notes what the log takes, which had so many before it.
fn note(account: &mut Account, steps: &[Step], before: u64) {
    account.note(steps, before, || (steps.len(), Ok(()))).1.unwrap();
}

#[test]
fn every_step_that_an_agent_is_killed_after_is_known() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join(FILE);
    let mut account = Account::open(state.path(), Some(1));
    note(&mut account, &[ring(b"one")], 1);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), LENGTH as u64);
    // Killed before the first of these was written, and after each; what the agent itself tells of moves no place
    // in the kernel.
    let steps = [agent(), ring(b"two"), summary(b"sum"), ring(b"three"), agent()];
    let mut seen = String::new();
    let write = || {
        seen = std::fs::read_to_string(&file).unwrap();
        (steps.len(), Ok(()))
    };
    account.note(&steps, 2, write).1.unwrap();
    for (records, taken, event, has_summary) in [
        (Some(2), 1, b"one".as_slice(), false),
        (Some(3), 2, b"one", false),
        (Some(4), 3, b"two", false),
        (Some(5), 4, b"two", true),
        (Some(6), 5, b"three", true),
        (Some(7), 6, b"three", true),
        (Some(99), 6, b"three", true),
        // Of a machine that lost its power, and of a log that was set aside.
        (Some(1), 6, b"three", true),
        (None, 1, b"one", false),
    ] {
        std::fs::write(&file, &seen).unwrap();
        let account = Account::open(state.path(), records);
        let left = account.left();
        for item in [b"one".as_slice(), b"two", b"three"] {
            assert_eq!(left.is_last_event(item), item == event, "{records:?}");
        }
        assert_eq!(left.is_last_summary(b"sum"), has_summary, "{records:?}");
        let stats = account.stats();
        assert_eq!((stats.events, stats.written, stats.unwritten), (3 * taken, taken, 0), "{records:?}");
        assert_eq!(account.records(), 1 + taken, "{records:?}");
    }
    std::fs::write(&file, "{\"events\"").unwrap();
    assert_eq!(Account::open(state.path(), Some(4)).stats().events, 0);
}

#[test]
fn what_agents_before_there_were_steps_were_about_to_tell_of_is_known() {
    let state = tempfile::tempdir().unwrap();
    let noted = |records, last: &[u8], events| {
        let stats = EventStats { events, ..EventStats::default() };
        Noted { stats, records, last: super::digest(last), summary: None }
    };
    let text = serde_json::json!({ "now": noted(3, b"one", 3), "next": noted(4, b"two", 6) }).to_string();
    for (records, last, events) in [(3, b"one", 3), (4, b"two", 6), (9, b"two", 6), (2, b"two", 6)] {
        std::fs::write(state.path().join(FILE), &text).unwrap();
        let account = Account::open(state.path(), Some(records));
        assert_eq!((account.left().is_last_event(last), account.stats().events), (true, events));
    }
}

#[test]
fn what_the_log_refuses_is_told_of_all_the_same() {
    let state = tempfile::tempdir().unwrap();
    let mut account = Account::open(state.path(), Some(0));
    let full = || (1, Err(io::Error::from_raw_os_error(28)));
    assert!(account.note(&[ring(b"one"), ring(b"two")], 0, full).1.is_err());
    let account = Account::open(state.path(), Some(0));
    let stats = account.stats();
    assert_eq!((stats.events, stats.unwritten, stats.unwritten_drops, stats.written), (6, 1, 3, 1));
    assert_eq!(
        (account.left().is_last_event(b"two"), account.records(), stats.told(true)),
        (true, 1, (3, 3))
    );
    assert_eq!(stats.told(false), (0, 0));
}

#[test]
fn an_account_of_the_first_agents_is_read() {
    let state = tempfile::tempdir().unwrap();
    let one = super::digest(b"one");
    let text = format!(
        "{{\"events\":5,\"aggregated\":2,\"written\":6,\"unwritten\":0,\"unwritten_drops\":0,\"journal\":900,\
         \"last\":\"{one}\"}}      "
    );
    std::fs::write(state.path().join(FILE), text).unwrap();
    let account = Account::open(state.path(), Some(0));
    assert_eq!((account.stats().events, account.records()), (5, 0));
    assert!(account.left().is_last_event(b"one") && account.left().is_last_summary(b"one"));
}

#[test]
fn events_and_summaries_each_have_a_last_one() {
    let state = tempfile::tempdir().unwrap();
    let mut account = Account::open(state.path(), Some(0));
    note(&mut account, &[ring(b"one")], 0);
    note(&mut account, &[summary(b"sum")], 1);
    let left = Account::open(state.path(), Some(2)).left().clone();
    assert!(left.is_last_event(b"one") && left.is_last_summary(b"sum") && !left.is_last_summary(b"one"));
}

#[test]
fn the_largest_account_has_room() {
    let most = u64::MAX;
    let stats = EventStats {
        events: most,
        aggregated: most,
        written: most,
        unwritten: most,
        unwritten_drops: most,
        unwritten_guard: most,
        odd: most,
        unwritten_odd: most,
        overflowed: most,
        guard_logged: most,
        guard_counted: most,
        missed_by_watchers: most,
    };
    let digest = super::digest(b"");
    let noted = Noted { stats, records: most, last: digest.clone(), summary: Some(digest) };
    let steps = vec![Step::longest(); STEPS];
    let written = Written { now: &noted, before: most, steps: &steps };
    let length = serde_json::to_vec(&written).unwrap().len();
    assert!(length <= LENGTH, "{length}");
}
