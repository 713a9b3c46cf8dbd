//! What was gone back from through nobody's fault is tried again, and what was refused is not for ever.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::kit::{ALICE, BOB};
use super::{Followed, enforced, policy};
use crate::site::{OTHER, WEB};

/// A program that finds a host well unless a file is there.
struct Health(PathBuf);

impl Health {
    fn new(label: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bulkhead-{label}-{}", std::process::id()));
        std::fs::write(&path, "#!/bin/sh\ntest ! -e \"$0.bad\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn setting(&self) -> String {
        format!("health = [\"{}\"]\n", self.0.display())
    }

    fn is_bad(&self, is_bad: bool) {
        let bad = self.0.with_extension("bad");
        if is_bad { std::fs::write(bad, "").unwrap() } else { std::fs::remove_file(bad).unwrap() }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(self.0.with_extension("bad"));
    }
}

fn refused(status: &Value) -> &Value {
    &status["agent"]["fleet"]["refused"]
}

#[test]
fn what_fails_through_nobodys_fault_is_tried_again() {
    let health = Health::new("fleet-again");
    let mut followed = Followed::new("fleet-again", &health.setting());
    let (served, gone) = (followed.site.path("served"), followed.site.path("gone"));
    // Whoever carries the files goes away while a new version is checked.
    health.is_bad(true);
    followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    followed.serve();
    followed
        .site
        .wait_for("it is tried", |status| enforced(status).as_deref() == Some("policy 2, inventory 1"));
    std::fs::rename(&served, &gone).unwrap();
    health.is_bad(false);
    followed.takes("policy 1, inventory 1");
    let status = followed.refuses("No such file");
    assert_eq!(refused(&status), &json!([]));
    std::fs::rename(&gone, &served).unwrap();
    followed.takes("policy 2, inventory 1");
    followed.is_well();
    assert!(followed.site.connects("client", 8081) && followed.site.is_denied("client", 8080));

    // The same text under another version is no news to check.
    health.is_bad(true);
    followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    followed.serve();
    let status = followed.takes("policy 3, inventory 1");
    assert_eq!(refused(&status), &json!([]));
    assert_eq!(followed.told("rollback", "done").len(), 1);

    // What was good is not to blame for a host that is not well.
    followed.site.write("mine.hujson", &policy(&[WEB]));
    let (mine, inventory) = (followed.site.path("mine.hujson"), followed.site.path("inventory.json"));
    followed.site.done(&["apply", &mine, "--inventory", &inventory, "--force"]);
    followed.site.done(&["fleet", "resume"]);
    let status = followed.refuses("it is tried again");
    assert_eq!(refused(&status), &json!([]));
    health.is_bad(false);
    followed.takes("policy 3, inventory 1");
    followed.is_well();
    assert!(followed.site.connects("client", 8081) && followed.site.is_denied("client", 8080));
}

/// A policy that cuts its host off from the fleet's files: they come again once the host has gone back, each time.
#[test]
fn what_cuts_a_host_off_is_told_as_gone_back_from() {
    let health = Health::new("fleet-cut");
    let mut followed = Followed::new("fleet-cut", &health.setting());
    let (served, gone) = (followed.site.path("served"), followed.site.path("gone"));
    let cut = format!(
        "#!/bin/sh\ntest -e \"$0.bad\" || exit 0\nmv {served} {gone} || exit 0\n(sleep 6; mv {gone} {served}) >/dev/null 2>&1 &\n"
    );
    std::fs::write(&health.0, cut).unwrap();
    health.is_bad(true);
    followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    followed.serve();
    let is_told = |status: &Value| refused(status)[0]["what"] == "policy 2";
    followed.site.wait_for("it is tried", |status| {
        assert!(!is_told(status), "once, it may be whoever carries the files: {status}");
        enforced(status).as_deref() == Some("policy 2, inventory 1")
    });
    let status = followed.site.wait_for("it is told", is_told);
    assert_eq!(refused(&status)[0]["gone_back"], true);
    assert!(refused(&status)[0]["why"].as_str().unwrap().contains("it is tried again"), "{status}");
    health.is_bad(false);
    let status = followed.takes("policy 2, inventory 1");
    assert_eq!(refused(&status), &json!([]));
}

#[test]
fn what_was_refused_is_tried_again_under_another_configuration_or_if_somebody_says_so() {
    let health = Health::new("fleet-refused");
    let mut followed = Followed::new("fleet-refused", &health.setting());
    let gives_up = |followed: &mut Followed, version: u32| {
        let what = format!("policy {version}");
        followed.site.wait_for("it is given up", |status| refused(status)[0]["what"] == *what);
    };
    health.is_bad(true);
    followed.fleet.put(&policy(&[OTHER]), &[ALICE, BOB]);
    followed.serve();
    gives_up(&mut followed, 2);
    followed.takes("policy 1, inventory 1");
    health.is_bad(false);
    followed.restart();
    let has_alarm = |status: &Value| {
        status["agent"]["alarms"]["active"].to_string().contains("the fleet's policy 2 was given up")
    };
    let status = followed.site.wait_for("it is told after a start", has_alarm);
    assert_eq!(enforced(&status).as_deref(), Some("policy 1, inventory 1"));
    let agent = PathBuf::from(followed.site.path("agent.toml"));
    let text = std::fs::read_to_string(&agent).unwrap();
    assert!(text.contains("confirm_seconds = 5"));
    std::fs::write(&agent, text.replace("confirm_seconds = 5", "confirm_seconds = 4")).unwrap();
    followed.restart();
    followed.takes("policy 2, inventory 1");
    followed.site.wait_for("there is no alarm", |status| !has_alarm(status));

    health.is_bad(true);
    followed.fleet.put(&policy(&[WEB]), &[ALICE, BOB]);
    followed.serve();
    gives_up(&mut followed, 3);
    followed.takes("policy 2, inventory 1");
    health.is_bad(false);
    followed.site.done(&["fleet", "resume"]);
    followed.takes("policy 3, inventory 1");
    assert!(followed.site.connects("client", 8080) && followed.site.is_denied("client", 8081));
}
