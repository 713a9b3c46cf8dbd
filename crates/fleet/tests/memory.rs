//! A machine that signs or publishes knows what it has seen: neither an older state of a fleet directory, all of it signed,
//! nor another fleet in its place is gone on with.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

#[expect(dead_code, reason = "each file of tests uses some of it")]
mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_fleet::{Known, Memory, Publication, Repository, Tree};
use common::*;

struct Machine {
    state: tempfile::TempDir,
    memory: Memory,
}

impl Machine {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let memory = Memory::new(&state.path().join("fleets"));
        Self { state, memory }
    }

    fn known(&self, tree: &Tree) -> Known {
        self.memory.remember(tree).unwrap().unwrap()
    }

    fn is_good(&self, tree: &Tree) {
        assert_eq!(self.known(tree).refused, None);
    }

    /// Refused, also when it is looked at again, with the file that forgets it.
    fn is_refused(&self, tree: &Tree, words: &str) {
        let refused = self.known(tree).refused.expect(words);
        assert!(refused.contains(words), "{refused}");
        let looked = self.memory.look(tree).unwrap().unwrap().refused.unwrap();
        assert_eq!(looked, refused);
        assert!(refused.contains(".json to forget"), "{refused}");
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.state.path().join("fleets")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A copy of a fleet directory, as somebody may keep one and put it back.
fn kept(fleet: &Fleet) -> tempfile::TempDir {
    let kept = tempfile::tempdir().unwrap();
    copy(fleet.path(), kept.path());
    kept
}

fn put_back(fleet: &Fleet, kept: &tempfile::TempDir) {
    for name in ["policy", "inventory"] {
        std::fs::remove_dir_all(fleet.path().join(name)).unwrap();
    }
    copy(kept.path(), fleet.path());
}

fn fleet() -> Fleet {
    let fleet = Fleet::new();
    fleet.put("one", &[ALICE, BOB]);
    fleet.put_inventory("{}");
    fleet
}

#[test]
fn a_state_that_was_put_back_is_refused_and_a_newer_one_is_remembered() {
    let (fleet, machine) = (fleet(), Machine::new());
    let first = machine.known(&fleet.tree);
    assert!(first.is_new && first.refused.is_none());
    assert!(!machine.known(&fleet.tree).is_new);
    let older = kept(&fleet);
    fleet.publish().unwrap();
    machine.is_good(&fleet.tree);
    let newer = kept(&fleet);
    put_back(&fleet, &older);
    machine.is_refused(&fleet.tree, "policy has timestamp 1, and timestamp 2 was seen");
    put_back(&fleet, &newer);
    machine.is_good(&fleet.tree);
    fleet.put("two", &[ALICE, CAROL]);
    machine.is_good(&fleet.tree);
    let two = kept(&fleet);
    put_back(&fleet, &newer);
    machine.is_refused(&fleet.tree, "policy has version 1, and version 2 was seen");
    put_back(&fleet, &two);
    // Either repository alone is noticed.
    fleet.put_inventory("[]");
    machine.is_good(&fleet.tree);
    let three = kept(&fleet);
    put_back(&fleet, &two);
    machine.is_refused(&fleet.tree, "inventory has version 1, and version 2 was seen");
    // What was put back and has been counted on from there: another version 2.
    put_back(&fleet, &newer);
    fleet.put("other", &[ALICE, BOB]);
    fleet.put_inventory("[1]");
    machine.is_refused(&fleet.tree, "policy has another version 2");
    put_back(&fleet, &three);
    std::fs::remove_file(fleet.path().join("inventory/metadata/timestamp.json")).unwrap();
    machine.is_refused(&fleet.tree, "inventory has no version");
    std::fs::remove_dir_all(fleet.path().join("inventory")).unwrap();
    machine.is_refused(&fleet.tree, "inventory has no root any more");
    std::fs::create_dir(fleet.path().join("inventory")).unwrap();
    put_back(&fleet, &three);
    machine.is_good(&fleet.tree);
    // Forgotten on purpose.
    put_back(&fleet, &older);
    machine.is_refused(&fleet.tree, "policy has version 1");
    std::fs::remove_file(machine.memory.file(&first.identity)).unwrap();
    assert!(machine.known(&fleet.tree).is_new);
}

#[test]
fn roots_are_remembered_and_with_another_key_that_freshens_counting_may_begin_anew() {
    let (fleet, machine) = (fleet(), Machine::new());
    fleet.publish().unwrap();
    machine.is_good(&fleet.tree);
    let older = kept(&fleet);
    let rotate = |online| {
        let mut keyholders = fleet.tree.keyholders().unwrap();
        keyholders.online = holder("online", online);
        for draft in fleet.tree.rotate(&keyholders, now()).unwrap() {
            sign(&draft, &[ALICE, BOB]);
        }
        for repository in Repository::ALL {
            let by = key(online);
            let mut sign = |bytes: &[u8]| Ok(by.sign_bytes(bytes));
            let how = Publication { share: None, fresh: DAY, now: now() };
            fleet.tree.publish(repository, &by.public(), &mut sign, how).unwrap();
        }
    };
    rotate(66);
    machine.is_good(&fleet.tree);
    let second = kept(&fleet);
    // As if the thief of this key had counted up.
    let record = machine.files().remove(0);
    let mut seen: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    seen["policy"]["timestamp"] = 99.into();
    std::fs::write(&record, seen.to_string()).unwrap();
    machine.is_refused(&fleet.tree, "policy has timestamp 3, and timestamp 99 was seen");
    rotate(67);
    machine.is_good(&fleet.tree);
    put_back(&fleet, &older);
    machine.is_refused(&fleet.tree, "policy has root 1, and root 3 was seen");
    // Another root 3, by the same people.
    put_back(&fleet, &second);
    rotate(68);
    machine.is_refused(&fleet.tree, "policy has another root 3");
}

#[test]
fn another_fleet_in_its_place_is_refused_before_and_after_it_is_published() {
    let machine = Machine::new();
    let directory = tempfile::tempdir().unwrap();
    let tree = Tree::new(directory.path());
    assert!(machine.memory.remember(&tree).unwrap().is_none());
    let begin = |who: &[(&str, u8)]| {
        for name in ["policy", "inventory"] {
            // There is none at first.
            let _ = std::fs::remove_dir_all(directory.path().join(name));
        }
        tree.begin(&people(who), now()).unwrap();
    };
    begin(&[("alice", ALICE), ("bob", BOB)]);
    let first = machine.known(&tree);
    let fingerprint = first.identity.fingerprint().unwrap();
    assert_eq!(fingerprint.len(), 39, "{fingerprint}");
    let draft = |repository: &str| directory.path().join(repository).join("drafts/1.root.json");
    let before = std::fs::read_to_string(draft("policy")).unwrap();
    // Signed it is the same.
    for draft in tree.waiting().unwrap() {
        sign(&draft, &[ALICE, BOB]);
    }
    assert_eq!(machine.known(&tree).identity, first.identity);
    // The same people and another identifier; somebody else's key and the same identifier.
    begin(&[("alice", ALICE), ("bob", BOB)]);
    machine.is_refused(&tree, &format!("and had {fingerprint} when it was seen before"));
    begin(&[("alice", ALICE), ("bob", DAVE)]);
    let id = |text: &str| {
        let root: serde_json::Value = serde_json::from_str(text).unwrap();
        root["x-bulkhead-fleet"].as_str().unwrap().to_owned()
    };
    for repository in ["policy", "inventory"] {
        let theirs = std::fs::read_to_string(draft(repository)).unwrap();
        std::fs::write(draft(repository), theirs.replace(&id(&theirs), &id(&before))).unwrap();
    }
    machine.is_refused(&tree, "policy begins with another root");
    // Two fleets in one directory.
    begin(&[("alice", ALICE), ("bob", BOB)]);
    std::fs::write(draft("policy"), before).unwrap();
    assert!(machine.memory.remember(&tree).unwrap_err().to_string().contains("are of two fleets"));
    // Whoever begins one there means it.
    begin(&[("alice", ALICE), ("carol", CAROL)]);
    assert_eq!(machine.memory.begin(&tree).unwrap().unwrap().refused, None);
    machine.is_good(&tree);
}

/// The first roots are what the fingerprint is of, published or not.
#[test]
fn a_fleet_keeps_its_fingerprint() {
    let (fleet, machine) = (Fleet::new(), Machine::new());
    let drafted = machine.known(&fleet.tree).identity;
    fleet.put("one", &[ALICE, BOB]);
    assert_eq!(machine.known(&fleet.tree).identity, drafted);
    fleet.put_inventory("{}");
    assert_eq!(machine.known(&fleet.tree).identity, drafted);
    assert_ne!(Fleet::new().tree.identity().unwrap().unwrap().fingerprint(), drafted.fingerprint());
}

#[test]
fn fleets_that_are_known_may_change_places_which_is_told_of_once() {
    let (one, two, machine) = (Fleet::new(), Fleet::new(), Machine::new());
    machine.is_good(&one.tree);
    machine.is_good(&two.tree);
    let before = machine.known(&one.tree).identity.fingerprint();
    put_back(&one, &kept(&two));
    let known = machine.known(&one.tree);
    assert_eq!((known.refused, known.is_new, known.was), (None, false, before));
    assert_eq!(machine.known(&one.tree).was, None);
    // A place that is gone may come back, with something else in it.
    for _ in 0..5 {
        machine.is_good(&Tree::new(kept(&two).path()));
    }
    let record = std::fs::read_to_string(machine.memory.file(&known.identity)).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["directories"].as_array().unwrap().len(), 7, "{record}");
}

