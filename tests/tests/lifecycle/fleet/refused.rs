//! What a host refuses of what is carried to it, each before and after its agent was started again.

use serde_json::Value;

use super::kit::forged::forced;
use super::kit::{ALICE, BOB, CAROL, DAVE, DAY, Files, now, people, sign};
use super::{Followed, enforced, policy};
use crate::site::{OTHER, WEB};

const ONE: &str = "policy 1, inventory 1";

/// That the first policy still is enforced, whatever was carried.
fn is_untouched(followed: &Followed) {
    assert_eq!(enforced(&followed.site.status()).as_deref(), Some(ONE));
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
}

/// The version of the policy's timestamp.
fn version(files: &Files) -> u64 {
    let timestamp: Value = serde_json::from_slice(&files["policy/metadata/timestamp.json"]).unwrap();
    timestamp["signed"]["version"].as_u64().unwrap()
}

#[test]
fn what_too_few_have_signed_or_somebody_has_changed_is_refused() {
    let mut followed = Followed::new("fleet-few", "");
    let good = followed.fleet.files();
    let other = policy(&[OTHER]);
    let twice = |targets: &mut Value| {
        let again = targets["signatures"][0].clone();
        targets["signatures"].as_array_mut().unwrap().push(again);
    };
    let few = forced(&followed.fleet, &other, &[ALICE], |_| {});
    let same = forced(&followed.fleet, &other, &[ALICE], twice);
    let mut mixed = forced(&followed.fleet, &other, &[ALICE, BOB], |_| {});
    mixed.insert("policy/metadata/2.targets.json".to_owned(), good["policy/metadata/1.targets.json"].clone());
    let mut altered = forced(&followed.fleet, &other, &[ALICE, BOB], |_| {});
    let name =
        altered.keys().find(|name| name.contains(&bulkhead_fleet::digest(other.as_bytes()))).unwrap().clone();
    altered.get_mut(&name).unwrap()[20] ^= 1;
    for (files, why) in [
        (few, "threshold of 2 not met"),
        (same, "Duplicate key"),
        (mixed, "ash mismatch"),
        (altered, "it is not what was signed"),
    ] {
        followed.serve_files(&files);
        followed.refuses(why);
        is_untouched(&followed);
        followed.restart();
        followed.refuses(why);
        is_untouched(&followed);
        let told = followed.told("apply", "refused");
        assert!(told.iter().any(|event| event["detail"].as_str().unwrap().contains(why)), "{why}: {told:?}");
        // The next is not refused for what this one was.
        for of in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
            let _ = std::fs::remove_file(followed.site.path(&format!("served/policy/metadata/{of}")));
        }
    }
}

#[test]
fn what_is_older_or_past_its_time_is_refused_and_a_clock_that_was_set_back_is_found() {
    let mut followed = Followed::new("fleet-old", "");
    let old = followed.fleet.files();
    followed.fleet.put(&policy(&[OTHER]), &[BOB, CAROL]);
    followed.serve();
    let status = followed.takes("policy 2, inventory 1");
    assert_eq!(status["agent"]["policy"], "fleet/policy version 2");
    assert!(followed.site.is_denied("client", 8080) && followed.site.connects("client", 8081));
    let new = followed.fleet.files();
    let is_second = |followed: &Followed| {
        assert_eq!(enforced(&followed.site.status()).as_deref(), Some("policy 2, inventory 1"));
        assert!(followed.site.is_denied("client", 8080) && followed.site.connects("client", 8081));
    };
    followed.serve_files(&old);
    followed.refuses("Found version 1 of timestamp metadata");
    is_second(&followed);
    followed.restart();
    followed.refuses("Found version 1 of timestamp metadata");
    is_second(&followed);

    // One that nobody has freshened.
    sign(&followed.fleet.propose(&policy(&[WEB])), &[ALICE, BOB]);
    followed.fleet.publish_as(None, -1).unwrap();
    followed.serve();
    followed.refuses("expired");
    is_second(&followed);
    followed.restart();
    followed.refuses("expired");
    is_second(&followed);
    let alarms = followed.site.status()["agent"]["alarms"]["active"].to_string();
    assert!(alarms.contains("fleet policy"), "{alarms}");

    // The clock was a year ahead when it was looked at last.
    followed.serve_files(&new);
    followed.site.kill();
    let time = followed.state().join("policy/time.json");
    let seen = std::fs::read_to_string(&time).unwrap();
    let year: u32 = seen[1..5].parse().unwrap();
    std::fs::write(&time, seen.replacen(&year.to_string(), &(year + 1).to_string(), 1)).unwrap();
    followed.site.start();
    followed.refuses("stepped backward");
    is_second(&followed);
    std::fs::remove_file(&time).unwrap();
    followed.fleet.publish_as(None, DAY).unwrap();
    followed.serve();
    followed.takes("policy 3, inventory 1");
    followed.is_well();
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
}

#[test]
fn what_was_verified_is_not_taken_once_it_has_expired() {
    let mut followed = Followed::new("fleet-late", "");
    followed.site.write("mine.hujson", &policy(&[WEB]));
    let (mine, inventory) = (followed.site.path("mine.hujson"), followed.site.path("inventory.json"));
    followed.site.done(&["apply", &mine, "--inventory", &inventory, "--force"]);
    sign(&followed.fleet.propose(&policy(&[OTHER])), &[ALICE, BOB]);
    followed.fleet.publish_as(None, 6).unwrap();
    followed.serve();
    followed
        .site
        .wait_for("it is verified", |status| status["agent"]["fleet"]["verified"]["policy"]["version"] == 2);
    followed.refuses("expired");
    followed.site.done(&["fleet", "resume"]);
    followed.takes(ONE);
    std::thread::sleep(std::time::Duration::from_secs(3));
    is_untouched(&followed);
}

