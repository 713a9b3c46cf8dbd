//! A store takes what continues what it has, once.

use std::fs;

use bulkhead_tlog::{Algorithm, Log, Options, SignerKey, Trust, verify};
use proptest::prelude::{ProptestConfig, any, prop};
use proptest::{prop_assert_eq, proptest};

use super::batches::{signed, unpacked, with_head};
use super::{Host, assert_whole, kind, lines, store};
use crate::{Outcome, Settings, Store, acknowledge, read};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// However a log is cut into batches, and whichever of them come again, in whatever order: each record is there once.
    #[test]
    fn any_batches_make_the_same_store(
        steps in prop::collection::vec((0..300u64, 0..3u64, any::<(bool, bool)>()), 1..10),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut host = Host::new("db-1");
        let mut at = store(directory.path());
        let mut sent = Vec::new();
        for (more, back, (again, anew)) in steps {
            host.grow(more);
            let from = at.standings().first().map_or(0, |standing| standing.records);
            let sealed = host.seal(from.saturating_sub(back * 100));
            prop_assert_eq!(kind(&at.take(Some("db-1"), &sealed.bytes).unwrap()), "taken");
            sent.push(sealed.bytes);
            if again {
                // Late ones, the newest first.
                for bytes in sent.iter().rev() {
                    let outcome = at.take(Some("db-1"), bytes).unwrap();
                    let is_known = matches!(outcome, Outcome::Taken { new: 0, .. });
                    prop_assert_eq!((is_known, outcome), (true, Outcome::Taken { node: "db-1".into(), records: host.log.size(), new: 0 }));
                }
            }
            if anew {
                drop(at);
                at = store(directory.path());
            }
        }
        prop_assert_eq!(at.standings()[0].findings.len(), 0);
        assert_whole(directory.path(), &host);
    }
}

#[test]
fn a_clock_that_was_ahead_keeps_no_report_out() {
    let directory = tempfile::tempdir().unwrap();
    let at = store(directory.path());
    let mut host = Host::new("db-1");
    host.grow(10);
    host.made = u64::MAX - 10;
    at.take(Some("db-1"), &host.seal(0).bytes).unwrap();
    (host.made, host.report.generation) = (crate::node::now(), 8);
    let outcome = at.take(Some("db-1"), &host.seal(10).bytes).unwrap();
    assert_eq!(kind(&outcome), "taken");
    let heard = at.standings()[0].heard.clone().unwrap();
    assert_eq!((heard.report.generation, heard.made), (8, host.made));
    // From there on it is as ever: one that was held back says nothing new.
    (host.made, host.report.generation) = (host.made - 60_000_000_000, 7);
    at.take(Some("db-1"), &host.seal(10).bytes).unwrap();
    assert_eq!(at.standings()[0].heard.clone().unwrap().report.generation, 8);
}

