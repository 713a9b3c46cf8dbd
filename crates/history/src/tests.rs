use std::fs;
use std::path::Path;

use super::{Batch, DAY, End, Error, History, Reader, RuleNote, Use, Used, Verdict, day};

/// 1 January 2027, 00:00 UTC.
const NEW_YEAR: u64 = 1_798_761_600;

fn end(name: &str, address: &str) -> End {
    End { name: Some(name.to_owned()).filter(|name| !name.is_empty()), address: address.parse().ok() }
}

fn by(rule: &str, source: &str, port: u16) -> Use {
    Use {
        rule: Some(rule.to_owned()),
        source: end(source, "100.64.0.9"),
        destination: end("db-1", "100.64.0.1"),
        port,
        protocol: 6,
        verdict: Verdict::Allowed,
    }
}

fn one(of: Use, count: u64, time: u64) -> Batch {
    let mut batch = Batch { looks: 1, ..Batch::default() };
    batch.add(of, count, time);
    batch
}

fn note(fingerprint: &str, number: u32) -> RuleNote {
    RuleNote { fingerprint: fingerprint.to_owned(), number, name: None, position: None }
}

fn open(path: &Path) -> History {
    let (history, aside) = History::open(path, "db-1", NEW_YEAR).unwrap();
    assert_eq!(aside, None);
    history
}

#[test]
fn use_is_summed_by_utc_day_and_in_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut history = open(&path);
    for (time, count) in [(NEW_YEAR - 1, 2), (NEW_YEAR, 3), (NEW_YEAR + 5, 4)] {
        history.write(&one(by("a", "web-1", 5432), count, time), time).unwrap();
    }
    history.write(&one(by("b", "web-2", 22), 1, NEW_YEAR), NEW_YEAR).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.node().unwrap(), "db-1");
    let today = day(NEW_YEAR);
    assert_eq!(reader.by_day("a", today - 3, today).unwrap(), [(today - 1, 2), (today, 7)]);
    assert_eq!(reader.by_day("a", today, today).unwrap(), [(today, 7)]);
    let used = reader.used_since(NEW_YEAR).unwrap();
    assert_eq!(used.len(), 2);
    assert_eq!((used[0].count, used[0].first, used[0].last), (9, NEW_YEAR - 1, NEW_YEAR + 5));
    assert_eq!(used[0].what, by("a", "web-1", 5432));
    assert_eq!(reader.used_since(NEW_YEAR + 1).unwrap().len(), 1, "b was used before");
}

#[test]
fn a_rule_that_was_gone_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut history = open(&path);
    let mut put = |rules: Vec<RuleNote>, now| {
        history.write(&Batch { rules: Some(rules), ..Batch::default() }, now).unwrap();
    };
    put(vec![note("a", 1), note("b", 2)], NEW_YEAR);
    put(vec![note("b", 1), note("c", 2)], NEW_YEAR + DAY);
    put(vec![note("a", 1), note("b", 2), note("c", 3)], NEW_YEAR + 2 * DAY);
    let rules = Reader::open(&path).unwrap().rules().unwrap();
    let known: Vec<_> = rules.iter().map(|rule| (rule.note.number, (rule.since - NEW_YEAR) / DAY)).collect();
    assert_eq!(known, [(1, 2), (2, 0), (3, 1)]);
    assert!(rules.iter().all(|rule| rule.in_force));
}