#[test]
fn keys_change_and_whoever_was_removed_signs_nothing_any_more() {
    let mut followed = Followed::new("fleet-keys", "");
    followed.fleet.put(&policy(&[WEB]), &[ALICE, CAROL]);
    let before = forced(&followed.fleet, &policy(&[OTHER]), &[ALICE, CAROL], |_| {});
    followed.serve();
    followed
        .site
        .wait_for("it is verified", |status| status["agent"]["fleet"]["verified"]["policy"]["version"] == 2);
    let drafts = followed
        .fleet
        .tree
        .rotate(&people(&[("alice", ALICE), ("bob", BOB), ("dave", DAVE)]), now())
        .unwrap();
    let [root, targets, inventory] = &drafts[..] else { panic!("{drafts:?}") };
    sign(root, &[ALICE, BOB]);
    sign(inventory, &[ALICE, BOB]);
    sign(targets, &[BOB, DAVE]);
    followed.fleet.publish().unwrap();
    followed.fleet.publish_inventory();
    // The root first: with it what carol has signed counts no more.
    let mut with_root = before;
    let name = "policy/metadata/2.root.json";
    with_root.insert(name.to_owned(), followed.fleet.files()[name].clone());
    followed.serve_files(&with_root);
    followed.refuses("1 valid signatures");
    followed.restart();
    followed.refuses("1 valid signatures");
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
    // Whoever has the key that freshens has counted on; so do those who publish.
    while version(&followed.fleet.files()) <= version(&with_root) {
        followed.fleet.publish_as(None, DAY).unwrap();
    }
    followed.serve();
    followed.is_well();
    let status = followed.takes("policy 3, inventory 1");
    assert_eq!(status["agent"]["fleet"]["refused"], serde_json::json!([]), "{status}");
}

#[test]
fn a_tag_that_the_policy_does_not_let_the_enroller_give_is_given_to_nobody() {
    let mut followed = Followed::new("fleet-tags", "");
    let inventory = std::fs::read_to_string(followed.site.path("inventory.json")).unwrap();
    // As a newer policy may let it, which this host has not: the rest of the inventory is taken.
    let boss = inventory.replace("[\"tag:client\"]", "[\"tag:boss\"]");
    followed.fleet.put_inventory(&boss);
    followed.serve();
    let status = followed.takes("policy 1, inventory 2");
    assert!(status["problems"].to_string().contains("which are nobody's here: client"), "{status}");
    assert!(followed.site.is_denied("client", 8080) && followed.site.is_denied("client", 8081));
    let lets = policy(&[WEB]).replace("\"tag:boss\": []", "\"tag:boss\": [\"tag:enroller\"]");
    followed.fleet.put(&lets.replace("\"tag:client\"]", "\"tag:boss\"]"), &[ALICE, BOB]);
    followed.serve();
    let status = followed.takes("policy 2, inventory 2");
    assert!(!status["problems"].to_string().contains("nobody's here"), "{status}");
    // What it says of this very host is not taken: it would be nobody.
    followed.fleet.put_inventory(&inventory.replace("[\"tag:server\"]", "[\"tag:none\"]"));
    followed.serve();
    let status =
        followed.site.wait_for("it is refused", |status| status["agent"]["fleet"]["refused"][0].is_object());
    let why = status["agent"]["fleet"]["refused"][0]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("server has tag:none, which the policy does not let the enroller give"), "{why}");
    let told = |followed: &Followed| {
        let all = followed.told("apply", "refused").into_iter();
        all.filter(|event| event["subject"] == "policy 2, inventory 3").count()
    };
    assert_eq!(told(&followed), 1);
    // It is not told again after a start, and what follows is taken.
    followed.restart();
    followed.fleet.put_inventory(&inventory.replace("[\"tag:client\"]", "[\"tag:stranger\"]"));
    followed.serve();
    followed.takes("policy 2, inventory 4");
    assert!(followed.site.is_denied("client", 8080));
    assert_eq!(told(&followed), 1);
}

#[test]
fn roles_are_not_the_enrollers_to_give_and_it_keeps_no_policy_from_taking_its_tags() {
    let mut followed = Followed::new("fleet-veto", "");
    let inventory = std::fs::read_to_string(followed.site.path("inventory.json")).unwrap();
    let roles = r#"{"users": [{"login": "mallory@example.com", "roles": ["admin"]}], "#;
    followed.fleet.put_inventory(&inventory.replacen('{', roles, 1));
    followed.serve();
    let status =
        followed.site.wait_for("it is refused", |status| status["agent"]["fleet"]["refused"][0].is_object());
    let why = status["agent"]["fleet"]["refused"][0]["why"].as_str().unwrap().to_owned();
    assert!(
        why.contains("mallory@example.com has the roles admin, which the enroller does not give"),
        "{why}"
    );
    is_untouched(&followed);
    // What it says of a client is nothing any more, and neither that nor what it says of this host keeps the policy away.
    let owners = |tag: &str, owner: &str| format!("\"tag:{tag}\": [\"tag:{owner}\"]");
    let taken = ["server", "client"].iter().fold(policy(&[WEB, OTHER]), |text, tag| {
        text.replace(&owners(tag, "enroller"), &owners(tag, "boss"))
    });
    followed.fleet.put(&taken, &[ALICE, BOB]);
    followed.serve();
    let status = followed.takes("policy 2, inventory 1");
    assert!(status.to_string().contains("which are nobody's here: client, server"), "{status}");
    assert!(!followed.site.connects("client", 8080) && !followed.site.connects("client", 8081));
}
