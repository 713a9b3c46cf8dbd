//! Every refusal of the specification that a host must make, each by a client that has just been started.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[expect(dead_code, reason = "each file of tests uses some of it")]
mod common;

use bulkhead_fleet::{Cause, Repository};
use common::forged::forced;
use common::*;
use serde_json::Value;

fn is_refused(host: &Host, files: Files, cause: Cause, words: &str) {
    let error = host.look(Carrier::of(files)).unwrap_err();
    assert_eq!(error.cause(), cause, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn two_of_three_put_a_policy_in_force_and_fewer_do_not() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, CAROL]);
    let host = Host::new(&fleet);
    let (checked, bundle) = host.look(directory(&fleet)).unwrap();
    assert_eq!((checked.version, &*bundle, checked.root), (1, "one", 1));
    assert_eq!(checked.signers, ["alice", "carol"]);
    assert_eq!((checked.rollout, checked.admits("n")), (None, true));
    // Whoever publishes is told, and a host refuses what is published all the same.
    let draft = fleet.propose("two");
    sign(&draft, &[BOB]);
    let told = fleet.publish().unwrap().join("\n");
    assert!(!told.contains("version 2"), "{told}");
    assert!(draft.missing().unwrap().unwrap().contains("1 of 2 signatures; these may sign: alice, carol"));
    is_refused(&host, forced(&fleet, "two", &[BOB], |_| {}), Cause::Signatures, "threshold of 2");
    let twice = |targets: &mut Value| {
        let again = targets["signatures"][0].clone();
        targets["signatures"].as_array_mut().unwrap().push(again);
    };
    is_refused(&host, forced(&fleet, "two", &[BOB], twice), Cause::Signatures, "");
    let files = forced(&fleet, "two", &[BOB, ALICE], |_| {});
    assert_eq!(host.look(Carrier::of(files)).unwrap().1, "two");
}

#[test]
fn what_is_older_is_refused_after_a_restart_too() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let (host, old) = (Host::new(&fleet), fleet.files());
    host.look(Carrier::of(old.clone())).unwrap();
    fleet.put("two", &[ALICE, BOB]);
    assert_eq!(host.look(directory(&fleet)).unwrap().1, "two");
    is_refused(&host, old.clone(), Cause::Rollback, "version 1");
    // The old timestamp with what else is new, and the new one over what is old.
    let mut mixed = fleet.files();
    mixed.insert("policy/metadata/timestamp.json".into(), old["policy/metadata/timestamp.json"].clone());
    is_refused(&host, mixed, Cause::Rollback, "");
    let mut mixed = fleet.files();
    for (name, of) in [("2.snapshot.json", "1.snapshot.json"), ("2.targets.json", "1.targets.json")] {
        let older = old[&format!("policy/metadata/{of}")].clone();
        let mut files = mixed.clone();
        files.insert(format!("policy/metadata/{name}"), older.clone());
        is_refused(&host, files, Cause::Altered, "");
        mixed.insert(format!("policy/metadata/{name}"), older);
    }
    is_refused(&host, mixed, Cause::Altered, "");
    assert_eq!(host.look(directory(&fleet)).unwrap().1, "two");
}

#[test]
fn a_bundle_that_was_changed_is_refused() {
    let fleet = Fleet::new();
    fleet.put("a policy", &[ALICE, BOB]);
    let host = Host::new(&fleet);
    let name = fleet.files().into_keys().find(|name| name.ends_with(".policy.hujson")).unwrap();
    for change in [
        (|bytes: &mut Vec<u8>| bytes[3] ^= 1) as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(4),
        |bytes| bytes.push(b'x'),
        Vec::clear,
    ] {
        let mut files = fleet.files();
        change(files.get_mut(&name).unwrap());
        let error = host.look(Carrier::of(files)).unwrap_err();
        assert!(matches!(error.cause(), Cause::Altered | Cause::TooLong), "{error}");
    }
    let mut files = fleet.files();
    files.remove(&name);
    is_refused(&host, files, Cause::Down, "it is not there");
}

#[test]
fn what_is_past_its_time_is_refused_and_what_freshens_it_is_taken() {
    let fleet = Fleet::new();
    sign(&fleet.propose("one"), &[ALICE, BOB]);
    fleet.publish_as(None, -1).unwrap();
    let host = Host::new(&fleet);
    is_refused(&host, fleet.files(), Cause::Expired, "bulkhead fleet publish");
    fleet.publish().unwrap();
    assert_eq!(host.look(directory(&fleet)).unwrap().1, "one");
}

