//! From what a host has seen to a policy: it admits that, and nothing else.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use bulkhead_history::answer::observed::wanted;
use bulkhead_history::answer::{OfHost, Question};
use bulkhead_history::{Batch, DAY, End, History, RuleNote, Use, Verdict};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::fingerprint::fingerprints;
use bulkhead_policy::least::draft;
use bulkhead_policy::reference::{Probe, admitted};
use bulkhead_policy::source::Source;
use proptest::prelude::*;

/// 1 June 2027, noon.
const NOW: u64 = 1_811_851_200;

const INVENTORY: &str = r#"{"nodes": [
    {"name": "web-1", "addresses": ["100.64.0.1"], "tags": ["tag:web"]},
    {"name": "web-2", "addresses": ["100.64.0.2"], "tags": ["tag:web"]},
    {"name": "db-1", "addresses": ["100.64.0.3"], "tags": ["tag:db"]},
    {"name": "laptop", "addresses": ["100.64.0.4"], "user": "ann@example.com"}
]}"#;
const NAMES: [&str; 4] = ["web-1", "web-2", "db-1", "laptop"];

/// The last two are nobody's.
const ENDS: std::ops::RangeInclusive<u8> = 1..=6;
const SERVICES: [(u8, u16); 6] = [(6, 22), (6, 443), (17, 443), (6, 32_768), (132, 443), (1, 0)];

fn address(last: u8) -> IpAddr {
    IpAddr::from([100, 64, 0, last])
}

fn end(last: u8) -> End {
    let name = NAMES.get(usize::from(last) - 1).map(|name| (*name).to_owned());
    End { name, address: Some(address(last)) }
}

/// One row: ends, service, verdict, and days ago.
type Row = (u8, u8, (u8, u16), Verdict, u64);

fn row() -> impl Strategy<Value = Row> {
    let verdict = prop::sample::select(Verdict::ALL.to_vec());
    (ENDS, ENDS, prop::sample::select(SERVICES.to_vec()), verdict, 0_u64..40)
}

/// What a policy is to admit: what was used, what audit mode let pass, and what it would have dropped, unless that looks
/// like an answer; all of it in the time that is asked about.
fn expected(rows: &[Row], days: u64) -> BTreeSet<(u8, u8, (u8, u16))> {
    let is_wanted = |(_, _, (_, port), verdict, ago): &&Row| {
        let is_wanted = match verdict {
            Verdict::Allowed | Verdict::Audited => true,
            Verdict::WouldDrop => *port < 32_768,
            _ => false,
        };
        is_wanted && *ago <= days
    };
    rows.iter().filter(is_wanted).map(|(from, to, service, ..)| (*from, *to, *service)).collect()
}

fn record(path: &Path, rows: &[Row]) {
    let (mut history, _) = History::open(path, "web-1", NOW).unwrap();
    for (from, to, (protocol, port), verdict, ago) in rows {
        let (source, destination) = (end(*from), end(*to));
        let of = Use { rule: None, source, destination, port: *port, protocol: *protocol, verdict: *verdict };
        let mut batch = Batch { looks: 1, ..Batch::default() };
        batch.add(of, 1, NOW - ago * DAY);
        history.write(&batch, NOW).unwrap();
    }
}

fn load(policy: &str) -> Loaded {
    let inventory = Some(Source::new("inventory", INVENTORY));
    let mut loaded = Loaded::new(Source::new("policy", policy), inventory, &Scope::default());
    loaded.check(NOW * 1_000_000_000);
    assert!(!loaded.findings.has_errors(), "{:?}\n{policy}", loaded.findings.0);
    loaded
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_was_seen_is_admitted_and_nothing_else(
        rows in proptest::collection::vec(row().prop_filter("of two", |row| row.0 != row.1), 0..40),
        days in 1_u64..45,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.db");
        record(&path, &rows);
        let hosts = vec![OfHost::read(&path, NOW - days * DAY, NOW).unwrap()];
        let question = Question { loaded: load("{\"acls\": []}"), hosts, since: NOW - days * DAY, now: NOW };
        let inventory = question.loaded.inventory.as_ref().unwrap();
        let text = draft(&wanted(&question).observed, inventory, &[]).text;
        let ruleset = load(&text).ruleset.unwrap();
        let expected = expected(&rows, days);
        for (from, to) in ENDS.flat_map(|from| ENDS.map(move |to| (from, to))).filter(|(from, to)| from != to) {
            for (protocol, port) in SERVICES.into_iter().chain([(6, 23), (17, 22), (132, 22), (47, 0)]) {
                let probe = Probe { source: address(from), destination: address(to), protocol, port };
                let wanted = expected.contains(&(from, to, (protocol, port)));
                prop_assert_eq!(admitted(&ruleset, &probe, NOW * 1_000_000_000), wanted, "{:?}\n{}", probe, text);
            }
        }
    }
}

