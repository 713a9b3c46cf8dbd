use std::sync::Arc;

use bulkhead_api::event::{AlarmKind, AlarmState, Expiring, ExpiryLevel, Rule};
use bulkhead_policy::diagnostic::Findings;
use bulkhead_policy::inventory;
use bulkhead_policy::source::Source;
use proptest::prelude::*;

use super::known::Known;
use super::overview::overview;
use super::watch::{Due, On, due};
use super::{Ending, Endings, Limits, Watch};
use crate::config;
use crate::daemon::alarms::{Active, Alarms};

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A time at which an hour begins.
const START: u64 = 20_000 * DAY;

fn ending(kind: Expiring, name: &str, life: Option<u64>, ends: u64) -> Ending {
    let begins = life.map(|life| ends.saturating_sub(life));
    Ending { kind, name: name.to_owned(), begins, ends }
}

fn key(name: &str, ends: u64) -> Ending {
    ending(Expiring::NodeKey, name, None, ends)
}

fn look(all: &[Ending], on: &[On], now: u64) -> Due {
    due(all.iter().map(Ending::item), "own", Limits::default(), on, now)
}

fn on(due: &Due) -> Vec<On> {
    let of = |group: &super::watch::Group| On { kind: group.kind, at: group.at.clone(), level: group.level };
    due.groups.iter().map(of).collect()
}

/// Levels of what is told.
fn levels(due: &Due) -> Vec<ExpiryLevel> {
    due.groups.iter().map(|group| group.level).collect()
}

#[test]
fn what_ends_is_told_at_seven_days_and_at_one_and_when_it_has() {
    use ExpiryLevel::{Critical, Expired, Warning};
    let all = [key("a", START)];
    let at = |now: u64| levels(&look(&all, &[], now));
    assert_eq!(at(START - 7 * DAY - 1), []);
    assert_eq!(at(START - 7 * DAY), [Warning]);
    assert_eq!(at(START - DAY - 1), [Warning]);
    assert_eq!(at(START - DAY), [Critical]);
    assert_eq!(at(START - 1), [Critical]);
    assert_eq!(at(START), [Expired]);
    assert_eq!(at(START + 7 * DAY - 1), [Expired]);
    assert_eq!(at(START + 7 * DAY), [], "nobody has missed it");
    let words = |now: u64| look(&all, &[], now).groups[0].words(now);
    assert_eq!(words(START - 7 * DAY), "the key of node a expires 2024-10-04T00:00:00.000Z, within 7 days");
    assert_eq!(words(START - DAY), "the key of node a expires 2024-10-04T00:00:00.000Z, within 24 hours");
    assert_eq!(words(START), "the key of node a has expired: it ended 2024-10-04T00:00:00.000Z");
}

#[test]
fn what_lives_shortly_is_told_of_once_a_third_is_left() {
    use ExpiryLevel::{Critical, Expired, Ok, Warning};
    let at = |life: u64, left: u64| {
        let limits = Limits::default().of(&ending(Expiring::Certificate, "c", Some(life), START).item());
        limits.level(START, START - left)
    };
    assert_eq!((at(HOUR, 20 * MINUTE + 1), at(HOUR, 20 * MINUTE)), (Ok, Warning));
    assert_eq!((at(HOUR, 10 * MINUTE + 1), at(HOUR, 10 * MINUTE)), (Warning, Critical));
    assert_eq!(at(HOUR, 0), Expired);
    // Ninety days and a year are the same.
    for life in [90 * DAY, 365 * DAY] {
        assert_eq!((at(life, 7 * DAY + 1), at(life, 7 * DAY), at(life, DAY)), (Ok, Warning, Critical));
    }
    assert_eq!((at(6 * DAY, 2 * DAY + 1), at(6 * DAY, 2 * DAY), at(6 * DAY, DAY)), (Ok, Warning, Critical));
    // What begins after its end has no lifetime that anybody knows.
    let wrong = Ending { begins: Some(START + 1), ..key("a", START) };
    assert_eq!(Limits::default().of(&wrong.item()), Limits::default());
}