#[test]
fn who_was_taken_out_of_the_root_signs_nothing_any_more() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, CAROL]);
    fleet.put_inventory("{}");
    let (host, before) = (Host::new(&fleet), fleet.files());
    host.look(directory(&fleet)).unwrap();
    let drafts =
        fleet.tree.rotate(&people(&[("alice", ALICE), ("bob", BOB), ("dave", DAVE)]), now()).unwrap();
    // Both roots, and the policy that carol has signed: it is to be signed anew.
    let names: Vec<_> = drafts.iter().map(bulkhead_fleet::Draft::name).collect();
    assert_eq!(names, ["root 2 of policy", "policy version 2", "root 2 of inventory"]);
    let [root, targets, _] = &drafts[..] else { panic!("{names:?}") };
    // Two of the new ones are not two of the old ones.
    sign(root, &[ALICE, DAVE]);
    assert!(root.missing().unwrap().unwrap().contains("1 of 2 signatures of the root before"));
    sign(targets, &[ALICE, DAVE]);
    // What is in force is freshened, and nothing else.
    fleet.publish().unwrap();
    let told = fleet.tree.standing(Repository::Policy).unwrap();
    assert_eq!((told.root, told.version), (Some(1), Some(1)), "{told:?}");
    sign(root, &[BOB]);
    fleet.publish().unwrap();
    // The removed key with one that is in both.
    let forced = forced_by_carol(&fleet, &before);
    is_refused(&host, forced, Cause::Signatures, "1 valid signatures");
    let (checked, _) = host.look(directory(&fleet)).unwrap();
    assert_eq!((checked.root, checked.version, &*checked.signers.join(",")), (2, 2, "alice,dave"));
    // Nobody brings carol back by holding the second root back.
    let mut without = fleet.files();
    without.remove("policy/metadata/2.root.json");
    assert_eq!(host.look(Carrier::of(without)).unwrap().0.root, 2);
    let error = host.look(Carrier::of(before)).unwrap_err();
    assert!(matches!(error.cause(), Cause::Rollback | Cause::Signatures), "{error}");
}

/// The new root over what carol has signed before.
fn forced_by_carol(fleet: &Fleet, before: &Files) -> Files {
    let mut files = before.clone();
    let name = "policy/metadata/2.root.json";
    files.insert(name.to_owned(), fleet.files()[name].clone());
    files
}

#[test]
fn a_clock_that_was_set_back_is_found_over_restarts() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let host = Host::new(&fleet);
    host.look(directory(&fleet)).unwrap();
    let time = host.state.path().join("policy/time.json");
    let seen = std::fs::read_to_string(&time).unwrap();
    let year: u32 = seen[1..5].parse().unwrap();
    // As if the clock had been a year further when it was looked at last.
    std::fs::write(&time, seen.replacen(&year.to_string(), &(year + 1).to_string(), 1)).unwrap();
    is_refused(&host, fleet.files(), Cause::Clock, "remove time.json");
    is_refused(&host, fleet.files(), Cause::Clock, "set the clock");
    std::fs::remove_file(&time).unwrap();
    host.look(directory(&fleet)).unwrap();
}

#[test]
fn what_was_verified_survives_a_kill_at_any_moment() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let (host, old) = (Host::new(&fleet), fleet.files());
    fleet.put("two", &[ALICE, BOB]);
    host.look(directory(&fleet)).unwrap();
    // A killed client leaves the copy that it worked on, with halves of files.
    let left = host.state.path().join("policy/check-left");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("timestamp.json"), "{\"signed\": {").unwrap();
    is_refused(&host, old, Cause::Rollback, "");
    assert!(!left.exists());
    std::fs::write(host.trusted(), "{\"root").unwrap();
    let error = bulkhead_fleet::Client::open(Repository::Policy, &host.first, host.state.path()).unwrap_err();
    assert!(error.to_string().contains("it is damaged"), "{error}");
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let host = Host::new(&fleet);
    for name in [
        "policy/metadata/timestamp.json",
        "policy/metadata/1.snapshot.json",
        "policy/metadata/1.targets.json",
    ] {
        let mut files = fleet.files();
        files.get_mut(name).unwrap().resize(3 << 20, b' ');
        is_refused(&host, files, Cause::TooLong, "is longer than 1048576 bytes");
    }
    // A root without end is one that is held back: what was verified stays.
    host.look(directory(&fleet)).unwrap();
    let mut files = fleet.files();
    files.insert("policy/metadata/2.root.json".to_owned(), vec![b' '; 3 << 20]);
    assert_eq!(host.look(Carrier::of(files)).unwrap().1, "one");
}