const EXCHANGE: &str = r#"{"nodes": [
    {"name": "web-1", "addresses": ["100.64.0.1"], "underlay": ["203.0.113.1"], "tags": ["tag:web"]},
    {"name": "db-1", "addresses": ["100.64.0.3"], "underlay": ["203.0.113.3"], "tags": ["tag:db"]}
]}"#;

#[test]
fn what_was_seen_beneath_the_overlay_is_no_rule_and_what_ends_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let policy = r#"{"acls": [{"action": "accept", "src": ["100.64.0.1"], "dst": ["100.64.0.3:22"], "expires": "2027-08-01T00:00:00Z"}]}"#;
    let loaded = Loaded::new(
        Source::new("policy", policy),
        Some(Source::new("inventory", EXCHANGE)),
        &Scope::default(),
    );
    assert!(!loaded.findings.has_errors(), "{:?}", loaded.findings.0);
    let print = fingerprints(loaded.ruleset.as_ref().unwrap(), &[0], "").remove(0);
    let (mut history, _) = History::open(&path, "web-1", NOW).unwrap();
    let end = |name: &str, address: &str| End { name: Some(name.to_owned()), address: address.parse().ok() };
    let mut batch = Batch { looks: 1, ..Batch::default() };
    for (from, to, port, rule) in
        [("100.64.0.1", "100.64.0.3", 22, Some(print)), ("203.0.113.1", "203.0.113.3", 443, None)]
    {
        let (source, destination) = (end("web-1", from), end("db-1", to));
        batch.add(Use { rule, source, destination, port, protocol: 6, verdict: Verdict::Allowed }, 1, NOW);
    }
    history.write(&batch, NOW).unwrap();
    let hosts = vec![OfHost::read(&path, NOW - DAY, NOW).unwrap()];
    let wanted = wanted(&Question { loaded, hosts, since: NOW - DAY, now: NOW });
    let ports: Vec<u16> = wanted.observed.keys().map(|observed| observed.port).collect();
    assert_eq!((ports, wanted.beneath, wanted.ending), (vec![22], 1, 1));
    let words = wanted.observed.values().next().unwrap();
    assert!(words.contains("a rule that ends on 2027-08-01"), "{words}");
}

#[test]
fn what_a_grant_admitted_is_nothing_that_a_policy_is_to_admit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    let (mut history, _) = History::open(&path, "web-1", NOW).unwrap();
    let note = |number: u32, print: &str| RuleNote {
        fingerprint: print.to_owned(),
        number,
        name: None,
        position: None,
    };
    let rules = Some(vec![note(1, "a rule"), note(1_000_001, "a grant")]);
    let mut batch = Batch { looks: 1, rules, ..Batch::default() };
    let mut used = |port, rule: &str| {
        let (source, destination) = (end(1), end(3));
        let (rule, verdict) = (Some(rule.to_owned()), Verdict::Allowed);
        batch.add(Use { rule, source, destination, port, protocol: 6, verdict }, 1, NOW);
    };
    used(443, "a rule");
    used(22, "a grant");
    // The grant and a rule of the policy.
    used(80, "a grant");
    used(80, "a rule");
    history.write(&batch, NOW).unwrap();
    // It is over by now, and in force no more.
    history.write(&Batch { rules: Some(vec![note(1, "a rule")]), ..Batch::default() }, NOW).unwrap();
    let hosts = vec![OfHost::read(&path, NOW - DAY, NOW).unwrap()];
    let question = Question { loaded: load("{\"acls\": []}"), hosts, since: NOW - DAY, now: NOW };
    let wanted = wanted(&question);
    let ports: Vec<u16> = wanted.observed.keys().map(|observed| observed.port).collect();
    assert_eq!((ports, wanted.granted), (vec![80, 443], 2));
}
