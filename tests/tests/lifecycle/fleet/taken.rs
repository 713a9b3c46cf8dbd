//! What a host takes, and what it gives up: shares, its own check, and agents that are killed meanwhile.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;

use super::kit::{ALICE, BOB, CAROL, DAY, sign};
use super::{Followed, enforced, policy};
use crate::site::{OTHER, WEB};

#[test]
fn a_share_of_the_hosts_takes_a_version_first() {
    let mut followed = Followed::new("fleet-share", "");
    let slot = bulkhead_fleet::slot("server", 2);
    sign(&followed.fleet.propose(&policy(&[OTHER])), &[ALICE, BOB]);
    followed.fleet.publish_as(Some(slot), DAY).unwrap();
    followed.serve();
    let status = followed.site.wait_for("it waits", |status| status["agent"]["fleet"]["waiting"].is_string());
    assert_eq!(status["agent"]["fleet"]["waiting"], "policy 2 is not for this host yet");
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
    followed.fleet.publish_as(Some(slot + 1), DAY).unwrap();
    followed.serve();
    let status = followed.takes("policy 2, inventory 1");
    assert!(status["agent"]["fleet"]["waiting"].is_null());
    assert!(followed.site.connects("client", 8081));
    // A smaller share takes nothing back.
    followed.fleet.publish_as(Some(0), DAY).unwrap();
    followed.serve();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(enforced(&followed.site.status()).as_deref(), Some("policy 2, inventory 1"));
}

#[test]
fn what_the_hosts_own_check_does_not_find_good_is_gone_back_from_and_not_tried_again() {
    let checked = std::env::temp_dir().join(format!("bulkhead-health-{}", std::process::id()));
    std::fs::write(&checked, "#!/bin/sh\ntest ! -e \"$0.bad\"\n").unwrap();
    std::fs::set_permissions(&checked, std::fs::Permissions::from_mode(0o755)).unwrap();
    let bad = checked.with_file_name(format!("{}.bad", checked.file_name().unwrap().to_str().unwrap()));
    let mut followed = Followed::new("fleet-health", &format!("health = [\"{}\"]\n", checked.display()));
    std::fs::write(&bad, "").unwrap();
    followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    followed.serve();
    followed
        .site
        .wait_for("it is tried", |status| enforced(status).as_deref() == Some("policy 2, inventory 1"));
    assert!(followed.site.connects("client", 8081));
    let begun = Instant::now();
    let status = followed
        .site
        .wait_for("it has gone back", |status| status["agent"]["fleet"]["refused"][0].is_object());
    assert!(begun.elapsed() < slower(Duration::from_secs(10)), "{:?}", begun.elapsed());
    let refused = &status["agent"]["fleet"]["refused"][0];
    assert_eq!((&refused["what"], &refused["gone_back"]), (&"policy 2".into(), &true.into()), "{refused}");
    assert!(refused["why"].as_str().unwrap().contains("exit status: 1"), "{refused}");
    followed.takes("policy 1, inventory 1");
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
    assert_eq!(followed.told("rollback", "done").len(), 1);
    // Neither by the next look, nor by the next agent, nor with another inventory, though all would be well.
    std::fs::remove_file(&bad).unwrap();
    followed.restart();
    let inventory = std::fs::read_to_string(followed.site.path("inventory.json")).unwrap();
    followed.fleet.put_inventory(&format!("{inventory}\n"));
    followed.serve();
    followed.takes("policy 1, inventory 2");
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
    followed.fleet.put(&policy(&[OTHER, WEB]), &[ALICE, CAROL]);
    followed.serve();
    followed.takes("policy 3, inventory 2");
    assert!(followed.site.connects("client", 8080) && followed.site.connects("client", 8081));
    let _ = std::fs::remove_file(checked);
}

#[test]
fn a_killed_agent_leaves_no_more_than_one_of_two_bundles_and_the_next_takes_the_new_one() {
    let mut followed = Followed::new("fleet-killed", "");
    for round in 2..8 {
        let acls: &[&str] = if round % 2 == 0 { &[OTHER] } else { &[WEB] };
        followed.fleet.put(&policy(acls), &[ALICE, BOB]);
        followed.serve();
        // From before it looks until after it is good.
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..2500)));
        followed.site.kill();
        let (web, other) = (followed.site.connects("client", 8080), followed.site.connects("client", 8081));
        // One of both and whole, or what both admit, which is nothing.
        assert!(!(web && other), "more than one of both");
        followed.site.start();
        followed.takes(&format!("policy {round}, inventory 1"));
        assert_eq!(followed.site.connects("client", 8081), round % 2 == 0);
    }
}