#[test]
fn a_counter_that_moves_without_a_flow_is_use_by_nobody_known() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut history = open(&path);
    let counters =
        |all: [u64; 3]| ["a", "b", "c"].map(str::to_owned).into_iter().zip(all).collect::<Vec<_>>();
    // What was counted before the first look is not known to be of that day.
    let rules = Some(vec![note("a", 1), note("b", 2), note("c", 3)]);
    history.write(&Batch { rules, counters: counters([3, 3, 0]), ..Batch::default() }, NEW_YEAR).unwrap();
    assert_eq!(Reader::open(&path).unwrap().used_since(0).unwrap(), []);
    let known = || {
        let used = Reader::open(&path).unwrap().used_since(0).unwrap();
        let one =
            |used: &Used| (used.what.rule.clone().unwrap(), used.what.source == End::UNKNOWN, used.count);
        used.iter().map(one).collect::<Vec<_>>()
    };
    let row = |rule: &str, is_unknown, count| (rule.to_owned(), is_unknown, count);
    let mut batch = one(by("a", "web-1", 443), 1, NEW_YEAR + 60);
    batch.counters = counters([5, 7, 0]);
    history.write(&batch, NEW_YEAR + 60).unwrap();
    assert_eq!(known(), [row("a", false, 1), row("b", true, 1)]);
    // Packets of a flow that was seen just before and is gone, then of one that nobody has seen; b begins anew.
    history.write(&Batch { counters: counters([6, 7, 0]), ..Batch::default() }, NEW_YEAR + 120).unwrap();
    assert_eq!(known(), [row("a", false, 1), row("b", true, 1)]);
    history.write(&Batch { counters: counters([8, 2, 0]), ..Batch::default() }, NEW_YEAR + 180).unwrap();
    assert_eq!(known(), [row("a", true, 1), row("a", false, 1), row("b", true, 2)]);
}

#[test]
fn old_days_go_and_what_was_used_last_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut history = open(&path);
    let now = NEW_YEAR + 400 * DAY;
    for (rule, ago) in [("old", 401), ("edge", 400), ("new", 1)] {
        history.write(&one(by(rule, rule, 443), 1, now - ago * DAY), now - ago * DAY).unwrap();
    }
    let kept = history.keep(400, u64::MAX, now, true).unwrap();
    assert_eq!((kept.expired, kept.shed), (1, 0));
    let reader = Reader::open(&path).unwrap();
    let used = reader.used_since(0).unwrap();
    let rules: Vec<_> = used.iter().filter_map(|used| used.what.rule.clone()).collect();
    assert_eq!(rules, ["edge", "new"]);
    assert_eq!(reader.rules().unwrap().len(), 2, "a rule that nothing is known of is gone, too");
    let coverage = reader.coverage(now - 10 * DAY, now).unwrap();
    assert_eq!((coverage.first_day, coverage.missing_days), (Some(day(now - 400 * DAY)), 9));
}

#[test]
fn a_full_file_gives_up_drops_of_the_oldest_days_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut history = open(&path);
    for ago in (0..20).rev() {
        let now = NEW_YEAR - ago * DAY;
        let mut batch = one(by("a", "web-1", 443), 1, now);
        for number in 0..2000_u16 {
            let source =
                End { name: None, address: Some([198, 51, (number >> 8) as u8, number as u8].into()) };
            let of = Use { rule: None, source, verdict: Verdict::Dropped, ..by("", "", number) };
            batch.add(of, 1, now);
        }
        history.write(&batch, now).unwrap();
    }
    let kept = history.keep(400, 1 << 20, NEW_YEAR, true).unwrap();
    assert!(kept.shed >= 2000 && !kept.is_full && kept.drops_today == 2000, "{kept:?}");
    assert!(fs::metadata(&path).unwrap().len() < 2 << 20);
    let reader = Reader::open(&path).unwrap();
    let today = day(NEW_YEAR);
    assert_eq!(reader.by_day("a", today - 19, today).unwrap().len(), 20, "use of rules stays");
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_begins() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    for round in 0..5 {
        let mut history = open(&path);
        let mut batch = Batch { looks: 1, ..Batch::default() };
        (0..5000).for_each(|port| batch.add(by("a", "web-1", port), 1, NEW_YEAR));
        history.write(&batch, NEW_YEAR).unwrap();
        drop(history);
        let mut bytes = fs::read(&path).unwrap();
        if round == 0 {
            bytes = b"this is no database, and never was one".repeat(100);
        } else {
            let length = bytes.len();
            bytes[4096..length].fill(0x5a);
        }
        fs::write(&path, &bytes).unwrap();
        let (mut history, aside) = History::open(&path, "db-1", NEW_YEAR + round).unwrap();
        let aside = aside.expect("damage is told");
        // SQLite may have written to the first page before it saw the damage.
        let (left, first) = (fs::read(&aside.path).unwrap(), if round == 0 { 0 } else { 4096 });
        assert!(left[first..] == bytes[first..], "nothing is lost of it");
        history.write(&one(by("a", "web-1", 1), 1, NEW_YEAR), NEW_YEAR).unwrap();
        drop(history);
        fs::remove_file(&path).unwrap();
    }
    let left = fs::read_dir(directory.path()).unwrap();
    let left =
        left.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".damaged-"));
    assert_eq!(left.count(), 3);
}

