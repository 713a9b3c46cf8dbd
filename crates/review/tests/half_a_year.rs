//! Half a year of a host, by a clock of the test's own: what the pack has, and what its page says.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bulkhead_api::event::{Action, Actor, Event, Timestamp};
use bulkhead_api::history::{Entry, Origin, Standing as Kept, Summary};
use bulkhead_api::mode::Mode;
use bulkhead_api::record::{Clock, Record};
use bulkhead_history::answer::{OfHost, Question};
use bulkhead_history::{Batch, DAY, End, History, RuleNote, Use, Verdict};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::fingerprint::fingerprints;
use bulkhead_policy::source::Source;
use bulkhead_review::pack::{File, Head, Log, Standing};
use bulkhead_review::{Gather, Pack, of_history, page};

/// 1 June 2027, noon.
const NOW: u64 = 1_811_851_200;
const SINCE: u64 = NOW - 180 * DAY;
const SECOND: u64 = 1_000_000_000;

const NODES: [(&str, &str); 8] = [
    ("oms-1", "oms"),
    ("engine-1", "engine"),
    ("engine-2", "engine"),
    ("risk-1", "risk"),
    ("mon-1", "monitoring"),
    ("backup-1", "backup"),
    ("bastion-1", "bastion"),
    ("research-1", "research"),
];

fn address(name: &str) -> IpAddr {
    let index = NODES.iter().position(|(node, _)| *node == name);
    index.map_or([198, 51, 100, 7].into(), |index| IpAddr::from([100, 64, 0, index as u8 + 1]))
}

