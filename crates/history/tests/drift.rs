//! Half a year of a host with fifty rules, by a clock of the test's own.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::net::IpAddr;
use std::path::Path;

use bulkhead_history::answer::drift::Named;
use bulkhead_history::answer::{OfHost, Question, Report, narrower};
use bulkhead_history::{Batch, DAY, End, History, RuleNote, Use, Verdict};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::diff::{Side, diff};
use bulkhead_policy::fingerprint::fingerprints;
use bulkhead_policy::reference::{Probe, admitted};
use bulkhead_policy::source::Source;

/// 1 June 2027, noon.
const NOW: u64 = 1_811_851_200;

/// Rules 1 to 10 are not used, 11 to 25 are too wide, 50 was used 179 days ago for the last time.
const UNUSED: std::ops::RangeInclusive<u32> = 1..=10;
const WIDE: std::ops::RangeInclusive<u32> = 11..=25;

/// A host's clients: two of each rule's own tag.
fn client(rule: u32, which: u32) -> (String, IpAddr) {
    (format!("client-{rule}-{which}"), IpAddr::from([100, 64, which as u8, rule as u8]))
}

fn inventory() -> String {
    let client = |rule: u32, which| {
        let (name, address) = client(rule, which);
        format!(r#"{{"name": "{name}", "addresses": ["{address}"], "tags": ["tag:c{rule}"]}}"#)
    };
    let clients: Vec<String> = (1..=50).flat_map(|rule| [client(rule, 1), client(rule, 2)]).collect();
    format!(
        r#"{{"nodes": [{{"name": "db-1", "addresses": ["100.64.9.1"], "tags": ["tag:db"]}}, {}]}}"#,
        clients.join(", ")
    )
}

fn policy() -> String {
    let owners: Vec<String> = (1..=50).map(|rule| format!("\"tag:c{rule}\": []")).collect();
    let rule = |rule: u32| {
        // Too wide in ports, in sources, or in both.
        let (sources, ports) = match rule {
            11..=15 => (format!("tag:c{rule}"), "5000-6000"),
            16..=20 => (format!("tag:c{rule}"), "5432"),
            21..=25 => ("*".to_owned(), "*"),
            _ => (format!("tag:c{rule}"), "5432"),
        };
        let section = format!(
            r#"    // rule {rule}
    {{"name": "r{rule}", "action": "accept", "src": ["{sources}"], "proto": "tcp", "dst": ["tag:db:{ports}"]}}"#
        );
        if rule == 10 { format!("{section} /* the last, unused one */") } else { section }
    };
    // The widest last: the first match wins.
    let order = (1..=20).chain(26..=50).chain(21..=25);
    let rules: Vec<String> = order.map(rule).collect();
    format!(
        "{{\"tagOwners\": {{\"tag:db\": [], {}}},\n  \"acls\": [\n{}\n  ]}}\n",
        owners.join(", "),
        rules.join(",\n")
    )
}

fn load(policy: &str) -> Loaded {
    let scope = Scope::default();
    let mut loaded =
        Loaded::new(Source::new("policy", policy), Some(Source::new("inventory", &inventory())), &scope);
    loaded.check(NOW * 1_000_000_000);
    assert!(!loaded.findings.has_errors(), "{:?}\n{policy}", loaded.findings.0);
    loaded
}

/// Numbers of rules by their names, and back.
fn numbers(loaded: &Loaded) -> Vec<(u32, String)> {
    let ruleset = loaded.ruleset.as_ref().unwrap();
    let all: Vec<usize> = (0..ruleset.rules.len()).collect();
    let number = |name: &Option<String>| name.as_ref().unwrap()[1..].parse().unwrap();
    let prints = fingerprints(ruleset, &all, "");
    ruleset.rules.iter().map(|rule| number(&rule.name)).zip(prints).collect()
}

/// Who used a rule: both clients on 5432, but of rules that are too wide in sources the first alone.
fn users(rule: u32) -> &'static [u32] {
    match rule {
        rule if UNUSED.contains(&rule) => &[],
        16..=25 => &[1],
        _ => &[1, 2],
    }
}