#[test]
fn a_link_in_its_place_is_another_fleet_as_well() {
    let machine = Machine::new();
    let shared = tempfile::tempdir().unwrap();
    let (place, beside) = (shared.path().join("fleet"), shared.path().join("beside"));
    copy(Fleet::new().tree.path(), &place);
    machine.is_good(&Tree::new(&place));
    std::fs::rename(&place, shared.path().join("before")).unwrap();
    copy(Fleet::new().tree.path(), &beside);
    std::os::unix::fs::symlink(&beside, &place).unwrap();
    machine.is_refused(&Tree::new(&place), "it has a fleet that was never seen on this machine");
    machine.is_refused(&Tree::new(&place), "it has a fleet that was never seen on this machine");
}

#[test]
fn a_draft_that_counts_on_from_something_older_is_not_one_to_sign() {
    let (fleet, machine) = (Fleet::new(), Machine::new());
    fleet.put("one", &[ALICE, BOB]);
    let older = kept(&fleet);
    fleet.put("two", &[ALICE, BOB]);
    let known = machine.known(&fleet.tree);
    assert_eq!(known.refuses(&fleet.propose("three")), None);
    put_back(&fleet, &older);
    let refused = known.refuses(&fleet.propose("three")).unwrap();
    assert!(refused.contains("policy version 2 is drafted, and version 2"), "{refused}");
}