#[test]
fn a_later_layout_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let history = open(&path);
    history.connection.execute("UPDATE about SET value = '2' WHERE name = 'layout'", []).unwrap();
    drop(history);
    assert!(matches!(History::open(&path, "db-1", NEW_YEAR), Err(Error::Later { found: 2, .. })));
    assert!(Reader::open(&directory.path().join("none.db")).is_err(), "asking makes no file");
    assert!(!directory.path().join("none.db").exists());
}

#[test]
fn a_clock_that_is_years_ahead_forgets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut history = open(&path);
    for day in 0..30 {
        let now = NEW_YEAR + day * DAY;
        history.write(&Batch { looks: 1, ..one(by("a", "web-1", 443), 1, now) }, now).unwrap();
    }
    let rows = || Reader::open(&path).unwrap().by_day("a", 0, i64::from(u16::MAX)).unwrap().len();
    let ahead = NEW_YEAR + 5 * 365 * DAY;
    history.write(&Batch { looks: 1, ..Batch::default() }, ahead).unwrap();
    // NTP says so, and it is its first day; nobody says so, whatever day it is.
    assert_eq!(history.keep(400, u64::MAX, ahead, true).unwrap().expired, 0);
    history.write(&Batch { looks: 1, ..Batch::default() }, ahead + DAY).unwrap();
    assert_eq!(history.keep(400, u64::MAX, ahead + DAY, false).unwrap().expired, 0);
    assert_eq!(rows(), 30);
    // It is that late: the days are old.
    assert_eq!(history.keep(400, u64::MAX, ahead + DAY, true).unwrap().expired, 30);
    assert_eq!(rows(), 0);
}

#[test]
fn what_a_staged_policy_would_do_hides_no_counter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let mut history = open(&path);
    let counted = |packets| vec![("a".to_owned(), packets)];
    let rules = Some(vec![note("a", 1)]);
    history.write(&Batch { rules, counters: counted(3), ..Batch::default() }, NEW_YEAR).unwrap();
    let staged = Use { verdict: Verdict::StagedDrops, ..by("a", "web-1", 443) };
    history.write(&Batch { counters: counted(9), ..one(staged, 6, NEW_YEAR + 60) }, NEW_YEAR + 60).unwrap();
    let used = Reader::open(&path).unwrap().used_since(0).unwrap();
    let unknown =
        used.iter().filter(|used| used.what.verdict == Verdict::Allowed && used.what.source == End::UNKNOWN);
    assert_eq!(unknown.count(), 1, "{used:?}");
}

#[test]
fn a_file_without_its_layout_is_damaged_and_one_of_a_later_version_is_not_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    for (round, undo) in
        ["DROP TABLE about", "DELETE FROM about WHERE name = 'layout'"].into_iter().enumerate()
    {
        open(&path).connection.execute(undo, []).unwrap();
        let error = Reader::open(&path).err().unwrap();
        assert!(error.is_damage() && error.to_string().contains("which layout"), "{error}");
        let (_, aside) = History::open(&path, "db-1", NEW_YEAR + round as u64).unwrap();
        assert!(aside.unwrap().why.contains("which layout"));
    }
    let history = open(&path);
    history.connection.execute("UPDATE about SET value = '2' WHERE name = 'layout'", []).unwrap();
    // As a later version may have it.
    history.connection.pragma_update(None, "journal_mode", "DELETE").unwrap();
    drop(history);
    let before = fs::read(&path).unwrap();
    assert!(matches!(History::open(&path, "other", NEW_YEAR), Err(Error::Later { found: 2, .. })));
    assert!(fs::read(&path).unwrap() == before);
}