fn record(path: &Path, prints: &[(u32, String)], begun: u64) {
    let (mut history, _) = History::open(path, "db-1", begun).unwrap();
    let rules = prints.iter().map(|(number, print)| RuleNote {
        fingerprint: print.clone(),
        number: *number,
        name: None,
        position: None,
    });
    history.write(&Batch { rules: Some(rules.collect()), looks: 1, ..Batch::default() }, begun).unwrap();
    let mut time = begun;
    while time <= NOW {
        let mut batch = Batch { looks: 1440, ..Batch::default() };
        for (rule, print) in prints {
            if *rule == 50 && time > NOW - 179 * DAY {
                continue;
            }
            for which in users(*rule) {
                let (name, address) = client(*rule, *which);
                let source = End { name: Some(name), address: Some(address) };
                let destination = End { name: Some("db-1".to_owned()), address: "100.64.9.1".parse().ok() };
                let rule = Some(print.clone());
                batch.add(
                    Use { rule, source, destination, port: 5432, protocol: 6, verdict: Verdict::Allowed },
                    7,
                    time,
                );
            }
        }
        history.write(&batch, time).unwrap();
        history.keep(400, 256 << 20, time, true).unwrap();
        time += DAY;
    }
}

fn ask(loaded: Loaded, path: &Path, days: u64) -> (Question, Report) {
    let since = NOW - days * DAY;
    let hosts = vec![OfHost::read(path, since, NOW).unwrap()];
    let question = Question { loaded, hosts, since, now: NOW };
    let report = Report::new(&question);
    (question, report)
}

fn names<'a>(rules: impl Iterator<Item = &'a Named>) -> Vec<u32> {
    let mut names: Vec<u32> = rules.map(|rule| rule.name.as_ref().unwrap()[1..].parse().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn exactly_the_unused_and_the_wide_rules_are_named_and_the_narrower_policy_removes_no_used_flow() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let loaded = load(&policy());
    let prints = numbers(&loaded);
    record(&path, &prints, NOW - 200 * DAY);
    let (question, report) = ask(loaded, &path, 180);
    assert_eq!(names(report.unused.iter()), UNUSED.collect::<Vec<_>>());
    assert_eq!(names(report.wider.iter().map(|wider| &wider.rule)), WIDE.collect::<Vec<_>>());
    assert_eq!((report.rules, report.as_used), (50, 25));
    assert!(report.kept.is_empty() && report.not_known.is_empty() && report.elsewhere.is_empty());
    assert_eq!(report.hosts[0].missing_days, 0);
    // A day later nobody has used it in that time.
    let (_, shorter) = ask(load(&policy()), &path, 178);
    assert_eq!(names(shorter.unused.iter()), UNUSED.chain([50]).collect::<Vec<_>>());
    // Longer than anything is known of.
    let (_, longer) = ask(load(&policy()), &path, 300);
    assert_eq!((longer.unused.len(), longer.wider.len(), longer.not_known.len()), (0, 0, 50));
    assert_eq!(longer.not_known[0].days, 200);

    let text = narrower(question.loaded.policy.as_ref().unwrap(), &report);
    let new = load(&text);
    let rules = new.policy.as_ref().unwrap().acls.as_ref().unwrap().len();
    assert_eq!(rules, 40, "{text}");
    let (old_inventory, inventory) =
        (question.loaded.inventory.as_ref().unwrap(), new.inventory.as_ref().unwrap());
    let (old, ruleset) = (question.loaded.ruleset.as_ref().unwrap(), new.ruleset.as_ref().unwrap());
    let now = NOW * 1_000_000_000;
    let difference =
        diff(Side { ruleset: old, inventory: old_inventory }, Side { ruleset, inventory }, now).unwrap();
    assert!(!difference.widens() && !difference.removed.is_empty(), "it only narrows");
    for (rule, _) in &prints {
        for which in [1, 2] {
            let (_, source) = client(*rule, which);
            let to = |port| Probe { source, destination: "100.64.9.1".parse().unwrap(), protocol: 6, port };
            let was_used = users(*rule).contains(&which);
            assert_eq!(admitted(ruleset, &to(5432), now), was_used, "rule {rule}, client {which}");
            assert!(!admitted(ruleset, &to(5433), now));
        }
    }
}

#[test]
fn use_by_somebody_unknown_keeps_a_rule_as_it_is_and_other_hosts_use_is_not_guessed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let loaded = load(&policy());
    let prints = numbers(&loaded);
    record(&path, &prints, NOW - 200 * DAY);
    let (mut history, _) = History::open(&path, "db-1", NOW).unwrap();
    let of = |rule: u32| {
        prints.iter().find(|(number, _)| *number == rule).map(|(_, print)| print.clone()).unwrap()
    };
    // The counters of an unused and of a wide rule have moved, and no flow was seen.
    for packets in [5, 6] {
        let counters = vec![(of(1), packets), (of(12), packets)];
        history.write(&Batch { counters, ..Batch::default() }, NOW).unwrap();
    }
    let (_, report) = ask(loaded, &path, 180);
    assert_eq!((report.unused.len(), report.wider.len()), (9, 14));
    assert_eq!(names(report.kept.iter().map(|kept| &kept.rule)), [1, 12]);
    // The history of another host than that of the rules.
    drop(history);
    History::open(&path, "client-1-1", NOW).unwrap();
    let (_, report) = ask(load(&policy()), &path, 180);
    assert_eq!((report.unused.len(), report.wider.len(), report.elsewhere.len()), (0, 0, 50));
}