#[test]
fn a_share_is_kept_while_it_is_freshened_and_nothing_forges_it() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    sign(&fleet.propose("two"), &[ALICE, BOB]);
    fleet.publish_as(Some(10), DAY).unwrap();
    let host = Host::new(&fleet);
    let share = || {
        let checked = host.look(directory(&fleet)).unwrap().0;
        (checked.version, checked.rollout.map(|rollout| rollout.share))
    };
    assert_eq!(share(), (2, Some(10)));
    fleet.publish().unwrap();
    assert_eq!(share(), (2, Some(10)));
    let name = "policy/metadata/timestamp.json";
    let mut files = fleet.files();
    let text = String::from_utf8(files[name].clone()).unwrap().replace("\"share\":10", "\"share\":99");
    assert_ne!(text.as_bytes(), files[name]);
    files.insert(name.to_owned(), text.into_bytes());
    is_refused(&host, files, Cause::Signatures, "");
    fleet.publish_as(Some(100), DAY).unwrap();
    assert_eq!(share(), (2, None));
    fleet.put("three", &[BOB, CAROL]);
    assert_eq!(share(), (3, None));
}

#[test]
fn only_who_freshens_does() {
    let fleet = Fleet::new();
    sign(&fleet.propose("one"), &[ALICE, BOB]);
    let wrong = key(ALICE);
    let how = bulkhead_fleet::Publication { share: None, fresh: DAY, now: now() };
    let mut by = |bytes: &[u8]| Ok(wrong.sign_bytes(bytes));
    let error =
        fleet.tree.publish(Repository::Policy, &wrong.public(), &mut by, how).unwrap_err().to_string();
    assert!(error.contains("is not the key that freshens: that is online SHA256:"), "{error}");
}

#[test]
fn files_that_never_change_are_asked_for_once() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    let host = Host::new(&fleet);
    let carrier = Carrier::of(fleet.files());
    let origin: std::sync::Arc<dyn bulkhead_fleet::Origin> = std::sync::Arc::new(carrier.clone());
    let mut client = host.client();
    block_on(client.check(&origin)).unwrap();
    carrier.1.lock().unwrap().clear();
    block_on(client.check(&origin)).unwrap();
    assert_eq!(*carrier.1.lock().unwrap(), ["policy/metadata/2.root.json", "policy/metadata/timestamp.json"]);
}

/// Roots of the same people, and what one key has signed, count in their own repository of their own fleet alone.
#[test]
fn a_root_of_another_repository_or_fleet_is_no_successor() {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    fleet.put_inventory("{}");
    let renew = |fleet: &Fleet| {
        let drafts =
            fleet.tree.rotate(&people(&[("alice", ALICE), ("bob", BOB), ("carol", CAROL)]), now()).unwrap();
        drafts.iter().for_each(|draft| sign(draft, &[ALICE, BOB]));
        fleet.publish().unwrap();
    };
    let host = Host::new(&fleet);
    host.look(directory(&fleet)).unwrap();
    let before = fleet.files();
    renew(&fleet);
    fleet.publish_inventory();
    let mut files = before.clone();
    let root = fleet.files()["inventory/metadata/2.root.json"].clone();
    files.insert("policy/metadata/2.root.json".to_owned(), root);
    is_refused(&host, files, Cause::Altered, "2.root.json: it is of inventory");
    // Another fleet of the same people and the same key that freshens, newer in all.
    let other = Fleet::new();
    for policy in ["staging", "staging 2", "staging 3"] {
        other.put(policy, &[ALICE, BOB]);
    }
    is_refused(&host, other.files(), Cause::Altered, "timestamp.json: it is of another fleet");
    other.put_inventory("{}");
    renew(&other);
    is_refused(&host, other.files(), Cause::Altered, "2.root.json: it is of another fleet");
    // The timestamp of the inventory, which the same key has signed, and which is newer.
    for _ in 0..5 {
        fleet.publish_inventory();
    }
    let mut files = before.clone();
    let timestamp = fleet.files()["inventory/metadata/timestamp.json"].clone();
    files.insert("policy/metadata/timestamp.json".to_owned(), timestamp);
    is_refused(&host, files, Cause::Altered, "it is of inventory");
    // None of it was kept.
    let (checked, bundle) = host.look(Carrier::of(before)).unwrap();
    assert_eq!((checked.root, checked.version, &*bundle), (1, 1, "one"));
    let (checked, _) = host.look(directory(&fleet)).unwrap();
    assert_eq!((checked.root, checked.version), (2, 1));
    // Nor does a host begin with a root of another, or go on with it.
    let open = |root: &[u8]| {
        let opened = bulkhead_fleet::Client::open(Repository::Policy, root, host.state.path());
        opened.unwrap_err().to_string()
    };
    assert!(open(&fleet.files()["inventory/metadata/1.root.json"]).contains("it is of inventory"));
    assert!(open(&other.first_root()).contains("another fleet"));
}
