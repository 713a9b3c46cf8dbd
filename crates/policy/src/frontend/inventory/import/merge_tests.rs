//! Whose hand-kept fields are whose.

use super::tests::{machine, merged, source, status};
use super::*;
use crate::frontend::diagnostic::Severity;
use crate::frontend::inventory::Inventory;

const KEY_1: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=";

/// One node, with what is kept by hand.
fn before(name: &str, owner: &str, key: bool) -> String {
    let key = if key { format!(r#""key": "{KEY_1}", "#) } else { String::new() };
    format!(
        r#"{{"nodes": [{{"name": "{name}", {key}"addresses": ["100.64.0.77"], {owner},
             "underlay": ["203.0.113.7"], "posture": {{"custom:diskEncrypted": true}}}}]}}"#
    )
}

const ALICE: &str = r#""user": "alice@example.com""#;

fn imported(machines: &[String], before: &str) -> (Inventory, Findings) {
    let mut findings = Findings::default();
    let mut all = vec![machine(200, "self", 3, r#", "Tags": ["tag:self"]"#)];
    all.extend_from_slice(machines);
    let import = tailscale(&source(&status(&all)), &mut findings);
    let (_, read) = merged(import, Some(before), &mut findings);
    (read, findings)
}

fn is_kept(read: &Inventory, name: &str) -> bool {
    let node = read.node(name).unwrap();
    assert_eq!(node.underlay.is_empty(), node.posture.get("custom:diskEncrypted").is_none());
    !node.underlay.is_empty()
}

#[test]
fn what_is_kept_by_hand_goes_with_the_key_in_any_order() {
    // Key 1 is called otherwise now, and a machine of another user took its name.
    let renamed = machine(1, "old-laptop", 1, "");
    for other in [2, 1] {
        let taker = machine(3, "laptop", other, "");
        for list in [[renamed.clone(), taker.clone()], [taker.clone(), renamed.clone()]] {
            let (read, findings) = imported(&list, &before("laptop", ALICE, true));
            assert!(is_kept(&read, "old-laptop") && !is_kept(&read, "laptop"));
            assert!(findings.0.is_empty(), "{findings}");
        }
    }
}

#[test]
fn a_name_alone_is_enough_for_the_same_owner_only() {
    let note = |findings: &Findings, words: &str| {
        let is = matches!(&findings.0[..], [note] if note.severity == Severity::Note && note.message.contains(words));
        assert!(is, "{words}: {findings}");
    };
    let same = "keeps by its name what it says: underlay addresses, posture attributes";
    let (read, findings) = imported(&[machine(3, "laptop", 1, "")], &before("laptop", ALICE, true));
    assert!(is_kept(&read, "laptop"));
    note(&findings, same);
    let (read, findings) = imported(&[machine(3, "laptop", 2, "")], &before("laptop", ALICE, true));
    assert!(!is_kept(&read, "laptop"));
    note(&findings, "laptop is another machine now, with another key and not of the same owner");
    // Tags have no order, and fewer or more of them are another owner.
    let tagged = |tags: &str| machine(3, "srv", 3, &format!(r#", "Tags": [{tags}]"#));
    let owner = r#""tags": ["tag:b", "tag:a"]"#;
    for (tags, kept) in [(r#""tag:a", "tag:b""#, true), (r#""tag:a""#, false)] {
        let (read, findings) = imported(&[tagged(tags)], &before("srv", owner, true));
        assert_eq!(is_kept(&read, "srv"), kept);
        note(&findings, if kept { same } else { "srv is another machine now" });
    }
    // A user's machine that calls itself as a server does.
    let (read, findings) = imported(&[machine(3, "srv", 1, "")], &before("srv", owner, true));
    assert!(!is_kept(&read, "srv"));
    note(&findings, "srv is another machine now");
}

#[test]
fn machines_of_other_tailnets_have_no_owner_in_common() {
    let theirs = |number| machine(number, "nas", 2, "").replace("tail1234", "tail9999");
    let before = before("nas.tail9999.ts.net", r#""tags": [], "jailed": true"#, true);
    let (read, _) = imported(&[theirs(1)], &before);
    assert!(is_kept(&read, "nas.tail9999.ts.net"), "by its key");
    let (read, findings) = imported(&[theirs(3)], &before);
    assert!(!is_kept(&read, "nas.tail9999.ts.net"));
    assert!(findings.to_string().contains("is another machine now"), "{findings}");
}

#[test]
fn a_node_without_a_key_is_taken_by_its_owner_and_by_no_other() {
    let (read, findings) = imported(&[machine(3, "laptop", 1, "")], &before("laptop", ALICE, false));
    assert!(is_kept(&read, "laptop") && read.node("laptop").unwrap().key.is_some());
    assert!(matches!(&findings.0[..], [note] if note.severity == Severity::Note), "{findings}");
    let mut findings = Findings::default();
    let list = status(&[machine(200, "self", 1, ""), machine(3, "laptop", 2, "")]);
    let import = tailscale(&source(&list), &mut findings).unwrap();
    let hand = before("laptop", ALICE, false);
    let existing = crate::frontend::inventory::parse(&Source::new("i", &hand), &mut findings);
    merge(import, existing.as_ref(), &mut findings);
    assert!(
        matches!(&findings.0[..], [error] if error.severity == Severity::Error
            && error.message.contains("a machine of another owner in the list")),
        "{findings}"
    );
}

#[test]
fn two_of_one_name_or_key_do_not_both_inherit() {
    let mut findings = Findings::default();
    let list = status(&[machine(3, "laptop", 1, ""), machine(4, "laptop", 1, "")]);
    let import = tailscale(&source(&list), &mut findings).unwrap();
    let hand = before("laptop", ALICE, true);
    let existing = crate::frontend::inventory::parse(&Source::new("i", &hand), &mut findings);
    let made = merge(import, existing.as_ref(), &mut findings);
    assert_eq!(made.nodes.iter().filter(|node| !node.underlay.is_empty()).count(), 1);
}

#[test]
fn the_other_keys_of_a_change_stay_with_their_node() {
    let two = before("laptop", ALICE, true).replace(
        r#""addresses""#,
        r#""keys": ["AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="], "addresses""#,
    );
    let (read, findings) = imported(&[machine(1, "renamed", 1, "")], &two);
    // It was written and read for this.
    let node = read.node("renamed").unwrap();
    assert!(is_kept(&read, "renamed") && findings.0.is_empty(), "{findings}");
    let last = |key: &[u8; 32]| (key[0], key[31]);
    assert_eq!(node.own_keys().map(|key| last(&key)).collect::<Vec<_>>(), [(0, 1), (2, 0)]);
    // A key that nobody had is the only one.
    let (other, _) = imported(&[machine(3, "laptop", 1, "")], &two);
    assert_eq!(other.node("laptop").unwrap().own_keys().count(), 1);
}

#[test]
fn workloads_go_with_their_hosts() {
    let text = format!(
        r#"{{"nodes": [
            {{"name": "h", "key": "{KEY_1}", "addresses": ["100.64.0.1"], "routes": ["10.9.0.1/32"], "tags": ["tag:a"], "workloads": [
                {{"name": "w", "addresses": ["10.9.0.1"], "tags": ["tag:w"], "match": {{"unit": "w.service"}}}}]}},
            {{"name": "by-hand", "addresses": ["100.64.0.2"], "routes": ["10.9.0.2/32"], "workloads": [
                {{"name": "v", "addresses": ["10.9.0.2"], "match": {{"unit": "v.service"}}}}]}}]}}"#
    );
    let after = |listed: Vec<Listed>| {
        let mut findings = Findings::default();
        let before = crate::frontend::inventory::parse(&source(&text), &mut findings).unwrap();
        let merged = merge(Import { nodes: listed, users: Vec::new() }, Some(&before), &mut findings);
        let read = crate::frontend::inventory::parse(&source(&write(&merged)), &mut findings).unwrap();
        let names: Vec<_> = read.nodes.iter().map(|node| node.name.clone()).collect();
        (names.join(" "), findings.to_string())
    };
    let mut key = [0; 32];
    key[31] = 1;
    let renamed = Listed {
        name: "new".into(),
        key: Some(key),
        addresses: None,
        routes: None,
        owner: None,
        posture: serde_json::Map::new(),
        posture_expires: BTreeMap::new(),
        expires: None,
        jailed: None,
    };
    assert_eq!(after(vec![renamed]), ("by-hand by-hand/v new new/w".into(), String::new()));
    let (names, findings) = after(Vec::new());
    assert_eq!(names, "by-hand by-hand/v");
    assert!(findings.contains("h/w is left out with its host"), "{findings}");
}