#[test]
fn what_only_a_staged_policy_stops_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let (mut history, _) = History::open(&path, "db-1", NOW).unwrap();
    let server = || End { name: Some("db-1".to_owned()), address: "100.64.9.1".parse().ok() };
    let mut batch = Batch::default();
    // The summaries of replies have no port; of the second client there is nothing else.
    for (which, port, verdict, packets) in [
        (1, 5432, Verdict::StagedDrops, 7),
        (1, 0, Verdict::StagedDrops, 6),
        (2, 0, Verdict::StagedDrops, 5),
        (2, 5432, Verdict::StagedPasses, 9),
    ] {
        let (name, address) = client(3, which);
        let source = End { name: Some(name), address: Some(address) };
        let of = Use { rule: None, source, destination: server(), port, protocol: 6, verdict };
        batch.add(of, packets, NOW);
    }
    history.write(&batch, NOW).unwrap();
    let (_, report) = ask(load(&policy()), &path, 180);
    let told: Vec<_> = report.staged.iter().map(|one| (one.source.as_str(), one.port, one.packets)).collect();
    assert_eq!(told, [("client-3-1", Some(5432), 7), ("client-3-2", None, 5)]);
}

#[test]
fn what_a_host_may_have_missed_is_neither_unused_nor_wider() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let loaded = load(&policy());
    let prints = numbers(&loaded);
    record(&path, &prints, NOW - 200 * DAY);
    // The history of a client which does not know the rules, and has looked every day.
    let other = directory.path().join("other.db");
    let since = NOW - 180 * DAY;
    let (mut history, _) = History::open(&other, "client-1-1", since).unwrap();
    for day in 0..=180 {
        history.write(&Batch { looks: 1440, ..Batch::default() }, since + day * DAY).unwrap();
    }
    let hosts = vec![OfHost::read(&path, since, NOW).unwrap(), OfHost::read(&other, since, NOW).unwrap()];
    let report = Report::new(&Question { loaded, hosts, since, now: NOW });
    assert_eq!(
        names(report.not_known.iter().map(|rule| &rule.rule)),
        [1, 21, 22, 23, 24, 25],
        "its own and everybody's"
    );
    assert_eq!((report.unused.len(), report.wider.len()), (9, 10));

    // A look at the time's start and one today.
    let path = directory.path().join("gap.db");
    record(&path, &prints, NOW);
    let (mut history, _) = History::open(&path, "db-1", NOW).unwrap();
    history.write(&Batch { looks: 1, ..Batch::default() }, since - DAY).unwrap();
    drop(history);
    let (_, report) = ask(load(&policy()), &path, 180);
    assert_eq!((report.unused.len(), report.wider.len(), report.not_known.len()), (0, 0, 50));
}

#[test]
fn a_grant_that_runs_is_no_rule_of_the_policy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let granted = r#", "granted": [{"id": "0123456789abcdef0123456789abcdef", "src": ["tag:c1"], "dst": ["tag:db:22"],
        "proto": "tcp", "expires": "2027-06-02T00:00:00Z", "ticket": "T", "reason": "r", "requester": "alice",
        "approvers": ["bob", "carol"]}]}"#;
    let text = policy();
    let with = load(&format!("{}{granted}", text.trim_end().strip_suffix('}').unwrap()));
    assert!(with.ruleset.as_ref().unwrap().rules.iter().any(|rule| rule.grant.is_some()));
    let without = load(&text);
    let prints = numbers(&without);
    record(&path, &prints, NOW - 200 * DAY);
    let report = |loaded| {
        let hosts = vec![OfHost::read(&path, NOW - 180 * DAY, NOW).unwrap()];
        Report::new(&Question { loaded, hosts, since: NOW - 180 * DAY, now: NOW })
    };
    let (with, without) = (report(with), report(without));
    assert_eq!((with.rules, with.not_known.len(), with.unused.len()), (50, 0, without.unused.len()));
}
