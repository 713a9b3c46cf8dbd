//! Whoever has to get in while the fleet is broken applies files on the host, and that is told until it is over.

use super::kit::{ALICE, BOB};
use super::{Followed, policy};
use crate::site::OTHER;

#[test]
fn what_is_applied_on_the_host_holds_until_the_fleet_is_resumed() {
    let mut followed = Followed::new("fleet-local", "");
    let refused = followed.site.bulkhead(&["apply"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("bulkhead fleet resume"), "{words}");
    followed.site.write("mine.hujson", &policy(&[OTHER]));
    let (mine, inventory) = (followed.site.path("mine.hujson"), followed.site.path("inventory.json"));
    followed.site.done(&["apply", &mine, "--inventory", &inventory, "--force"]);
    assert!(followed.site.connects("client", 8081) && followed.site.is_denied("client", 8080));
    let status = followed.site.wait_for("it is told", |status| status["agent"]["fleet"]["local"].is_string());
    assert!(status["agent"]["fleet"]["enforced"].is_null());
    let shown = String::from_utf8_lossy(&followed.site.bulkhead(&["status"]).stdout).into_owned();
    assert!(shown.contains("what runs is not what the fleet has signed: apply by root"), "{shown}");
    // What is signed meanwhile is verified, and waits; also after a start.
    followed.fleet.put(&policy(&[]), &[ALICE, BOB]);
    followed.serve();
    followed.restart();
    followed
        .site
        .wait_for("it is verified", |status| status["agent"]["fleet"]["verified"]["policy"]["version"] == 2);
    assert!(followed.site.connects("client", 8081));
    followed.site.done(&["fleet", "resume"]);
    let status = followed.takes("policy 2, inventory 1");
    assert!(status["agent"]["fleet"]["local"].is_null());
    assert!(followed.site.is_denied("client", 8081) && followed.site.is_denied("client", 8080));
}

/// Everybody to everybody, which is what a host must never begin with by accident.
const OPEN: &str = r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#;

#[test]
fn a_record_that_is_damaged_or_gone_opens_nothing() {
    let mut followed = Followed::new("fleet-damaged", "");
    let begin = followed.site.path("policy.hujson");
    let record = followed.state().with_file_name("fleet.json");
    std::fs::write(&begin, OPEN).unwrap();
    let truncate = |path: &std::path::Path| std::fs::write(path, "{").unwrap();
    let remove = |path: &std::path::Path| std::fs::remove_file(path).unwrap();
    for (damage, is_told) in [(&truncate as &dyn Fn(&std::path::Path), true), (&remove, false)] {
        followed.site.kill();
        damage(&record);
        followed.site.start();
        assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
        followed.takes("policy 1, inventory 1");
        let alarms = followed.site.status()["agent"]["alarms"]["active"].to_string();
        assert_eq!(alarms.contains("what this host knows of the fleet is damaged"), is_told, "{alarms}");
    }
    // It still follows.
    followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    followed.serve();
    followed.takes("policy 2, inventory 1");
    assert!(followed.site.is_denied("client", 8080) && followed.site.connects("client", 8081));
}

#[test]
fn generations_that_are_damaged_or_gone_open_nothing() {
    let mut followed = Followed::new("fleet-lost", "");
    let begin = followed.site.path("policy.hujson");
    std::fs::write(&begin, OPEN).unwrap();
    let state = followed.state().parent().unwrap().to_owned();
    let damage = |is_meant: &dyn Fn(&str) -> bool| {
        for found in std::fs::read_dir(&state).unwrap() {
            let path = found.unwrap().path();
            let is_generation = path.file_name().unwrap().to_string_lossy().starts_with("generation-");
            if is_generation && is_meant("policy") && path.join("policy").exists() {
                std::fs::write(path.join("policy"), "").unwrap();
            } else if is_generation && is_meant("all") {
                std::fs::remove_dir_all(path).unwrap();
            }
        }
    };
    // What the fleet had signed is kept apart.
    for what in ["policy", "all"] {
        followed.site.kill();
        damage(&|of| of == what);
        followed.site.start();
        assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081), "{what}");
        let status = followed.takes("policy 1, inventory 1");
        let told = "are damaged or gone, or do not compile here any more: the fleet's policy 1, inventory 1";
        assert!(status["problems"].to_string().contains(told), "{status}");
    }
    followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    followed.serve();
    followed.takes("policy 2, inventory 1");
    // Without that, too, nobody is admitted until the fleet is there.
    followed.site.kill();
    damage(&|of| of == "policy");
    for of in ["policy", "inventory"] {
        let trusted = followed.state().join(of);
        let texts = std::fs::read_dir(trusted).unwrap().map(|found| found.unwrap().path());
        // They are named after their digests.
        let is_text = |path: &std::path::PathBuf| path.file_name().unwrap().len() > 64;
        texts.filter(is_text).for_each(|path| std::fs::remove_file(path).unwrap());
    }
    std::fs::rename(followed.site.path("served"), followed.site.path("gone")).unwrap();
    followed.site.start();
    let status = followed.refuses("No such file");
    assert!(status["problems"].to_string().contains("any more: nobody is admitted"), "{status}");
    assert!(followed.site.is_denied("client", 8080) && followed.site.is_denied("client", 8081));
    std::fs::rename(followed.site.path("gone"), followed.site.path("served")).unwrap();
    followed.takes("policy 2, inventory 1");
    assert!(followed.site.is_denied("client", 8080) && followed.site.connects("client", 8081));
}