#[test]
fn five_thousand_that_end_in_an_hour_are_one_alarm_with_the_first_names() {
    let mut all: Vec<Ending> =
        (0..5000).map(|number| key(&format!("n{number:04}"), START + number * (HOUR / 5000))).collect();
    all.push(key("own", START + HOUR - 1));
    let now = START - 3 * DAY;
    let found = look(&all, &[], now);
    let [group] = &found.groups[..] else { panic!("{found:?}") };
    assert_eq!((group.count, group.names.len()), (5001, 8));
    assert_eq!(group.names[..2], ["own", "n0000"], "this host's is first");
    let words = group.words(now);
    assert!(words.starts_with("5001 keys of nodes expire from 2024-10-04T00:00:00.000Z to 2024-10-04T00:59:59.999Z, within 3 days: own, n0000, n0001, "), "{words}");
    assert!(words.ends_with(" and 4993 more"), "{words}");
    // All along it is one, and over the hour in which they end too.
    for time in [START - 7 * DAY, START - DAY, START - 1, START, START + HOUR / 2, START + 2 * HOUR] {
        assert_eq!(look(&all, &[], time).groups.len(), 1, "{time}");
    }
    // They enter together, so that the alarm is told once and not as each of them is due.
    assert_eq!(look(&all, &[], START - 7 * DAY).groups[0].count, 5001);
}

#[test]
fn alarms_are_bounded_and_the_urgent_and_the_own_are_never_beyond() {
    let mut all: Vec<Ending> = (0..100).map(|hour| key(&format!("w{hour}"), START + hour * HOUR)).collect();
    all.extend((0..100).map(|minute| {
        ending(
            Expiring::Certificate,
            &format!("c{minute}"),
            Some(6 * HOUR),
            START - 5 * DAY + minute * MINUTE / 2,
        )
    }));
    all.push(key("own", START + 99 * HOUR));
    let now = START - 5 * DAY - 1;
    let found = look(&all, &[], now);
    assert!(found.groups.len() <= 60, "{}", found.groups.len());
    let sum: u64 = found.groups.iter().map(|group| group.count).sum();
    let near = all.iter().filter(|ending| {
        let limits = Limits::default().of(&ending.item());
        limits.level(ending.ends, now) != ExpiryLevel::Ok
    });
    assert!(sum >= near.count() as u64, "every one is in a group");
    assert_eq!(found.groups[0].level, ExpiryLevel::Critical);
    let warnings = found.groups.iter().find(|group| group.level == ExpiryLevel::Warning).unwrap();
    let found = look(&[key("own", START + 99 * HOUR), key("w", START)], &[], START - DAY * 2);
    assert_eq!(found.groups[0].names, ["own"], "this host's before what ends sooner; {warnings:?}");
}

#[test]
fn a_clock_that_is_set_back_a_little_changes_nothing_and_much_ends_what_is_not_so() {
    let all = [key("a", START)];
    for (now, back) in [(START, MINUTE), (START - DAY, 30 * MINUTE), (START - 7 * DAY, 6 * HOUR)] {
        let told = on(&look(&all, &[], now));
        assert_eq!(told.len(), 1);
        assert_eq!(on(&look(&all, &told, now - back)), told);
        assert_ne!(on(&look(&all, &[], now - back)), told, "without having told it would not be");
        let long = on(&look(&all, &told, now - 8 * DAY));
        assert_eq!(long, [], "it is really so");
    }
}

#[test]
fn a_grant_ends_by_design() {
    let grant = ending(Expiring::Grant, "g", Some(HOUR), START);
    assert_eq!(look(std::slice::from_ref(&grant), &[], START - 1).groups, []);
    let seen = overview([grant.item()].into_iter(), Limits::default(), START - 1);
    assert_eq!((seen.nearest.len(), seen.counts["grant"]["critical"]), (1, 1));
}

