//! Whose keys a fleet takes, and signatures that are made apart.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[expect(dead_code, reason = "each file of tests uses some of it")]
mod common;

use bulkhead_fleet::{Holder, Repository, Tree};
use bulkhead_grants::PublicKey;
use common::*;
use proptest::prelude::*;

#[test]
fn keys_in_devices_sign_no_bundle() {
    let line = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIIqIPQNLgG0XlpoTPl0X6BmIKAZwdBzRrKqtZlxSzbXhAAAABHNzaDo=";
    let error = PublicKey::parse(line)
        .map_err(|error| error.to_string())
        .and_then(|key| Holder::new("alice", key).map(drop).map_err(|error| error.to_string()));
    assert!(error.unwrap_err().contains("TUF knows none such"));
}

#[test]
fn what_would_ask_for_nothing_or_for_one_person_twice_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::new(directory.path());
    let three = [("alice", ALICE), ("bob", BOB), ("carol", CAROL)];
    let of = |change: fn(&mut bulkhead_fleet::Keyholders)| {
        let mut keyholders = people(&three);
        change(&mut keyholders);
        tree.begin(&keyholders, now()).unwrap_err().to_string()
    };
    assert!(of(|of| of.threshold = 0).contains("a number from 1 to 3"));
    assert!(of(|of| of.threshold = 4).contains("a number from 1 to 3"));
    assert!(of(|of| of.people[1].key = key(ALICE).public()).contains("alice and bob have the same key"));
    assert!(of(|of| of.people[1].name = "alice".to_owned()).contains("a person has one key"));
    assert!(of(|of| of.online = holder("online", ALICE)).contains("the same key"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    tree.begin(&people(&three), now()).unwrap();
    assert!(tree.begin(&people(&three), now()).unwrap_err().to_string().contains("bulkhead fleet rotate"));
}

#[test]
fn another_file_is_not_signed_by_those_who_signed_the_first() {
    let fleet = Fleet::new();
    fleet.publish().unwrap_err();
    sign(&fleet.propose("one"), &[ALICE]);
    let again = fleet.tree.propose(Repository::Policy, "one", now(), false).unwrap();
    assert_eq!(again.signed().unwrap(), ["alice"]);
    let error = fleet.tree.propose(Repository::Policy, "other", now(), false).unwrap_err().to_string();
    assert!(error.contains("signed by alice") && error.contains("--replace"), "{error}");
    let other = fleet.tree.propose(Repository::Policy, "other", now(), true).unwrap();
    assert!(other.signed().unwrap().is_empty());
}

#[test]
fn signatures_made_on_copies_come_together_as_files() {
    let (one, other) = (Fleet::new(), tempfile::tempdir().unwrap());
    let draft = one.propose("one");
    let drafts = one.path().join("policy/drafts");
    let copy = other.path().join("policy/drafts");
    for below in ["metadata", "drafts", "targets"] {
        std::fs::create_dir_all(other.path().join("policy").join(below)).unwrap();
    }
    for entry in std::fs::read_dir(&drafts).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    sign(&draft, &[ALICE]);
    let waiting = Tree::new(other.path()).waiting().unwrap();
    let theirs = waiting.iter().find(|draft| draft.name() == "policy version 1").unwrap();
    sign(theirs, &[BOB]);
    std::fs::copy(copy.join("1.targets.bob.sig"), drafts.join("1.targets.bob.sig")).unwrap();
    assert_eq!(draft.signed().unwrap(), ["alice", "bob"]);
    one.publish().unwrap();
    assert_eq!(Host::new(&one).look(directory(&one)).unwrap().0.signers, ["alice", "bob"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However files are meddled with, a host has what was signed or an error.
    #[test]
    fn no_change_of_any_file_makes_another_bundle(at in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), flip in 1_u8..) {
        thread_local!(static FLEET: Fleet = {
            let fleet = Fleet::new();
            fleet.put("one", &[ALICE, BOB]);
            fleet
        });
        let (host, mut files) = FLEET.with(|fleet| (Host::new(fleet), fleet.files()));
        let mut names: Vec<String> = files.keys().filter(|name| !name.ends_with("root.json")).cloned().collect();
        names.sort();
        let bytes = files.get_mut(&names[which.index(names.len())]).unwrap();
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok((checked, bundle)) = host.look(Carrier::of(files)) {
            prop_assert_eq!((checked.version, &*bundle), (1, "one"));
        }
    }
}
