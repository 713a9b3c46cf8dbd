//! Whoever can write in the fleet directory, and has no key: what nobody signed is neither read as signed, nor signed anew,
//! nor keeps what is published from being freshened.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[expect(dead_code, reason = "each file of tests uses some of it")]
mod common;

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use bulkhead_fleet::{Publication, Repository, digest};
use bulkhead_grants::SecretKey;
use common::forged::{canonical, forced, hex};
use common::*;
use serde_json::{Value, json};

fn edit(path: &PathBuf, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    let bytes = serde_json::to_vec(&value).unwrap();
    std::fs::write(path, &bytes).unwrap();
    bytes
}

fn publish(fleet: &Fleet, by: &SecretKey) -> Result<Vec<String>, bulkhead_fleet::Error> {
    let mut sign = |bytes: &[u8]| Ok(by.sign_bytes(bytes));
    let how = Publication { share: None, fresh: DAY, now: now() };
    fleet.tree.publish(Repository::Policy, &by.public(), &mut sign, how)
}

fn write(fleet: &Fleet, files: &Files) {
    for (name, bytes) in files {
        std::fs::write(fleet.path().join(name), bytes).unwrap();
    }
}

#[test]
fn an_inventory_that_nobody_signed_is_not_read() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    fleet.put_inventory("{}");
    assert_eq!(fleet.tree.bundle(Repository::Inventory).unwrap(), Some((1, "{}".to_owned())));
    // All that names it fits, up to the timestamp; only the signatures do not.
    let at = |name: &str| fleet.path().join("inventory/metadata").join(name);
    let evil = r#"{"nodes": []}"#;
    std::fs::write(fleet.path().join(Repository::Inventory.bundle(&digest(evil.as_bytes()))), evil).unwrap();
    let good = fleet.files();
    let targets = edit(&at("1.targets.json"), |targets| {
        let target = &mut targets["signed"]["targets"]["inventory.json"];
        target["length"] = json!(evil.len());
        target["hashes"]["sha256"] = json!(digest(evil.as_bytes()));
    });
    let meta = |of: &mut Value, bytes: &[u8]| {
        of["length"] = json!(bytes.len());
        of["hashes"]["sha256"] = json!(digest(bytes));
    };
    let snapshot = edit(&at("1.snapshot.json"), |snapshot| {
        meta(&mut snapshot["signed"]["meta"]["targets.json"], &targets);
    });
    edit(&at("timestamp.json"), |timestamp| {
        meta(&mut timestamp["signed"]["meta"]["snapshot.json"], &snapshot);
    });
    let online = key(ONLINE);
    let refused = || {
        let error = fleet.tree.bundle(Repository::Inventory).unwrap_err().to_string();
        assert!(error.contains("restore the fleet directory"), "{error}");
        fleet.tree.standing(Repository::Inventory).unwrap_err();
        fleet.tree.propose(Repository::Inventory, "[]", now(), true).unwrap_err();
        let mut sign = |bytes: &[u8]| Ok(online.sign_bytes(bytes));
        let how = Publication { share: None, fresh: DAY, now: now() };
        fleet.tree.publish(Repository::Inventory, &online.public(), &mut sign, how).unwrap_err();
    };
    refused();
    // Nor one that only who freshens has signed, and that all but the targets' own signature is good for.
    let resign = |value: &mut Value| {
        let signature = online.sign_bytes(&canonical(&value["signed"]));
        value["signatures"][0]["sig"] = json!(hex(&signature));
    };
    let snapshot = edit(&at("1.snapshot.json"), resign);
    edit(&at("timestamp.json"), |timestamp| {
        meta(&mut timestamp["signed"]["meta"]["snapshot.json"], &snapshot);
        resign(timestamp);
    });
    refused();
    write(&fleet, &good);
    fleet.tree.bundle(Repository::Inventory).unwrap();
    // Nor a root that its own people have not signed.
    edit(&at("1.root.json"), |root| root["signed"]["roles"]["root"]["threshold"] = json!(1));
    refused();
    write(&fleet, &good);
    let mut next: Value = serde_json::from_slice(&good["inventory/metadata/1.root.json"]).unwrap();
    next["signed"]["version"] = json!(2);
    std::fs::write(at("2.root.json"), serde_json::to_vec(&next).unwrap()).unwrap();
    refused();
    // Nor the policy's root in place of the inventory's.
    std::fs::remove_file(at("2.root.json")).unwrap();
    std::fs::write(at("1.root.json"), &good["policy/metadata/1.root.json"]).unwrap();
    refused();
}

#[test]
fn a_draft_that_is_none_keeps_nothing_from_being_freshened() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let drafts = fleet.path().join("policy/drafts");
    let is_freshened = |words: &str| {
        let told = fleet.publish().unwrap().join("\n");
        assert!(told.contains("policy is fresh until") && told.contains(words), "{told}");
        let standing = fleet.tree.standing(Repository::Policy).unwrap();
        assert_eq!(standing.version, Some(1));
    };
    // A draft whose version is another than its file's name, with all signatures that the version has got.
    fleet.propose("two");
    let path = drafts.join("2.targets.json");
    edit(&path, |targets| targets["version"] = json!(1));
    is_freshened("2.targets.json: this is no draft");
    assert!(fleet.tree.standing(Repository::Policy).unwrap().waiting[0].contains("2.targets.json"));
    for name in ["2.targets.json", "2.root.json"] {
        let path = drafts.join(name);
        let _ = std::fs::remove_file(&path);
        symlink("/dev/zero", &path).unwrap();
        is_freshened("no regular file");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{").unwrap();
        is_freshened("it is damaged");
        std::fs::remove_file(&path).unwrap();
    }
    is_freshened("");
}