#[test]
fn each_lie_is_a_finding_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = store(directory.path());
    let mut host = Host::new("db-1");
    host.grow(300);
    let first = host.seal(0).bytes;
    at.take(Some("db-1"), &first).unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy(host.directory.path(), copied.path());
    host.grow(100);
    let gap = host.seal(350).bytes;
    assert_eq!(kind(&at.take(Some("db-1"), &gap).unwrap()), "gap");
    assert!(at.standings()[0].findings.contains_key(&crate::FindingKind::Gap));
    // Another node's, and one that says that it is this one.
    assert_eq!(kind(&at.take(Some("web-1"), &first).unwrap()), "other_node");
    let mut thief = Host::new("web-1");
    thief.node = "db-1".to_owned();
    thief.grow(500);
    let stolen = thief.seal(300).bytes;
    assert_eq!(kind(&at.take(Some("db-1"), &stolen).unwrap()), "other_key");
    let mut altered = host.seal(300).bytes;
    let last = altered.len() - 10;
    altered[last] ^= 1;
    assert_eq!(kind(&at.take(Some("db-1"), &altered).unwrap()), "malformed");
    let good = host.seal(300).bytes;
    assert_eq!(kind(&at.take(Some("db-1"), &good).unwrap()), "taken");
    assert_whole(directory.path(), &host);
    // A copy of before comes back: shorter at first, and then another log.
    let log = Log::open(copied.path(), &Options::new("other")).unwrap().0;
    let mut back = Host { directory: copied, log, ..Host::new("db-1") };
    back.made = host.made + 10;
    let shorter = back.seal(300).bytes;
    assert_eq!(kind(&at.take(Some("db-1"), &shorter).unwrap()), "rollback");
    back.log.append(b"another").unwrap();
    back.grow(20);
    let fork = back.seal(300).bytes;
    assert_eq!(kind(&at.take(Some("db-1"), &fork).unwrap()), "fork");
    assert_whole(directory.path(), &host);
    let told = |all: &[crate::Standing], node: &str| {
        let standing = all.iter().find(|standing| standing.node == node).unwrap().clone();
        standing.findings.into_iter().map(|(kind, of)| (kind.name(), of.count)).collect::<Vec<_>>()
    };
    // No record is missing any more.
    let expected = [("fork", 1), ("rollback", 1), ("other_key", 1), ("malformed", 1)];
    assert_eq!(told(&at.standings(), "db-1"), expected);
    assert_eq!(told(&at.standings(), ""), [("other_node", 1)]);
    assert_eq!(at.standings(), read(directory.path()).unwrap(), "without the collector");
    drop(at);
    assert!(!store(directory.path()).standings()[1].findings.is_empty());
    // Somebody has looked, and has the log begin anew.
    acknowledge(directory.path(), "db-1", false).unwrap();
    acknowledge(directory.path(), "", false).unwrap();
    assert!(store(directory.path()).standings().iter().all(|standing| standing.findings.is_empty()));
    let aside = acknowledge(directory.path(), "db-1", true).unwrap().unwrap();
    assert!(aside.join("log/checkpoint").exists());
    let at = store(directory.path());
    assert_eq!(kind(&at.take(Some("db-1"), &stolen).unwrap()), "gap");
    let begun = thief.seal(0).bytes;
    assert_eq!(kind(&at.take(Some("db-1"), &begun).unwrap()), "taken");
    let busy = acknowledge(directory.path(), "db-1", false).unwrap_err().to_string();
    assert!(busy.contains("a collector runs here"), "{busy}");
}

#[test]
fn keys_that_are_given_are_the_only_ones() {
    let directory = tempfile::tempdir().unwrap();
    let (mut known, mut stranger, mut forger) = (Host::new("a"), Host::new("b"), Host::new("a"));
    for host in [&mut known, &mut stranger, &mut forger] {
        host.grow(3);
    }
    let keys = [("a".to_owned(), known.log.verifier_key().clone())].into();
    let settings = Settings { keys, known_alone: true, most_nodes: 10, ..Settings::default() };
    let at = Store::open(directory.path(), settings).unwrap();
    assert_eq!(kind(&at.take(None, &stranger.seal(0).bytes).unwrap()), "unknown_node");
    assert_eq!(kind(&at.take(None, &forger.seal(0).bytes).unwrap()), "other_key");
    assert_eq!(kind(&at.take(None, &known.seal(0).bytes).unwrap()), "taken");
    drop(at);
    // And no more nodes than there may be.
    let other = tempfile::tempdir().unwrap();
    let at = Store::open(other.path(), Settings { most_nodes: 1, ..Settings::default() }).unwrap();
    assert_eq!(kind(&at.take(None, &stranger.seal(0).bytes).unwrap()), "taken");
    assert_eq!(kind(&at.take(None, &known.seal(0).bytes).unwrap()), "unknown_node");
    assert_eq!(fs::read_dir(other.path().join("nodes")).unwrap().count(), 1);
}