#[test]
fn what_is_damaged_is_told_and_not_taken_for_nothing() {
    let (fleet, machine) = (Fleet::new(), Machine::new());
    let known = machine.known(&fleet.tree);
    let file = machine.memory.file(&known.identity);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(machine.memory.path())), (0o600, 0o700));
    let whole = std::fs::read(&file).unwrap();
    for damage in [&whole[..whole.len() / 2], b"", b"{}", br#"{"fleet": "x", "more": 1}"#] {
        std::fs::write(&file, damage).unwrap();
        let remembered = machine.memory.remember(&fleet.tree).unwrap_err().to_string();
        assert!(remembered.contains("is damaged"), "{remembered}");
        assert_eq!(machine.memory.look(&fleet.tree).unwrap_err().to_string(), remembered);
    }
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    machine.memory.remember(&fleet.tree).unwrap_err();
    std::fs::remove_file(&file).unwrap();
    // Others' is in nobody's way.
    std::fs::write(machine.memory.path().join("other.json"), "{").unwrap();
    machine.is_good(&fleet.tree);
}

/// Each of many at once has seen something that the others have not.
#[test]
fn nothing_is_lost_that_several_see_at_the_same_time() {
    let (fleet, machine) = (Fleet::new(), Machine::new());
    fleet.put("one", &[ALICE, BOB]);
    let mut copies = vec![kept(&fleet)];
    for _ in 0..3 {
        fleet.publish().unwrap();
        copies.push(kept(&fleet));
    }
    std::thread::scope(|scope| {
        for copy in &copies {
            scope.spawn(|| machine.memory.remember(&Tree::new(copy.path())).unwrap());
        }
    });
    machine.is_good(&fleet.tree);
    for copy in &copies[..3] {
        machine.is_refused(&Tree::new(copy.path()), "and timestamp 4 was seen");
    }
}

