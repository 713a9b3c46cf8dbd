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