#[test]
fn what_is_here_is_cosigned_and_follows_the_logs_keys() {
    let directory = tempfile::tempdir().unwrap();
    let witness = SignerKey::generate("collector.example", Algorithm::Cosignature).unwrap();
    let trusted = [witness.public().clone()];
    let settings = Settings { witness: Some(witness), most_nodes: 10, ..Settings::default() };
    let at = Store::open(directory.path(), settings).unwrap();
    let mut host = Host::new("db-1");
    let first = host.log.verifier_key().clone();
    let log = directory.path().join("nodes/db-1/log");
    for round in 0..3 {
        host.grow(100);
        let from = at.standings().first().map_or(0, |standing| standing.records);
        at.take(None, &host.seal(from).bytes).unwrap();
        let trust = Trust { keys: std::slice::from_ref(&first), witnesses: &trusted, ..Trust::default() };
        let report = verify(&log, &trust).unwrap();
        assert_eq!((report.faults, report.witnesses), (vec![], vec!["collector.example".to_owned()]));
        // Not an earlier one.
        let cosigned = fs::read_to_string(log.join("cosigned")).unwrap();
        assert!(cosigned.contains(&format!("\n{}\n", host.log.size())), "{cosigned}");
        if round == 1 {
            host.log.rotate_key().unwrap();
        }
    }
    assert_eq!(lines(directory.path(), "db-1"), (0..301).collect::<Vec<_>>());
}

#[test]
fn lines_that_were_torn_or_removed_are_not_doubled() {
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::new("db-1");
    host.grow(350);
    let at = store(directory.path());
    at.take(None, &host.seal(0).bytes).unwrap();
    let records = directory.path().join("nodes/db-1/records");
    let newest = records.join("2026-11-04.jsonl");
    let whole = fs::read(&newest).unwrap();
    let position = fs::read_to_string(records.join("position")).unwrap();
    for cut in [0, 1, 100, whole.len() / 2, whole.len() - 1] {
        drop_and_write(&newest, &whole[..cut]);
        let torn = tempfile::tempdir().unwrap();
        copy(directory.path(), torn.path());
        let at = store(torn.path());
        // As the killed collector had not noted its end yet.
        fs::write(torn.path().join("nodes/db-1/records/position"), "300\n").unwrap();
        at.take(None, &host.seal(350).bytes).unwrap();
        assert_whole(torn.path(), &host);
    }
    // Blocks without what was in them.
    drop_and_write(&newest, &[&whole[..whole.len() / 2], &[0; 4096][..]].concat());
    let torn = tempfile::tempdir().unwrap();
    copy(directory.path(), torn.path());
    fs::write(torn.path().join("nodes/db-1/records/position"), "300\n").unwrap();
    store(torn.path()).take(None, &host.seal(350).bytes).unwrap();
    assert_whole(torn.path(), &host);
    // An administrator has removed all of them.
    drop(at);
    for found in fs::read_dir(&records).unwrap().map(|found| found.unwrap().path()) {
        if found.extension().is_some() {
            fs::remove_file(found).unwrap();
        }
    }
    assert_eq!(position, "350\n");
    host.grow(10);
    store(directory.path()).take(None, &host.seal(350).bytes).unwrap();
    assert_eq!(lines(directory.path(), "db-1"), (350..360).collect::<Vec<_>>());
}

