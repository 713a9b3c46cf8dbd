//! What TUF's own test suite for clients asks of one (docs/internals/tuf-conformance.md) and other tests here do not: whoever
//! has keys signs what a client must not take, or must.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[expect(dead_code, reason = "each file of tests uses some of it")]
mod common;

use bulkhead_fleet::{Cause, Checked, Error, Origin, digest};
use common::forged::{canonical, hex};
use common::*;
use serde_json::{Value, json};

const PAST: &str = "2020-01-01T00:00:00Z";

/// What a role says instead, and what it is refused for.
type Change = (&'static str, fn(&mut Value), Cause);

/// The policy's metadata, which is changed and signed again by whoever may.
struct Forge {
    files: Files,
}

impl Forge {
    fn new(fleet: &Fleet) -> Self {
        Self { files: fleet.files() }
    }

    fn get(&self, name: &str) -> Value {
        serde_json::from_slice(&self.files[&format!("policy/metadata/{name}")]).unwrap()
    }

    /// Writes what these have signed.
    fn put(&mut self, name: &str, mut file: Value, by: &[u8]) {
        let message = canonical(&file["signed"]);
        let signature =
            |seed: &u8| json!({"keyid": keyid(*seed), "sig": hex(&key(*seed).sign_bytes(&message))});
        file["signatures"] = by.iter().map(signature).collect();
        self.files.insert(format!("policy/metadata/{name}"), serde_json::to_vec(&file).unwrap());
    }

    /// Changes a role that others name, and what names it.
    fn change(&mut self, role: &str, change: impl Fn(&mut Value)) {
        self.change_by(role, &change);
    }

    fn change_by(&mut self, role: &str, change: &dyn Fn(&mut Value)) {
        let timestamp = self.get("timestamp.json");
        let of = |file: &Value, role: &str| {
            file["signed"]["meta"][format!("{role}.json")]["version"].as_u64().unwrap()
        };
        let number = of(&timestamp, "snapshot");
        let snapshot = self.get(&format!("{number}.snapshot.json"));
        match role {
            "targets" => {
                let version = of(&snapshot, "targets");
                let mut targets = self.get(&format!("{version}.targets.json"));
                change(&mut targets["signed"]);
                let version = targets["signed"]["version"].clone();
                let name = format!("{version}.targets.json");
                self.put(&name, targets, &[ALICE, BOB]);
                let named = self.named(&name, version);
                self.change_by("snapshot", &|snapshot| {
                    snapshot["version"] = json!(number + 1);
                    snapshot["meta"]["targets.json"] = named.clone();
                });
            }
            "snapshot" => {
                let mut snapshot = snapshot;
                change(&mut snapshot["signed"]);
                let number = snapshot["signed"]["version"].clone();
                let name = format!("{number}.snapshot.json");
                self.put(&name, snapshot, &[ONLINE]);
                let named = self.named(&name, number);
                self.change_by("timestamp", &|timestamp| {
                    timestamp["version"] = json!(timestamp["version"].as_u64().unwrap() + 1);
                    timestamp["meta"]["snapshot.json"] = named.clone();
                });
            }
            _ => {
                let mut timestamp = timestamp;
                change(&mut timestamp["signed"]);
                self.put("timestamp.json", timestamp, &[ONLINE]);
            }
        }
    }

    fn named(&self, name: &str, version: Value) -> Value {
        let bytes = &self.files[&format!("policy/metadata/{name}")];
        json!({"length": bytes.len(), "hashes": {"sha256": digest(bytes)}, "version": version})
    }

    /// The root after the newest.
    fn root(&mut self, change: impl Fn(&mut Value), by: &[u8]) {
        let number = (1..)
            .take_while(|number| self.files.contains_key(&format!("policy/metadata/{number}.root.json")))
            .last()
            .unwrap();
        let mut root = self.get(&format!("{number}.root.json"));
        root["signed"]["version"] = json!(number + 1);
        change(&mut root["signed"]);
        self.put(&format!("{}.root.json", number + 1), root, by);
    }

    fn look(&self, host: &Host) -> Result<Checked, Error> {
        host.look(Carrier::of(self.files.clone())).map(|(checked, _)| checked)
    }

    fn is_refused(&self, host: &Host, what: &str, cause: Cause, words: &str) {
        let error = self.look(host).expect_err(what);
        assert_eq!(error.cause(), cause, "{what}: {error}");
        assert!(error.to_string().contains(words), "{what}: {error}");
    }
}

/// A key as roots of the tests have it: by whom, and its identifier.
fn tuf(seed: u8) -> Value {
    let names = [(ALICE, "alice"), (BOB, "bob"), (CAROL, "carol"), (ONLINE, "online")];
    let name = names.iter().find(|(known, _)| *known == seed).map_or("other", |(_, name)| name);
    let public = hex(&key(seed).public().bytes().unwrap());
    json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}, "x-bulkhead-name": name})
}

