//! Alarms in the pack, and whom the agent cut off.

use bulkhead_api::event::{Action, AlarmKind, Event, Kind, Timestamp};
use bulkhead_history::DAY;
use bulkhead_review::{Gather, Pack, page};

use crate::log::records;
use crate::{NOW, SECOND, pack};

/// The number of a record, by its text.
fn number(is: impl Fn(&Event) -> bool, nth: usize) -> u64 {
    (0..).zip(records()).filter(|(_, record)| is(&record.event)).nth(nth).unwrap().0
}

#[test]
fn alarms_are_there_by_cause_with_their_records_and_what_the_agent_did() {
    let pack = pack();
    let causes: Vec<_> = pack.alarms.causes.iter().map(|of| (of.alarm, of.raised, of.times.len())).collect();
    assert_eq!(causes, [(AlarmKind::Scan, 2, 2), (AlarmKind::QuarantineWithheld, 1, 1)]);
    let is_scan = |event: &Event| matches!(&event.kind, Kind::Alarm(alarm) if alarm.alarm == AlarmKind::Scan);
    let is_cut = |event: &Event| matches!(&event.kind, Kind::Control(of) if of.action == Action::Quarantine);
    let scan = &pack.alarms.causes[0];
    assert_eq!((scan.source.as_deref(), scan.rule.as_ref()), (Some("research-1 (100.64.0.8)"), None));
    // The raise, its end, the same told again, and another raise.
    let [first, second] = &scan.times[..] else { panic!("{scan:?}") };
    assert_eq!((first.record, first.ended.unwrap().record), (Some(number(is_scan, 0)), number(is_scan, 1)));
    assert_eq!((second.record, second.ended), (Some(number(is_scan, 3)), None));
    assert_eq!((&first.quarantines[..], &second.quarantines[..]), (&[number(is_cut, 0)][..], &[][..]));
    let [cut] = &pack.alarms.quarantines[..] else { panic!("{:?}", pack.alarms) };
    assert_eq!((cut.node.as_str(), cut.record), ("research-1", number(is_cut, 0)));
    assert_eq!(cut.ended.unwrap().time.unix(), (NOW - 9 * DAY + 700) * SECOND);
}

#[test]
fn an_alarm_of_before_is_there_if_it_was_still_on_and_none_is_said_plainly() {
    // From the second scan on, which was raised before.
    let of = |since: u64, until: u64| {
        let mut gather =
            Gather::new(Timestamp::from_unix(since * SECOND), Timestamp::from_unix(until * SECOND));
        (0..).zip(&records()).for_each(|(number, record)| gather.take(number, record));
        gather.end(&[], |_| String::new())
    };
    let began = NOW - 9 * DAY;
    let later = of(began + 805, NOW).alarms;
    let raised: Vec<_> = later.causes.iter().map(|of| (of.raised, of.times.len())).collect();
    assert_eq!((raised, later.quarantines.len()), (vec![(0, 1), (1, 1)], 0));
    let between = of(began + 101, began + 200).alarms;
    assert_eq!((between.causes[0].raised, between.causes[0].times[0].ended.is_some()), (0, true));
    assert_eq!(between.quarantines[0].ended, None, "its release is of later");

    let none = of(began - 4000, began - 1);
    assert!(none.alarms.causes.is_empty() && none.alarms.quarantines.is_empty());
    let page = page::render(&Pack { alarms: none.alarms, ..pack() });
    assert!(page.contains("None: the log has no alarm of this time.") && page.contains("Nobody."));
    let page = page::render(&Pack { alarms: Default::default(), ..pack() });
    assert!(!page.contains("None: the log has no alarm of this time."), "without records it is not known");
}