/// Whoever goes on with the one that cannot be read is told so there.
#[test]
fn a_repository_that_cannot_be_read_keeps_the_other_from_nothing() {
    let (fleet, machine) = (fleet(), Machine::new());
    machine.is_good(&fleet.tree);
    let good = kept(&fleet);
    for name in ["timestamp.json", "1.root.json"] {
        std::fs::write(fleet.path().join("inventory/metadata").join(name), "{").unwrap();
        fleet.publish().unwrap();
        machine.is_good(&fleet.tree);
        fleet.tree.standing(Repository::Inventory).unwrap_err();
    }
    // What was seen of it is still known, and what was seen of the other, too.
    let older = fleet.path().join("policy/metadata/timestamp.json");
    std::fs::copy(good.path().join("policy/metadata/timestamp.json"), older).unwrap();
    machine.is_refused(&fleet.tree, "policy has timestamp 1, and timestamp 3 was seen");
    let record = std::fs::read_to_string(&machine.files()[0]).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["inventory"]["timestamp"], 1, "{record}");
    assert!(record["inventory_root"].is_string() && record["fingerprint"].is_string(), "{record}");
}

const CHILD: &str = "BULKHEAD_TEST_REMEMBERS";

/// Remembers again and again, each time another place, so that the file is written anew.
fn remember_without_end(places: &Path) {
    let memory = Memory::new(&places.join("fleets"));
    for place in ["a", "b"].iter().cycle() {
        memory.remember(&Tree::new(&places.join(place))).unwrap();
    }
}

#[test]
fn one_that_is_killed_leaves_what_it_knew_or_what_it_knows() {
    // This test in a process of its own, which is killed.
    if let Ok(places) = std::env::var(CHILD) {
        remember_without_end(Path::new(&places));
    }
    let fleet = Fleet::new();
    let places = tempfile::tempdir().unwrap();
    ["a", "b"].iter().for_each(|place| copy(fleet.path(), &places.path().join(place)));
    let memory = Memory::new(&places.path().join("fleets"));
    let tree = Tree::new(&places.path().join("a"));
    memory.remember(&tree).unwrap();
    let file = memory.file(&tree.identity().unwrap().unwrap());
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["one_that_is_killed_leaves_what_it_knew_or_what_it_knows", "--exact"])
            .env(CHILD, places.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(150 + 17 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        seen.insert(std::fs::read(&file).unwrap());
        let known = memory.remember(&tree).unwrap().unwrap();
        assert!(!known.is_new && known.refused.is_none());
    }
    assert!(seen.len() > 1, "the child has written nothing");
    let left = std::fs::read_dir(memory.path()).unwrap().count();
    assert_eq!(left, 1, "what killed ones have left is cleared away");
}