fn keyid(seed: u8) -> String {
    digest(&canonical(&tuf(seed)))
}

/// Another key that freshens.
fn with_online(seed: u8) -> impl Fn(&mut Value) {
    move |root| {
        root["keys"][keyid(seed)] = tuf(seed);
        for role in ["timestamp", "snapshot"] {
            root["roles"][role]["keyids"] = json!([keyid(seed)]);
        }
    }
}

fn fleet() -> (Fleet, Host) {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    fleet.put_inventory("{}");
    let host = Host::new(&fleet);
    (fleet, host)
}

/// What the forge signs is good, or no refusal below says anything.
#[test]
fn what_is_signed_anew_is_taken() {
    let (fleet, host) = fleet();
    let mut forge = Forge::new(&fleet);
    forge.change("targets", |targets| targets["version"] = json!(2));
    forge.root(|_| {}, &[ALICE, BOB]);
    let checked = forge.look(&host).unwrap();
    assert_eq!((checked.version, checked.root), (2, 2));
}

#[test]
fn each_role_is_refused_once_it_has_expired_and_those_before_it_are_kept() {
    for role in ["targets", "snapshot", "timestamp"] {
        let (fleet, host) = fleet();
        let mut forge = Forge::new(&fleet);
        forge.change(role, |file| file["expires"] = json!(PAST));
        forge.is_refused(&host, role, Cause::Expired, role);
        let kept: Value = serde_json::from_slice(&std::fs::read(host.trusted()).unwrap()).unwrap();
        let roles = ["root.json", "timestamp.json", "snapshot.json", "targets.json"];
        let has: Vec<bool> = roles.iter().map(|name| kept[name].is_string()).collect();
        let refused = roles.iter().position(|name| name.starts_with(role)).unwrap();
        assert_eq!(has, (0..4).map(|place| place < refused).collect::<Vec<_>>(), "{role}");
    }
    // A root between that has expired is a step on the way to one that has not.
    let (fleet, host) = fleet();
    let mut forge = Forge::new(&fleet);
    forge.root(|root| root["expires"] = json!(PAST), &[ALICE, BOB]);
    forge.is_refused(&host, "root", Cause::Expired, "root");
    forge.root(|root| root["expires"] = json!("2100-01-01T00:00:00Z"), &[ALICE, BOB]);
    assert_eq!(forge.look(&host).unwrap().root, 3);
}

#[test]
fn a_role_in_anothers_place_or_of_another_version_than_it_is_named_by_is_refused() {
    let (fleet, host) = fleet();
    // A type is part of what is signed, as its reader writes it.
    let changes: &[Change] = &[
        ("targets", |file| file["_type"] = json!("snapshot"), Cause::Signatures),
        ("snapshot", |file| file["_type"] = json!("timestamp"), Cause::Signatures),
        ("timestamp", |file| file["_type"] = json!("snapshot"), Cause::Signatures),
        (
            "snapshot",
            |file| drop(file["meta"].as_object_mut().unwrap().remove("targets.json")),
            Cause::Malformed,
        ),
        ("timestamp", |file| file["meta"] = json!({}), Cause::Malformed),
    ];
    for (role, change, cause) in changes {
        let mut forge = Forge::new(&fleet);
        forge.change(role, change);
        forge.is_refused(&Host::new(&fleet), role, *cause, "");
    }
    let mut forge = Forge::new(&fleet);
    forge.change("snapshot", |snapshot| snapshot["meta"]["targets.json"]["version"] = json!(2));
    let targets = forge.files["policy/metadata/1.targets.json"].clone();
    forge.files.insert("policy/metadata/2.targets.json".to_owned(), targets);
    forge.is_refused(&host, "targets of another version", Cause::Altered, "");
    for version in [1, 3] {
        let mut forge = Forge::new(&fleet);
        forge.root(|root| root["version"] = json!(version), &[ALICE, BOB]);
        forge.is_refused(&host, "root of another version", Cause::Rollback, "");
    }
}