/// What one host signs, or what of one host the disk has lost, is that host's finding, and others are taken.
#[test]
fn nothing_of_one_host_stops_another() {
    let directory = tempfile::tempdir().unwrap();
    let at = store(directory.path());
    let (mut bad, mut good) = (Host::new("bad"), Host::new("good"));
    bad.grow(257);
    bad.log.prune(256).unwrap();
    let honest = bad.seal(0).bytes;
    let lies = |first: &str| {
        let content = with_head(&unpacked(&honest), |head| {
            let pruned = head["pruned"].as_str().unwrap().replace("\n256\n", &format!("\n{first}\n"));
            head["pruned"] = pruned.into();
        });
        signed(&bad, &content)
    };
    for first in ["1000000", "512", "257", "0"] {
        assert_eq!(kind(&at.take(Some("bad"), &lies(first)).unwrap()), "malformed", "{first}");
    }
    assert_eq!(kind(&at.take(Some("bad"), &honest).unwrap()), "taken");
    assert_eq!(lines(directory.path(), "bad"), [256]);
    drop(at);
    // A loss of power has left files without what was in them.
    let place = directory.path().join("nodes/bad");
    for lost in ["report.json", "findings.json", "records/position"] {
        fs::write(place.join(lost), "").unwrap();
    }
    let all = read(directory.path()).unwrap();
    assert!(all.iter().any(|of| of.node == "bad" && of.findings.contains_key(&crate::FindingKind::Failed)));
    let at = store(directory.path());
    bad.grow(1);
    assert_eq!(kind(&at.take(Some("bad"), &bad.seal(257).bytes).unwrap()), "taken");
    assert_eq!(lines(directory.path(), "bad"), [256, 257]);
    drop(at);
    for lost in ["log/pinned", "log/checkpoint"] {
        let kept = fs::read(place.join(lost)).unwrap();
        fs::write(place.join(lost), "").unwrap();
        let at = store(directory.path());
        bad.grow(1);
        assert_eq!(kind(&at.take(Some("bad"), &bad.seal(257).bytes).unwrap()), "failed", "{lost}");
        good.grow(1);
        assert_eq!(kind(&at.take(Some("good"), &good.seal(0).bytes).unwrap()), "taken");
        drop(at);
        fs::write(place.join(lost), kept).unwrap();
    }
    assert_eq!(kind(&store(directory.path()).take(Some("bad"), &bad.seal(257).bytes).unwrap()), "taken");
    assert_eq!(lines(directory.path(), "bad"), [256, 257, 258, 259]);
}

/// A small batch that becomes much here: its node has said enough for the day, and others go on.
#[test]
fn no_host_fills_the_collectors_disk() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let settings = Settings { most_nodes: 9, most_daily: Some(10_000_000), ..Settings::default() };
        Store::open(directory.path(), settings).unwrap()
    };
    let at = open();
    let (mut bad, mut good) = (Host::new("bad"), Host::new("good"));
    let mut taken = 0;
    for round in 0..4 {
        for _ in 0..100 {
            bad.log.append(&[0; 65_000]).unwrap();
        }
        bad.log.checkpoint().unwrap();
        // A batch has 4 MiB.
        let outcome = at.take(Some("bad"), &bad.seal(taken).bytes).unwrap();
        match outcome {
            Outcome::Taken { records, .. } if round < 3 => taken = records,
            Outcome::Refused { kind: crate::FindingKind::TooMuch, .. } if round == 3 => {}
            other => panic!("{other:?}"),
        }
    }
    let heard = at.standings()[0].heard.clone().unwrap();
    assert_eq!((heard.made, heard.records), (bad.made, taken), "it is not silent");
    let of = |what: &str| {
        let all = fs::read_dir(directory.path().join("nodes/bad").join(what)).unwrap();
        all.map(|found| found.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    assert!(of("records") < 2 * 13_000_000, "{}", of("records"));
    good.grow(10);
    assert_eq!(kind(&at.take(Some("good"), &good.seal(0).bytes).unwrap()), "taken");
    drop(at);
    // As on another day.
    let again = open().take(Some("bad"), &bad.seal(taken).bytes).unwrap();
    assert_eq!(kind(&again), "taken");
}

fn drop_and_write(path: &std::path::Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(super) fn copy(from: &std::path::Path, to: &std::path::Path) {
    for found in fs::read_dir(from).unwrap() {
        let (path, name) = (found.as_ref().unwrap().path(), found.unwrap().file_name());
        if path.is_dir() {
            fs::create_dir_all(to.join(&name)).unwrap();
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
