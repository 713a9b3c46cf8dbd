//! Half a year of a host, by a clock of the test's own: what the pack has, and what its page says.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

mod alarms;
mod log;
mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bulkhead_api::event::{Actor, Timestamp};
use bulkhead_api::mode::Mode;
use bulkhead_history::answer::{OfHost, Question};
use bulkhead_history::{Batch, DAY, End, History, RuleNote, Use, Verdict};
use bulkhead_policy::check::{Loaded, Scope};
use bulkhead_policy::fingerprint::fingerprints;
use bulkhead_policy::source::Source;
use bulkhead_review::pack::{File, Head, Log, Standing};
use bulkhead_review::{Gather, Pack, of_history, page};

use crate::log::{kept, records};

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
    Pack::new(head, log, history, Some(tls::coverage()))
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
    assert_eq!((pack.changes.changes.len(), difference.lines.len()), (4, 2));
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
        "scan ingress 100.64.0.8 &lt;b&gt;found&lt;/b&gt;",
        "research-1 (100.64.0.8)",
        "2 times",
        "no end on record",
        "3 alarms raised",
        "1 quarantine by the agent itself",
        "denied 50 times within 60 s",
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
