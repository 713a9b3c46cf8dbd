use bulkhead_api::event::{Coverage, Covered, CoveredHook, Event, Kind, Timestamp};
use bulkhead_api::hook::Hook;
use bulkhead_api::text::is_plain;

use super::{Follower, Found, Mode};

fn covered(program: u32) -> Covered {
    let hook = CoveredHook { interface: "wg0".to_owned(), hook: Hook::TcxIngress, program, tag: None };
    Covered { generation: 1, hooks: vec![hook], ..Covered::default() }
}

fn interval(since: u64, until: u64, programs: [u32; 2], whole: bool) -> Event {
    let [at_start, at_end] = programs.map(covered);
    let coverage = Coverage {
        since: Timestamp::from_unix(since),
        whole,
        at_end: (at_start != at_end).then_some(at_end),
        at_start,
        unenforced: if whole { [].into() } else { [("wg0".to_owned(), 5)].into() },
        looks: 1,
        longest_look: 1,
        read_back: None,
    };
    let kind = Kind::Coverage(Box::new(coverage));
    Event { time: Timestamp::from_unix(until), node: String::new(), kind }
}

fn found(events: &[Event]) -> Found {
    let mut follower = Follower::default();
    (0..).zip(events).for_each(|(number, event)| follower.take(number, event));
    follower.found
}

#[test]
fn intervals_that_follow_each_other_are_one_time() {
    let found =
        found(&[interval(1, 5, [7, 7], true), interval(5, 9, [7, 8], true), interval(9, 12, [8, 8], true)]);
    assert!(found.is_whole());
    let times: Vec<_> = found.enforced.iter().map(|time| (time.from.unix(), time.until.unix())).collect();
    assert_eq!(times, [(1, 9), (9, 12)]);
    assert!(!Found::default().is_whole(), "nothing is shown by nothing");
}

#[test]
fn a_time_that_nobody_attests_and_one_without_enforcement_are_told() {
    let holes =
        found(&[interval(1, 5, [7, 7], true), interval(6, 9, [7, 7], true), interval(11, 12, [8, 8], true)]);
    let same: Vec<_> = holes.unattested.iter().map(|span| (span.record, span.same_programs)).collect();
    assert_eq!((same, holes.is_whole()), (vec![(1, true), (2, false)], false));
    let back = found(&[interval(6, 9, [7, 7], true), interval(1, 5, [7, 7], true)]);
    assert_eq!((back.unattested.len(), back.is_whole()), (1, false), "the clock was set back");
    let open = found(&[interval(1, 5, [7, 7], false)]);
    assert_eq!((open.not_whole.len(), open.unenforced["wg0"], open.is_whole()), (1, 5, false));
}

#[test]
fn the_ends_of_what_is_asked_for_are_to_be_attested_too() {
    let asked = |since: Option<u64>, until: Option<u64>| {
        let mut follower = Follower::default();
        follower.take(0, &interval(2, 5, [7, 7], true));
        follower.asked(since.map(Timestamp::from_unix), until.map(Timestamp::from_unix)).is_whole()
    };
    assert!(asked(None, None) && asked(Some(2), Some(5)) && asked(Some(3), Some(4)));
    assert!(!asked(Some(1), None) && !asked(None, Some(6)));
}

#[test]
fn what_only_observes_enforces_nothing() {
    let mut event = interval(1, 5, [7, 7], true);
    if let Kind::Coverage(coverage) = &mut event.kind {
        coverage.at_start.mode = Mode::Audit;
    }
    assert!(!found(&[event]).is_whole());
}

/// What a hostile copy says is shown as letters.
#[test]
fn nothing_that_a_record_says_reaches_the_terminal() {
    let evil = "\u{1b}]0;pwned\u{7}\u{202e}\r\u{9b}2J";
    let mut event = interval(1, 5, [7, 8], false);
    if let Kind::Coverage(coverage) = &mut event.kind {
        coverage.at_start.policy = Some(evil.to_owned());
        coverage.at_start.inventory = Some(evil.to_owned());
        coverage.unenforced = [(evil.to_owned(), u64::MAX)].into();
    }
    let mut shown = Vec::new();
    // Twice the longest time is still one.
    let found = found(&[event.clone(), event]);
    assert_eq!(found.unenforced[evil], u64::MAX);
    found.show(&mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains(r"\u{1b}]0;pwned\u{7}"), "{shown:?}");
    assert!(shown.lines().all(is_plain) && shown.lines().count() > 5, "{shown:?}");
}

#[test]
fn what_is_not_signed_yet_is_said_not_to_count() {
    let mut shown = Vec::new();
    let found = Found { unsigned: 3, ..found(&[interval(1, 5, [7, 7], true)]) };
    found.show(&mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.starts_with("3 records behind the last checkpoint are not signed yet"), "{shown}");
}