#[test]
fn an_overview_counts_all_and_lists_the_nearest() {
    let all: Vec<Ending> = (0..1000).map(|hour| key(&format!("n{hour:03}"), START + hour * HOUR)).collect();
    let now = START + 500 * HOUR;
    let seen = overview(all.iter().map(Ending::item), Limits::default(), now);
    let counts = &seen.counts["node_key"];
    assert_eq!([counts["expired"], counts["critical"], counts["warning"], counts["ok"]], [168, 24, 144, 331]);
    let names: Vec<&str> = seen.nearest.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(
        (names.len(), names[0], names[15], names[16], names[63]),
        (64, "n485", "n500", "n501", "n548")
    );
}

/// Alarms, and what they were told of.
struct Site {
    alarms: Alarms,
    watch: Watch,
    endings: Endings,
    rules: Vec<(Rule, u64)>,
    inventory: Arc<inventory::Inventory>,
    generation: u32,
}

impl Site {
    fn new() -> Self {
        Self::of("{\"nodes\": []}")
    }

    fn of(text: &str) -> Self {
        let inventory = inventory::parse(&Source::new("i", text), &mut Findings::default()).unwrap();
        Self {
            alarms: Alarms::new(&config::Alarms::default()),
            watch: Watch::default(),
            endings: Endings::default(),
            rules: Vec::new(),
            inventory: Arc::new(inventory),
            generation: 1,
        }
    }

    fn look(&mut self, now: u64) -> Vec<(AlarmState, String)> {
        if self.watch.is_due(self.generation, &self.endings, now) {
            let known = Known::new(&self.rules, self.inventory.clone(), &self.endings);
            let of = (self.generation, &self.endings);
            self.watch.look(&self.alarms, &known, of, ("own", Limits::default()), now);
        }
        let told = self.alarms.take().0.into_iter();
        told.inspect(|alarm| assert_eq!(alarm.alarm, AlarmKind::Expiry))
            .map(|alarm| (alarm.state, alarm.cause))
            .collect()
    }

    /// As an agent that starts again has it.
    fn again(self) -> Self {
        let on: Vec<Active> = self.alarms.active();
        let alarms = Alarms::new(&config::Alarms::default());
        alarms.take_up_on(on);
        Self { alarms, watch: Watch::default(), endings: Endings::default(), ..self }
    }
}

const RAISED: AlarmState = AlarmState::Raised;
const ENDED: AlarmState = AlarmState::Ended;

#[test]
fn alarms_of_rules_and_nodes_end_when_they_are_renewed_or_gone() {
    let text = r#"{"nodes": [{"name": "a", "addresses": ["10.0.0.1"], "tags": ["tag:a"], "expires": "2024-10-04T00:00:00Z",
        "workloads": [{"name": "w", "addresses": ["10.0.0.2"], "tags": ["tag:w"], "match": {"units": ["w.service"]}}]}]}"#;
    let mut site = Site::of(text);
    site.rules = vec![(Rule::plain(3, Some("web".to_owned()), None), START + 30 * DAY)];
    assert_eq!(site.look(START - 8 * DAY), []);
    let key = |level: &str| format!("expiry node_key 2024-10-04T00 {level}");
    assert_eq!(site.look(START - 7 * DAY), [(RAISED, key("warning"))], "the workload ends with its host");
    assert_eq!(site.look(START - 7 * DAY + 1), []);
    assert_eq!(site.look(START - DAY), [(ENDED, key("warning")), (RAISED, key("critical"))]);
    assert_eq!(site.look(START), [(ENDED, key("critical")), (RAISED, key("expired"))]);
    // Another inventory, without it.
    site.inventory = Site::new().inventory;
    site.generation = 2;
    assert_eq!(site.look(START + 1), [(ENDED, key("expired"))]);
    let told = site.look(START + 29 * DAY);
    assert_eq!(told, [(RAISED, "expiry rule 2024-11-03T00 critical".to_owned())]);
    let [active] = &site.alarms.active()[..] else { panic!() };
    assert_eq!(active.detail, "web expires 2024-11-03T00:00:00.000Z, within 24 hours");
    site.rules[0].1 += 90 * DAY;
    site.generation = 3;
    assert_eq!(site.look(START + 29 * DAY + 1), [(ENDED, "expiry rule 2024-11-03T00 critical".to_owned())]);
}