fn inventory() -> String {
    let node = |(name, tag): &(&str, &str)| {
        format!(r#"{{"name": "{name}", "addresses": ["{}"], "tags": ["tag:{tag}"]}}"#, address(name))
    };
    format!(r#"{{"nodes": [{}]}}"#, NODES.iter().map(node).collect::<Vec<_>>().join(",\n"))
}

const POLICY: &str = r#"{
  "tagOwners": {"tag:oms": [], "tag:engine": [], "tag:risk": [], "tag:monitoring": [], "tag:backup": [], "tag:bastion": [], "tag:research": []},
  "acls": [
    {"name": "orders", "action": "accept", "src": ["tag:engine"], "proto": "tcp", "dst": ["tag:oms:9000-9100"],
      "owner": "Trading <trading@example.com>", "ticket": "OPS-7", "reason": "order flow", "reviewBy": "2027-08-31"},
    {"name": "risk", "action": "accept", "src": ["tag:risk"], "proto": "tcp", "dst": ["tag:oms:9443"], "owner": "Risk", "ticket": "RSK-12", "reviewBy": "2027-05-31"},
    {"name": "metrics", "action": "accept", "src": ["tag:monitoring"], "proto": "tcp", "dst": ["tag:oms:9100"], "owner": "Platform"},
    {"name": "backup", "action": "accept", "src": ["tag:backup"], "dst": ["tag:oms:22"], "owner": "Storage", "reason": "<script>alert(1)</script>"},
    {"name": "ssh", "action": "accept", "src": ["tag:bastion"], "proto": "tcp", "dst": ["tag:oms:22"]}
  ]
}
"#;

/// Written to the history each day.
fn batch(prints: &[String], time: u64) -> Batch {
    let mut batch = Batch { looks: 1440, ..Batch::default() };
    let mut add = |rule: Option<usize>, source: &str, port, verdict, count| {
        let end = |name: &str| End {
            name: NODES.iter().any(|(node, _)| *node == name).then(|| name.to_owned()),
            address: Some(address(name)),
        };
        let rule = rule.map(|rule| prints[rule].clone());
        let (source, destination) = (end(source), end("oms-1"));
        batch.add(Use { rule, source, destination, port, protocol: 6, verdict }, count, time);
    };
    add(Some(0), "engine-1", 9000, Verdict::Allowed, 480);
    add(Some(0), "engine-2", 9001, Verdict::Allowed, 470);
    add(Some(1), "risk-1", 9443, Verdict::Allowed, 90);
    add(Some(2), "mon-1", 9100, Verdict::Allowed, 1440);
    add(None, "research-1", 9000, Verdict::Dropped, 12);
    if time > NOW - 20 * DAY {
        add(None, "a stranger", 22, Verdict::Dropped, 400);
        add(None, "mon-1", 9200, Verdict::StagedDrops, 7);
    }
    if (time / DAY).is_multiple_of(9) {
        add(Some(4), "bastion-1", 22, Verdict::Allowed, 3);
    }
    batch
}

fn question(directory: &Path) -> Question {
    let mut loaded = Loaded::new(
        Source::new("/etc/bulkhead/policy.hujson", POLICY),
        Some(Source::new("/etc/bulkhead/inventory.json", &inventory())),
        &Scope::default(),
    );
    loaded.check(NOW * SECOND);
    assert!(!loaded.findings.has_errors(), "{:?}", loaded.findings.0);
    let ruleset = loaded.ruleset.as_ref().unwrap();
    let all: Vec<usize> = (0..ruleset.rules.len()).collect();
    let prints = fingerprints(ruleset, &all, "");
    let path = directory.join("history.db");
    let (mut history, _) = History::open(&path, "oms-1", SINCE).unwrap();
    let note = |(number, fingerprint): (u32, &String)| RuleNote {
        fingerprint: fingerprint.clone(),
        number,
        name: None,
        position: None,
    };
    let rules = Some((1..).zip(&prints).map(note).collect());
    history.write(&Batch { rules, looks: 1, ..Batch::default() }, SINCE - DAY).unwrap();
    for day in 0..=180 {
        history.write(&batch(&prints, SINCE + day * DAY), SINCE + day * DAY).unwrap();
    }
    drop(history);
    let host = OfHost::read(&path, SINCE, NOW).unwrap();
    Question { loaded, hosts: vec![host], since: SINCE, now: NOW }
}

fn record(time: u64, event: &str) -> Record {
    let event = event.trim().trim_start_matches('{');
    let text = format!(r#"{{"time":"{}","node":"oms-1",{event}"#, Timestamp::from_unix(time));
    let event = Event::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    Record {
        host: "oms-1".to_owned(),
        sequence: 0,
        clock: Clock { synchronized: true, ..Clock::default() },
        files: None,
        event,
    }
}

fn covered(generation: u32, mode: &str) -> String {
    let hook = r#"{"interface":"wg0","hook":"tcx-ingress","program":7,"tag":"0011223344556677"}"#;
    let [policy, inventory] = ["c0ffee", "decade"].map(|digest| digest.repeat(10));
    format!(
        r#"{{"generation":{generation},"mode":"{mode}","policy":"{policy}","inventory":"{inventory}","hooks":[{hook}]}}"#
    )
}

fn interval(from: u64, generation: u32, mode: &str, unenforced: u64) -> String {
    let open =
        if unenforced == 0 { String::new() } else { format!(r#","unenforced":{{"wg0":{unenforced}}}"#) };
    format!(
        r#"{{"kind":"coverage","since":"{}","whole":{},"at_start":{}{open},"looks":60,"longest_look":1000000000}}"#,
        Timestamp::from_unix(from),
        unenforced == 0,
        covered(generation, mode)
    )
}

fn drops(reason: &str, count: u64) -> String {
    format!(
        r#"{{"kind":"drop","direction":"ingress","source":{{"address":"100.64.0.8","name":"research-1"}},
        "destination":{{"address":"100.64.0.1","name":"oms-1"}},"destination_port":9000,"protocol":"tcp",
        "reason":"{reason}","interface":"wg0","count":{count},"bytes":{},"generation":4,"audit":false}}"#,
        count * 60
    )
}

fn balance(dropped: u64, settled: bool) -> String {
    let account = |dropped| {
        format!(
            r#"{{"dropped":{dropped},"told":{dropped},"unwritten":0,"lost":0,"records":0,"settled":{settled}}}"#
        )
    };
    format!(
        r#"{{"kind":"balance","counted_since":"2026-12-01T00:00:00Z","even":{},"odd":{},"unreported":0,"unread":0,"reasons":[]}}"#,
        account(dropped),
        account(0)
    )
}

/// The log: audit mode for two weeks, a night without an agent, an interface that was open for a while.
fn records() -> Vec<Record> {
    let mut records = Vec::new();
    let hour = 3600 * SECOND;
    let start = (SINCE + 5 * DAY) * SECOND;
    let mut dropped = 0;
    let mut add = |time, event: &str| records.push(record(time, event));
    add(
        start,
        r#"{"kind":"control","action":"start","outcome":"done","by":{"via":"agent"},"generation_before":0,"generation":3}"#,
    );
    add(start, &balance(0, true));
    for at in 0..175 * 24 {
        let from = start + at * hour;
        let day = at / 24;
        if day == 60 && at % 24 < 9 {
            continue;
        }
        if at == 14 * 24 {
            let by = r#"{"via":"socket","uid":1000,"gid":1000,"pid":77,"comm":"bulkhead"}"#;
            let (policy, inventory) = ("c0ffee".repeat(10), "decade".repeat(10));
            add(
                from,
                &format!(
                    r#"{{"kind":"control","action":"apply","outcome":"done","by":{by},"subject":"/etc/bulkhead/policy.hujson",
                "generation_before":3,"generation":4,"policy":"{policy}","inventory":"{inventory}"}}"#
                ),
            );
        }
        if at % 24 == 10 {
            let noise = 40 + at * 7919 % 90;
            add(from, &drops("no_rule", noise));
            add(from, &drops("unknown_address", noise / 3));
            dropped += noise + noise / 3;
            if day % 31 == 5 {
                add(from, &drops("initiator_rate", 900));
                dropped += 900;
            }
        }
        let mode = if day < 14 { "audit" } else { "enforce" };
        let generation = if day < 14 { 3 } else { 4 };
        let is_open = at == 100 * 24;
        if is_open {
            add(
                from + 40 * SECOND,
                &format!(
                    r#"{{"kind":"unenforced","interface":"wg0","since":"{}","milliseconds":40000,
                "cause":"tcx-ingress is not attached","effect":"closed","generation":4,"agent":true}}"#,
                    Timestamp::from_unix(from)
                ),
            );
        }
        add(from + hour, &interval(from, generation, mode, if is_open { 40 * SECOND } else { 0 }));
        add(from + hour, &balance(dropped, day != 120 || at % 24 != 0));
    }
    let lost =
        r#"{"kind":"lost","events":12,"drops":31,"cause":"refused","detail":"No space left on device"}"#;
    add((NOW - 9 * DAY) * SECOND, lost);
    records.sort_by_key(|record| record.event.time);
    records
}