#[test]
fn a_signature_that_cannot_be_read_is_nobodys() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let draft = fleet.propose("two");
    let drafts = fleet.path().join("policy/drafts");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let pipe = drafts.join("2.targets.a.sig");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::fs::create_dir(drafts.join("2.targets.b.sig")).unwrap();
    symlink("/dev/zero", drafts.join("2.targets.c.sig")).unwrap();
    std::fs::write(drafts.join("2.targets.d.sig"), vec![b' '; 1 << 20]).unwrap();
    assert!(draft.signed().unwrap().is_empty());
    sign(&draft, &[ALICE, BOB]);
    assert_eq!(draft.signed().unwrap(), ["alice", "bob"]);
    fleet.publish().unwrap();
    assert_eq!(fleet.tree.standing(Repository::Policy).unwrap().version, Some(2));
}

#[test]
fn nobody_is_named_who_has_not_signed() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let root: Value = serde_json::from_slice(&fleet.first_root()).unwrap();
    let keys = root["signed"]["keys"].as_object().unwrap();
    let carol = keys.iter().find(|(_, key)| key["x-bulkhead-name"] == "carol").unwrap().0.clone();
    let files = forced(&fleet, "two", &[ALICE, BOB], |targets| {
        let forged = json!({"keyid": carol, "sig": "00".repeat(64)});
        targets["signatures"].as_array_mut().unwrap().push(forged);
    });
    let (checked, _) = Host::new(&fleet).look(Carrier::of(files.clone())).unwrap();
    assert_eq!((checked.version, &*checked.signers.join(",")), (2, "alice,bob"));
    write(&fleet, &files);
    let standing = fleet.tree.standing(Repository::Policy).unwrap();
    assert_eq!((standing.version, &*standing.signers.join(",")), (Some(2), "alice,bob"));
}

/// A timestamp that has the greatest version but one, by a thief of the key that freshens: with another key hosts go on.
#[test]
fn another_key_that_freshens_is_the_way_back_from_a_version_without_successor() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    fleet.put_inventory("{}");
    let (host, online) = (Host::new(&fleet), key(ONLINE));
    host.look(directory(&fleet)).unwrap();
    let path = fleet.path().join("policy/metadata/timestamp.json");
    for version in [u64::MAX - 1, u64::MAX, 1 << 40] {
        edit(&path, |timestamp| {
            timestamp["signed"]["version"] = json!(version);
            let mut bytes = Vec::new();
            let mut to =
                serde_json::Serializer::with_formatter(&mut bytes, olpc_cjson::CanonicalFormatter::new());
            serde::Serialize::serialize(&timestamp["signed"], &mut to).unwrap();
            let hex: String = online.sign_bytes(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            timestamp["signatures"][0]["sig"] = json!(hex);
        });
        let error = publish(&fleet, &online).unwrap_err().to_string();
        assert!(error.contains("bulkhead fleet rotate --online"), "{error}");
    }
    host.look(directory(&fleet)).unwrap();
    let mut keyholders = fleet.tree.keyholders().unwrap();
    keyholders.online = holder("online", 66);
    for draft in fleet.tree.rotate(&keyholders, now()).unwrap() {
        sign(&draft, &[ALICE, BOB]);
    }
    publish(&fleet, &key(66)).unwrap();
    let (checked, bundle) = host.look(directory(&fleet)).unwrap();
    assert_eq!((checked.root, checked.version, &*bundle), (2, 1, "one"));
    publish(&fleet, &key(66)).unwrap();
    let timestamp: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(timestamp["signed"]["version"], 2);
    sign(&fleet.propose("two"), &[ALICE, BOB]);
    publish(&fleet, &key(66)).unwrap();
    assert_eq!(host.look(directory(&fleet)).unwrap().1, "two");
}

#[test]
fn freshening_publishes_nothing_that_was_signed_meanwhile() {
    let fleet = Fleet::new();
    let online = key(ONLINE);
    let freshen = |share, only| {
        let mut sign = |bytes: &[u8]| Ok(online.sign_bytes(bytes));
        let how = Publication { share, fresh: DAY, now: now() };
        fleet.tree.freshen(Repository::Policy, &online.public(), &mut sign, how, only)
    };
    assert!(freshen(None, None).unwrap_err().to_string().contains("nothing that is published"));
    fleet.put("one", &[ALICE, BOB]);
    sign(&fleet.propose("two"), &[ALICE, BOB]);
    let version = || {
        let standing = fleet.tree.standing(Repository::Policy).unwrap();
        (standing.version, standing.share)
    };
    freshen(None, None).unwrap();
    assert_eq!(version(), (Some(1), None));
    fleet.publish_as(Some(10), DAY).unwrap();
    sign(&fleet.propose("three"), &[ALICE, BOB]);
    freshen(None, None).unwrap();
    assert_eq!(version(), (Some(2), Some(10)));
    // A rollout of version 2 lets no version 3 go to all.
    freshen(Some(100), Some(2)).unwrap();
    assert_eq!(version(), (Some(2), None));
    fleet.publish().unwrap();
    let error = freshen(Some(100), Some(2)).unwrap_err().to_string();
    assert!(error.contains("version 3 was published meanwhile"), "{error}");
    assert_eq!(Host::new(&fleet).look(directory(&fleet)).unwrap().1, "three");
}