#[test]
fn what_was_applied_on_the_host_outlives_another_that_nobody_confirmed() {
    let mut followed = Followed::new("fleet-aside", "");
    followed.site.write("one.hujson", &policy(&[OTHER]));
    followed.site.write("two.hujson", &policy(&[]));
    let [one, two, inventory] =
        ["one.hujson", "two.hujson", "inventory.json"].map(|of| followed.site.path(of));
    // One that nobody confirmed is over, and the fleet goes on.
    followed.site.done(&["apply", &one, "--inventory", &inventory, "--force", "--confirm", "2s"]);
    followed.site.wait_for("it is told", |status| status["agent"]["fleet"]["local"].is_string());
    followed.site.wait_for("it is over", |status| status["agent"]["fleet"]["local"].is_null());
    followed.takes("policy 1, inventory 1");
    followed.site.done(&["apply", &one, "--inventory", &inventory, "--force"]);
    followed.site.done(&["apply", &two, "--inventory", &inventory, "--force", "--confirm", "2s"]);
    assert!(followed.site.is_denied("client", 8081));
    followed.site.wait_for("it is back", |status| status["agent"]["confirm_within"].is_null());
    std::thread::sleep(std::time::Duration::from_secs(3));
    let holds = |followed: &mut Followed| {
        assert!(followed.site.status()["agent"]["fleet"]["local"].is_string());
        assert!(followed.site.connects("client", 8081) && followed.site.is_denied("client", 8080));
    };
    holds(&mut followed);
    followed.restart();
    std::thread::sleep(std::time::Duration::from_secs(3));
    holds(&mut followed);
    followed.site.done(&["fleet", "resume"]);
    followed.takes("policy 1, inventory 1");
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
}

#[test]
fn a_dead_origin_changes_nothing_and_a_start_goes_on_without_it() {
    let mut followed = Followed::new("fleet-dead", "");
    std::fs::rename(followed.site.path("served"), followed.site.path("gone")).unwrap();
    followed.refuses("No such file");
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
    // What `run` names says that nobody may: it is what the host began with.
    followed.restart();
    followed.takes("policy 1, inventory 1");
    followed.refuses("No such file");
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
    std::fs::rename(followed.site.path("gone"), followed.site.path("served")).unwrap();
    followed.is_well();
}
