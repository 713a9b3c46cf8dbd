//! Whoever can write in the fleet directory, and has no key, has people sign nothing that they are not shown.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[expect(dead_code, reason = "each file of tests uses some of it")]
mod common;

use bulkhead_fleet::{Draft, Repository, digest};
use common::*;
use serde_json::{Value, json};

fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut to = serde_json::Serializer::with_formatter(&mut bytes, olpc_cjson::CanonicalFormatter::new());
    serde::Serialize::serialize(value, &mut to).unwrap();
    bytes
}

/// What somebody writes into a draft, and what it is called.
type Change = (&'static str, fn(&mut Value));

/// Adds a key of a role.
fn add(root: &mut Value, role: &str, seed: u8, name: Option<&str>) {
    let public: String =
        key(seed).public().bytes().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut new = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}});
    if let Some(name) = name {
        new["x-bulkhead-name"] = json!(name);
    }
    let id = digest(&canonical(&new));
    root["keys"][&id] = new;
    root["roles"][role]["keyids"].as_array_mut().unwrap().push(json!(id));
}

#[test]
fn what_is_signed_is_shown_with_its_fleet_and_what_was_before() {
    let (one, other) = (Fleet::new(), Fleet::new());
    let shown = |fleet: &Fleet| {
        fleet.put("one", &[ALICE, BOB]);
        fleet.put_inventory("{}");
        let keyholders = people(&[("alice", ALICE), ("bob", BOB), ("carol", 40)]);
        let mut drafts = fleet.tree.rotate(&keyholders, now()).unwrap();
        drafts.truncate(2);
        drafts.iter().map(Draft::lines).collect::<Vec<_>>()
    };
    let (lines, others) = (shown(&one), shown(&other));
    // The same people, and the same name, which another directory has too.
    assert_eq!((&lines[0][0], &lines[1][0]), (&others[0][0], &others[1][0]));
    assert_ne!(lines[0][1], others[0][1]);
    assert!(lines[0][1].starts_with("  x-bulkhead-fleet ") && lines[0][1] == lines[1][1], "{lines:?}");
    // A key in place of another, under the same name.
    let was: Vec<_> = lines[0].iter().filter(|line| line.contains("    was 2 of alice ")).collect();
    assert_eq!(was.len(), 2, "{lines:?}");
    assert!(was.iter().all(|line| !lines[0].contains(&line.replace("    was", "  roots:"))), "{lines:?}");
}

#[test]
fn a_root_that_says_more_than_is_shown_is_not_signed() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    fleet.put_inventory("{}");
    let drafts =
        fleet.tree.rotate(&people(&[("alice", ALICE), ("bob", BOB), ("carol", CAROL)]), now()).unwrap();
    let lines = drafts[0].lines().join("\n");
    for of in ["freshness: 1 of online", "roots: 2 of alice", "policy.hujson: 2 of"] {
        assert!(lines.contains(of), "{lines}");
    }
    assert_eq!(fleet.tree.waiting().unwrap().len(), 2);
    let path = fleet.path().join("policy/drafts/2.root.json");
    let good = std::fs::read(&path).unwrap();
    let changes: &[Change] = &[
        ("two keys without names", |root| {
            add(root, "targets", 40, None);
            add(root, "targets", 41, None);
        }),
        ("a name that is none", |root| add(root, "root", 40, Some("x\u{1b}[2K"))),
        ("alice's key twice", |root| add(root, "root", ALICE, Some("alicia"))),
        ("one more who freshens", |root| add(root, "timestamp", 40, Some("other"))),
        ("one more for snapshots", |root| add(root, "snapshot", 40, Some("other"))),
        ("one more for policies", |root| add(root, "targets", 40, Some("other"))),
        ("fewer for policies", |root| root["roles"]["targets"]["threshold"] = json!(1)),
        ("a key of no role", |root| {
            add(root, "targets", 40, Some("other"));
            root["roles"]["targets"]["keyids"].as_array_mut().unwrap().pop();
        }),
        ("members", |root| root["x-more"] = json!(1)),
        ("members of a role", |root| root["roles"]["root"]["x-more"] = json!(1)),
        ("no consistent snapshots", |root| root["consistent_snapshot"] = json!(false)),
        ("another version", |root| root["version"] = json!(3)),
        ("another repository", |root| root["x-bulkhead-repository"] = json!("inventory")),
        ("another fleet", |root| root["x-bulkhead-fleet"] = json!("00".repeat(16))),
    ];
    for (what, change) in changes {
        let mut root: Value = serde_json::from_slice(&good).unwrap();
        change(&mut root);
        std::fs::write(&path, serde_json::to_vec(&root).unwrap()).unwrap();
        let error = fleet.tree.waiting().expect_err(what).to_string();
        assert!(error.contains("2.root.json"), "{what}: {error}");
    }
    std::fs::write(&path, &good).unwrap();
    assert_eq!(fleet.tree.waiting().unwrap().len(), 2);
}

#[test]
fn targets_that_say_more_than_is_shown_are_not_signed() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let draft = fleet.propose("two");
    assert_eq!(draft.name(), "policy version 2");
    let path = fleet.path().join("policy/drafts/2.targets.json");
    let good = std::fs::read(&path).unwrap();
    let changes: &[Change] = &[
        ("another version", |targets| targets["version"] = json!(9)),
        ("another target", |targets| {
            targets["targets"]["b"] = targets["targets"]["policy.hujson"].clone();
        }),
        ("delegations", |targets| targets["delegations"] = json!({"keys": {}, "roles": []})),
        ("members", |targets| targets["x-more"] = json!(1)),
        ("members of a target", |targets| targets["targets"]["policy.hujson"]["custom"] = json!({"a": 1})),
        ("no digest", |targets| targets["targets"]["policy.hujson"]["hashes"]["sha256"] = json!("00")),
        ("another fleet", |targets| targets["x-bulkhead-fleet"] = json!("00".repeat(16))),
        ("no target", |targets| targets["targets"] = json!({})),
    ];
    for (what, change) in changes {
        let mut targets: Value = serde_json::from_slice(&good).unwrap();
        change(&mut targets);
        std::fs::write(&path, serde_json::to_vec(&targets).unwrap()).unwrap();
        let error = fleet.tree.waiting().expect_err(what).to_string();
        assert!(error.contains("2.targets.json"), "{what}: {error}");
    }
    std::fs::write(&path, &good).unwrap();
    // Beside the first root of the inventory.
    assert_eq!(fleet.tree.waiting().unwrap().len(), 2);
    assert_eq!(fleet.tree.standing(Repository::Policy).unwrap().version, Some(1));
}