/// A threshold that grows or shrinks, and keys that are counted: by the root before and by the new one.
#[test]
fn a_root_needs_enough_of_those_before_and_of_its_own() {
    let threshold = |root: &mut Value, threshold: u64| {
        for role in ["root", "targets"] {
            root["roles"][role]["threshold"] = json!(threshold);
        }
    };
    let look = |change: &dyn Fn(&mut Value), by: &[u8]| {
        let (fleet, host) = fleet();
        let mut forge = Forge::new(&fleet);
        forge.root(change, by);
        forge.look(&host).map(|checked| checked.root).map_err(|error| error.cause())
    };
    let three = |root: &mut Value| root["roles"]["root"]["threshold"] = json!(3);
    assert_eq!(look(&three, &[ALICE, BOB]), Err(Cause::Signatures));
    assert_eq!(look(&three, &[ALICE, BOB, CAROL]), Ok(2));
    let one = |root: &mut Value| threshold(root, 1);
    assert_eq!(look(&one, &[ALICE]), Err(Cause::Signatures));
    assert_eq!(look(&one, &[ALICE, BOB]), Ok(2));
    // Signatures of nobody count for nothing, and are in nobody's way.
    assert_eq!(look(&|_| {}, &[ALICE, 40, 41]), Err(Cause::Signatures));
    assert_eq!(look(&|_| {}, &[40, ALICE, BOB, 41]), Ok(2));
    let twice = |root: &mut Value| {
        let ids = [ALICE, ALICE, CAROL].map(keyid);
        root["roles"]["root"]["keyids"] = json!(ids);
    };
    assert_eq!(look(&twice, &[ALICE, BOB]), Err(Cause::Signatures));
    // More than there are keys.
    let four = |root: &mut Value| root["roles"]["root"]["threshold"] = json!(4);
    assert_eq!(look(&four, &[ALICE, BOB, CAROL]), Err(Cause::Signatures));
}

/// Hosts that have seen one of two go on with it, whichever comes then.
#[test]
fn a_timestamp_that_says_something_else_under_a_known_version_is_not_taken() {
    let (fleet, host) = fleet();
    let before = Forge::new(&fleet);
    before.look(&host).unwrap();
    let mut forge = Forge::new(&fleet);
    forge.change("targets", |targets| targets["version"] = json!(2));
    forge.change("timestamp", |timestamp| timestamp["version"] = json!(1));
    assert_eq!(forge.look(&host).unwrap().version, 1);
    let mut forge = Forge::new(&fleet);
    forge.change("timestamp", |timestamp| {
        timestamp["x-bulkhead-rollout"] = json!({"version": 1, "share": 0});
    });
    assert_eq!(forge.look(&host).unwrap().rollout, None);
    assert_eq!(before.look(&host).unwrap().version, 1);
    forge.change("timestamp", |timestamp| timestamp["version"] = json!(2));
    assert!(forge.look(&host).unwrap().rollout.is_some());
    // With another key that freshens versions are counted anew.
    forge.root(with_online(60), &[ALICE, BOB]);
    let mut timestamp = before.get("timestamp.json");
    timestamp["signed"]["version"] = json!(2);
    let snapshot = before.get("1.snapshot.json");
    forge.put("1.snapshot.json", snapshot, &[60]);
    timestamp["signed"]["meta"]["snapshot.json"] = forge.named("1.snapshot.json", json!(1));
    forge.put("timestamp.json", timestamp, &[60]);
    assert_eq!(forge.look(&host).unwrap().rollout, None);
}

#[test]
fn delegated_targets_are_refused_and_nobody_is_asked_to_whom() {
    let (fleet, _) = fleet();
    let role =
        json!({"name": "other", "keyids": [keyid(40)], "threshold": 1, "terminating": false, "paths": ["*"]});
    let succinct = json!({"keyids": [keyid(40)], "threshold": 1, "bit_length": 8, "name_prefix": "bin"});
    for (what, delegations) in [
        ("roles", json!({"keys": {keyid(40): tuf(40)}, "roles": [role]})),
        ("succinct roles", json!({"keys": {keyid(40): tuf(40)}, "succinct_roles": succinct})),
    ] {
        let mut forge = Forge::new(&fleet);
        forge.change("targets", |targets| {
            targets["version"] = json!(2);
            targets["delegations"] = delegations.clone();
        });
        let carrier = Carrier::of(forge.files.clone());
        let error = Host::new(&fleet).look(carrier.clone()).expect_err(what);
        assert_eq!(error.cause(), Cause::Malformed, "{what}: {error}");
        assert!(error.to_string().contains("its targets are delegated"), "{what}: {error}");
        assert_eq!(carrier.1.lock().unwrap().last().unwrap(), "policy/metadata/2.targets.json", "{what}");
    }
    // None are none.
    let mut forge = Forge::new(&fleet);
    forge.change("targets", |targets| {
        targets["version"] = json!(3);
        targets["delegations"] = json!({"keys": {}, "roles": []});
    });
    assert_eq!(forge.look(&Host::new(&fleet)).unwrap().version, 3);
}