#[test]
fn rules_of_one_name_are_two() {
    let mut site = Site::new();
    let rule = |number, line| Rule::plain(number, Some("web".to_owned()), Some(format!("p:{line}")));
    site.rules = vec![(rule(1, 4), START), (rule(2, 5), START + 2)];
    site.look(START - DAY);
    let [active] = &site.alarms.active()[..] else { panic!() };
    assert!(active.detail.starts_with("2 rules expire") && active.detail.ends_with("web at p:4, web at p:5"));
}

#[test]
fn who_joins_what_was_told_is_told() {
    let mut site = Site::new();
    let put = |site: &Site, names: &[&str]| {
        let of = |name: &&str| ending(Expiring::Certificate, name, None, START);
        site.endings.put("files", names.iter().map(of).collect());
    };
    let cause = "expiry certificate 2024-10-04T00 critical".to_owned();
    put(&site, &["a"]);
    assert_eq!(site.look(START - DAY), [(RAISED, cause.clone())]);
    put(&site, &["a", "b"]);
    assert_eq!(site.look(START - DAY + 1), [(ENDED, cause.clone()), (RAISED, cause.clone())]);
    put(&site, &["b"]);
    assert_eq!(site.look(START - DAY + 2), [], "who leaves is none");
    put(&site, &["b", "a"]);
    assert_eq!(site.look(START - DAY + 3), [], "it was told of");
    put(&site, &[]);
    assert_eq!(site.look(START - DAY + 4), [(ENDED, cause)]);
}

#[test]
fn a_restart_tells_nothing_again_before_and_after_sources_have_told() {
    let mut site = Site::new();
    site.endings.put("probes", vec![ending(Expiring::Certificate, "c", None, START)]);
    site.rules = vec![(Rule::plain(3, Some("web".to_owned()), None), START)];
    assert_eq!(site.look(START - DAY).len(), 2);
    let mut site = site.again();
    site.endings.expect("probes");
    assert_eq!(site.look(START - DAY + 1), [], "probes have not told what they know");
    site.endings.put("probes", vec![ending(Expiring::Certificate, "c", None, START)]);
    assert_eq!(site.look(START - DAY + 2), []);
    // One that had nothing to tell of ends it.
    let mut site = site.again();
    site.endings.expect("probes");
    assert_eq!(site.look(START - DAY + 3), []);
    site.endings.put("probes", Vec::new());
    assert_eq!(site.look(START - DAY + 4), [(ENDED, "expiry certificate 2024-10-04T00 critical".to_owned())]);
}

#[test]
fn a_hundred_thousand_cost_nothing_that_is_seen() {
    let all: Vec<Ending> = (0..100_000_u64)
        .map(|number| {
            key(&format!("node-{number}"), START + (number * 7919 % 100_000) * (180 * DAY / 100_000))
        })
        .collect();
    let timed = |what: &str, run: &dyn Fn() -> usize| {
        let begun = std::time::Instant::now();
        let found = run();
        println!("{what}: {:?}, {found} found", begun.elapsed());
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{what}");
        found
    };
    let found = timed("a look", &|| look(&all, &[], START + 10 * DAY).groups.len());
    assert!((16..=60).contains(&found), "{found}");
    timed("an overview", &|| overview(all.iter().map(Ending::item), Limits::default(), START).nearest.len());
    // And nobody looks where nothing is due.
    let far: Vec<Ending> = all.iter().map(|ending| key(&ending.name, ending.ends + 100 * DAY)).collect();
    assert!(look(&far, &[], START).next > START + 90 * DAY);
}