fn kept() -> Entry {
    let by =
        Actor::Socket { uid: 1000, gid: 1000, pid: Some(77), comm: Some("bulkhead".to_owned()), exe: None };
    let lines = ["+ bastion-1 -> oms-1  tcp:22", "- research-1 -> oms-1  tcp:9000  (IPv4 only)"];
    let difference = Summary { lines: lines.map(str::to_owned).to_vec(), more: 0 };
    let time = (SINCE + 19 * DAY) * SECOND;
    Entry {
        generation: 4,
        standing: Kept::Enforced,
        applied: String::new(),
        origin: Origin { action: Action::Apply, by, time, difference },
        mode: Mode::Enforce,
        policy: "policy".to_owned(),
        inventory: "inventory".to_owned(),
        policy_sha256: "c0ffee".repeat(10),
        inventory_sha256: "decade".repeat(10),
    }
}

fn pack() -> Pack {
    let directory = tempfile::tempdir().unwrap();
    let question = question(directory.path());
    let mut gather = Gather::new(Timestamp::from_unix(SINCE * SECOND), Timestamp::from_unix(NOW * SECOND));
    let records = records();
    (0..).zip(&records).for_each(|(number, record)| gather.take(number, record));
    let log = gather.end(&[kept()], |by| match by {
        Actor::Socket { .. } => "alice\u{1b}[2J (bulkhead)".to_owned(),
        _ => "the agent".to_owned(),
    });
    let history = of_history(&question);
    let file = |name: &str| File { name: name.to_owned(), sha256: "c0ffee".repeat(10) };
    let head = Head {
        host: "oms-1.example.com".to_owned(),
        nodes: vec!["oms-1".to_owned()],
        version: "0.1.0".to_owned(),
        made: Timestamp::from_unix(NOW * SECOND),
        since: Timestamp::from_unix(SINCE * SECOND),
        policy: file("/etc/bulkhead/policy.hujson"),
        inventory: file("/etc/bulkhead/inventory.json"),
        is_enforced: true,
        enforced: log.enforced.clone(),
        log: Log {
            origin: "oms-1.example.com/bulkhead".to_owned(),
            size: records.len() as u64,
            root: "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=".to_owned(),
            signed_by: vec!["oms-1.example.com/bulkhead+2b7e1516+AXk=".to_owned()],
            faults: Vec::new(),
            read: log.read,
            unsynchronized: log.unsynchronized,
            begins: log.begins,
        },
    };
    Pack::new(head, log, history)
}