#[test]
fn what_a_snapshot_has_named_it_goes_on_to_name_until_its_key_changes() {
    let (fleet, host) = fleet();
    let mut forge = Forge::new(&fleet);
    forge.change("snapshot", |snapshot| {
        snapshot["version"] = json!(2);
        snapshot["meta"]["other.json"] = json!({"version": 1});
    });
    forge.look(&host).unwrap();
    let mut without = Forge::new(&fleet);
    without.change("snapshot", |snapshot| snapshot["version"] = json!(3));
    without.change("timestamp", |timestamp| timestamp["version"] = json!(3));
    without.is_refused(&host, "a role less", Cause::Rollback, "other.json");
    let snapshot = without.get("3.snapshot.json");
    without.root(with_online(60), &[ALICE, BOB]);
    without.put("3.snapshot.json", snapshot, &[60]);
    let mut timestamp = without.get("timestamp.json");
    timestamp["signed"]["meta"]["snapshot.json"] = without.named("3.snapshot.json", json!(3));
    without.put("timestamp.json", timestamp, &[60]);
    assert_eq!(without.look(&host).unwrap().root, 2);
}

/// A client of TUF forgets with the key that freshens which targets it knows. Whoever has the new one brings back none that
/// people have signed before.
#[test]
fn another_key_that_freshens_brings_no_older_policy_back() {
    let (fleet, host) = fleet();
    let old = Forge::new(&fleet);
    fleet.put("two", &[ALICE, BOB]);
    assert_eq!(Forge::new(&fleet).look(&host).unwrap().version, 2);
    let rolled_back = |targets: &[u8], change: &dyn Fn(&mut Value)| {
        let mut forge = Forge::new(&fleet);
        forge.root(
            |root| {
                with_online(60)(root);
                change(root);
            },
            &[ALICE, BOB],
        );
        forge.put("1.targets.json", old.get("1.targets.json"), targets);
        let mut snapshot = old.get("1.snapshot.json");
        snapshot["signed"]["meta"]["targets.json"] = forge.named("1.targets.json", json!(1));
        forge.put("1.snapshot.json", snapshot, &[60]);
        let mut timestamp = old.get("timestamp.json");
        timestamp["signed"]["meta"]["snapshot.json"] = forge.named("1.snapshot.json", json!(1));
        forge.put("timestamp.json", timestamp, &[60]);
        forge
    };
    let forge = rolled_back(&[ALICE, BOB], &|_| {});
    for _ in 0..2 {
        forge.is_refused(&host, "an older policy", Cause::Rollback, "version 1 of targets");
        assert_eq!(host.client().version(), Some(2));
    }
    // The one that is known, and newer ones, are taken.
    let mut timestamp = Forge::new(&fleet).get("timestamp.json");
    let mut forge = forge;
    let mut snapshot = Forge::new(&fleet).get("2.snapshot.json");
    snapshot["signed"]["version"] = json!(2);
    forge.put("2.snapshot.json", snapshot, &[60]);
    timestamp["signed"]["version"] = json!(3);
    timestamp["signed"]["meta"]["snapshot.json"] = forge.named("2.snapshot.json", json!(2));
    forge.put("timestamp.json", timestamp, &[60]);
    assert_eq!(forge.look(&host).unwrap().version, 2);
    // Where others sign, what the former have signed is forgotten.
    let other = Host::new(&fleet);
    Forge::new(&fleet).look(&other).unwrap();
    let others = |root: &mut Value| {
        root["keys"][keyid(41)] = tuf(41);
        root["roles"]["targets"]["keyids"] = json!([keyid(CAROL), keyid(41)]);
    };
    assert_eq!(rolled_back(&[CAROL, 41], &others).look(&other).unwrap().version, 1);
}

/// Before anything of an origin is believed.
#[test]
fn a_first_root_that_its_own_people_have_not_signed_leads_nowhere() {
    let (fleet, mut host) = fleet();
    let mut root: Value = serde_json::from_slice(&host.first).unwrap();
    root["signatures"].as_array_mut().unwrap().pop();
    host.first = serde_json::to_vec(&root).unwrap();
    let carrier = Carrier::of(fleet.files());
    let origin: std::sync::Arc<dyn Origin> = std::sync::Arc::new(carrier.clone());
    let error = block_on(host.client().check(&origin)).unwrap_err();
    assert_eq!(error.cause(), Cause::Signatures, "{error}");
    assert!(carrier.1.lock().unwrap().is_empty());
}