/// Something whose end and lifetime are of any size.
fn anything() -> impl Strategy<Value = Ending> {
    let life = prop_oneof![Just(None), (1..400 * DAY).prop_map(Some), (1..6 * HOUR).prop_map(Some)];
    let ends = prop_oneof![0..30 * DAY, 0..3 * HOUR, 7 * DAY..9 * DAY];
    let kind = prop::sample::select(Expiring::ALL);
    ("[a-f]", kind, life, ends).prop_map(|(name, kind, life, ends)| ending(kind, &name, life, START + ends))
}

proptest! {
    #[test]
    fn nothing_changes_before_it_is_looked_again(
        all in prop::collection::vec(anything(), 0..30), now in 0..30 * DAY, part in 0.0..1.0_f64
    ) {
        let now = START + now;
        let found = look(&all, &[], now);
        prop_assert!(found.next > now);
        let until = found.next.min(now + 40 * DAY);
        let between = now + ((until - 1 - now) as f64 * part) as u64;
        let later = look(&all, &on(&found), between.min(until - 1));
        prop_assert_eq!(on(&found), on(&later));
    }

    #[test]
    fn what_is_due_is_in_a_group_of_its_level_or_a_nearer_one(
        all in prop::collection::vec(anything(), 0..30), now in 0..30 * DAY
    ) {
        let now = START + now;
        let found = look(&all, &[], now);
        prop_assert!(found.groups.len() <= 60);
        for ending in &all {
            let limits = Limits::default().of(&ending.item());
            let level = limits.level(ending.ends, now);
            let is_told = level != ExpiryLevel::Ok
                && ending.kind != Expiring::Grant
                && ending.ends + limits.warning > now;
            let has = found.groups.iter().any(|group| {
                group.kind == ending.kind
                    && group.level as u8 >= level as u8
                    && (group.first..=group.last).contains(&ending.ends)
            });
            prop_assert!(!is_told || has, "{:?} {:?} of {:?}", ending, level, found);
        }
        // Nobody is told who has all their time.
        let is_near = |ending: &Ending| {
            Limits::default().of(&ending.item()).level(ending.ends, now) != ExpiryLevel::Ok
        };
        prop_assert!(all.iter().any(is_near) || found.groups.is_empty());
    }

    #[test]
    fn time_that_goes_on_tells_each_level_once(ends in 0..30 * DAY, life in 1..60 * DAY, steps in prop::collection::vec(1..2 * DAY, 1..60)) {
        let all = [ending(Expiring::Certificate, "c", Some(life), START + ends)];
        let (mut now, mut told, mut last) = (START, Vec::new(), Vec::new());
        for step in steps {
            let found = look(&all, &last, now);
            let is = on(&found);
            told.extend(is.iter().filter(|on| !last.contains(on)).map(|on| on.level as u8));
            last = is;
            now += step;
        }
        prop_assert!(told.is_sorted_by(|one, other| one < other), "{:?}", told);
    }

    #[test]
    fn small_steps_of_the_clock_tell_nothing_twice(ends in 0..9 * DAY, now in 0..9 * DAY, steps in prop::collection::vec((any::<bool>(), 0..MINUTE), 1..60)) {
        let all = [key("a", START + ends)];
        let (mut now, mut last, mut told) = (START + now, Vec::new(), Vec::new());
        for (is_back, step) in steps {
            let is = on(&look(&all, &last, now));
            told.extend(is.iter().filter(|on| !last.contains(on)).cloned());
            last = is;
            now = if is_back { now - step } else { now + step };
        }
        let once: std::collections::BTreeSet<u8> = told.iter().map(|on| on.level as u8).collect();
        prop_assert_eq!(once.len(), told.len(), "{:?}", told);
    }
}
