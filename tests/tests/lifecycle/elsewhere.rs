//! An instance, and commands that come from another network namespace than its agent's.

use std::process::{Command, Output};
use std::time::Duration;

use bulkhead_testkit::lab;

use crate::site::{Over, Site, WEB};

/// The same command, in a host's network.
fn from(site: &Site, host: &str, words: &[&str]) -> Output {
    let mut command = Command::new(lab::bulkhead().unwrap());
    command.args(["--instance", site.instance()]).args(words);
    site.namespace(host).prepare(&mut command).unwrap();
    lab::run_within(&mut command, Duration::from_secs(20)).unwrap()
}

#[test]
fn detach_removes_the_guard_where_it_is() {
    let mut site = Site::new("away", Over::Ethernet, &[WEB]);
    site.start();
    site.kill();
    assert!(site.has_guard() && site.is_denied("client", 8081));
    let output = from(&site, "stranger", &["detach"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("another network namespace") && told.contains("/run/netns/"), "{told}");
    assert!(!site.has_guard());
    assert!(site.connects("client", 8081), "nobody is cut off");
}

#[test]
fn detach_leaves_all_as_it_is_where_the_guard_cannot_be_removed() {
    let mut site = Site::new("stays", Over::Ethernet, &[WEB]);
    site.start();
    site.kill();
    let mut command = Command::new(lab::bulkhead().unwrap());
    command.args(["--instance", site.instance(), "detach"]).env("PATH", "/nonexistent");
    site.namespace("server").prepare(&mut command).unwrap();
    let output = lab::run_within(&mut command, Duration::from_secs(20)).unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing is detached"), "{output:?}");
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
}

#[test]
fn an_instance_is_not_started_in_a_second_namespace() {
    let mut site = Site::new("second", Over::Ethernet, &[WEB]);
    site.start();
    site.kill();
    let run = ["run", "--config", &site.path("agent.toml")];
    let output = from(&site, "stranger", &run);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    let place = site.namespace("server").path();
    assert!(error.contains(&format!("nsenter --net={}", place.display())), "{error}");
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    // In its own it goes on.
    site.start();
    site.kill();
    // With the guard alone it still is there.
    std::fs::remove_dir_all(site.pins()).unwrap();
    let output = from(&site, "stranger", &run);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(from(&site, "stranger", &["detach"]).status.code(), Some(0));
    assert!(!site.has_guard());
}