#[test]
fn the_pack_has_exactly_what_was_recorded() {
    let pack = pack();
    let standing: Vec<_> =
        pack.rules.rules.iter().map(|rule| (rule.name.as_deref().unwrap(), rule.standing)).collect();
    let wanted = [
        ("orders", Standing::Wider),
        ("risk", Standing::AsUsed),
        ("metrics", Standing::AsUsed),
        ("backup", Standing::Unused),
        ("ssh", Standing::AsUsed),
    ];
    assert_eq!(standing, wanted);
    let orders = &pack.rules.rules[0];
    assert_eq!((orders.used.looks, orders.used.last.as_deref()), (181 * 950, Some("2027-06-01")));
    assert!(orders.narrower.as_ref().unwrap().contains("tag:oms:9000-9001"), "{orders:?}");
    let overdue: Vec<_> =
        pack.rules.rules.iter().filter(|rule| rule.is_overdue).map(|rule| rule.number).collect();
    assert_eq!(overdue, [2]);

    let (hour, shares) = (3600 * SECOND, pack.coverage.shares);
    assert_eq!(shares.audit, 14 * 24 * hour);
    assert_eq!(shares.unenforced, 40 * SECOND);
    assert_eq!(shares.unknown, (5 * 24 + 9) * hour);
    assert_eq!(shares.enforced + shares.audit + shares.unenforced + shares.unknown, 180 * 24 * hour);
    let last = &pack.head.enforced.as_ref().unwrap().of;
    assert_eq!((last.generation, last.mode), (4, Mode::Enforce));

    // What is not known is no zero: the first days of the time have no agent's word.
    let known = |day: &bulkhead_review::pack::DayOfDrops| day.attested != 0;
    assert_eq!(pack.drops.days.iter().filter(|day| !known(day)).count(), 5);
    assert_eq!(pack.drops.days.iter().position(known), Some(5));
    let told: u64 = pack.drops.reasons.iter().map(|of| of.dropped).sum();
    assert_eq!((told, pack.losses.told), (pack.losses.dropped, pack.losses.dropped));
    assert_eq!((pack.losses.open.len(), pack.losses.lost.len(), pack.unenforced.times.len()), (1, 1, 1));
    let difference = pack.changes.changes[1].difference.as_ref().unwrap();
    assert_eq!((pack.changes.changes.len(), difference.lines.len()), (2, 2));
    assert_eq!((pack.staged.lines.len(), pack.staged.lines[0].source.as_str()), (1, "mon-1"));

    let matrix = &pack.conversations;
    assert_eq!((matrix.sources.len(), &matrix.destinations[..]), (7, &["oms-1".to_owned()][..]));
    let stranger = matrix.sources.iter().position(|source| source == "198.51.100.7").unwrap();
    let cell = matrix.cells.iter().find(|cell| cell.source == stranger).unwrap();
    assert_eq!((cell.admitted, cell.dropped), (0, 20 * 400));
    assert!(serde_json::to_value(&pack).is_ok());
}

#[test]
fn the_page_says_the_same_and_nothing_in_it_is_markup_of_others() {
    let html = page::render(&pack());
    // To be looked at.
    std::fs::write(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("review.html"), &html).unwrap();
    for words in [
        "wider than its use",
        "5 rules",
        "tag:oms:9000-9001",
        "overdue",
        "Trading &lt;trading@example.com&gt;",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        r"alice\u{1b}[2J (bulkhead)",
        "- research-1 -&gt; oms-1  tcp:9000",
        "tcx-ingress is not attached",
        "before the first interval that an agent has attested",
        "No space left on device",
        "Source: event log, records",
        "history database of oms-1",
        "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
    ] {
        let words = if words == "5 rules" { "rules: 1 unused, 1 too wide" } else { words };
        assert!(html.contains(words), "{words}");
    }
    assert!(!html.contains("<script") && !html.contains('\u{1b}'), "nothing runs in it");
    let elsewhere = ["http://", "https://", "src=", "url(h", "@import", "<link"];
    assert!(elsewhere.iter().all(|sign| !html.contains(sign)), "it needs nothing from elsewhere");
}

/// Elements that have no end.
const VOID: [&str; 2] = ["meta", "br"];

#[test]
fn the_page_is_whole_by_a_parser_of_the_standard() {
    let html = page::render(&pack());
    let mut open: Vec<String> = Vec::new();
    let mut elements = 0;
    for token in html5gum::Tokenizer::new(&html) {
        match token.unwrap() {
            html5gum::Token::StartTag(tag) => {
                elements += 1;
                let name = String::from_utf8(tag.name.to_vec()).unwrap();
                if !tag.self_closing && !VOID.contains(&name.as_str()) {
                    open.push(name);
                }
            }
            html5gum::Token::EndTag(tag) => {
                let name = String::from_utf8(tag.name.to_vec()).unwrap();
                assert_eq!(open.pop(), Some(name), "closed out of turn");
            }
            html5gum::Token::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    assert!(open.is_empty() && elements > 1000, "{open:?}, {elements} elements");
}
