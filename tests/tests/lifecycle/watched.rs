//! `status --watch` and `version`, over a restart of the agent.

use std::process::Stdio;
use std::time::Duration;

use bulkhead_testkit::lab::{Process, slower};
use serde_json::Value;

use crate::site::{Over, Site, WEB};

/// Starts `status --watch` with more flags; it writes to the log.
fn watch(site: &Site, name: &str, more: &[&str]) -> Process {
    let mut command = site.command();
    command.args(["--instance", site.instance(), "status", "--watch"]).args(more).stdin(Stdio::null());
    let log = site.lab.directory().join(name);
    Process::spawn(site.namespace("server"), &mut command, &log).unwrap()
}

/// Waits until it holds for what has been written.
fn until(process: &Process, what: &str, holds: impl Fn(&str) -> bool) {
    for _ in 0..slower(Duration::from_secs(30)).as_millis() / 50 {
        if holds(&process.log()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not so: {what}\n{}", process.log());
}

/// The code with which it ends on Ctrl-C.
fn interrupted(process: &mut Process) -> Option<i32> {
    process.signal(libc::SIGINT);
    process.wait(slower(Duration::from_secs(5))).unwrap().code()
}

#[test]
fn status_is_watched_over_a_restart_of_the_agent() {
    let mut site = Site::new("watched", Over::Ethernet, &[WEB]);
    let mut detached = watch(&site, "detached.log", &[]);
    until(&detached, "nothing is enforced", |log| log.matches("nothing is enforced").count() >= 2);
    assert_eq!(interrupted(&mut detached), Some(1), "{}", detached.log());
    site.start();
    let (mut blocks, mut json) = (watch(&site, "blocks.log", &[]), watch(&site, "json.log", &["--json"]));
    until(&blocks, "two blocks", |log| log.matches("enforced, node server").count() >= 2);
    site.kill();
    until(&blocks, "no agent", |log| log.contains("without an agent"));
    site.start();
    until(&blocks, "an agent again", |log| {
        log.rsplit("without an agent").next().is_some_and(|last| last.contains("enforced, node server"))
    });
    until(&json, "an agent again", |log| {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut agents: Vec<bool> = lines.map(|status| status["agent"].is_object()).collect();
        agents.dedup();
        agents == [true, false, true]
    });
    assert_eq!(interrupted(&mut blocks), Some(0), "{}", blocks.log());
    assert_eq!(interrupted(&mut json), Some(0));
    let is_object =
        |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|status| status["state"].is_string());
    assert!(json.log().lines().all(is_object), "one object a line: {}", json.log());
    assert!(!blocks.log().contains('\u{1b}'), "no terminal");
}

#[test]
fn the_version_is_the_binarys_and_the_running_agents() {
    let mut site = Site::new("version", Over::Ethernet, &[WEB]);
    let told = |site: &Site| -> Value {
        let output = site.bulkhead(&["version", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let alone = told(&site);
    assert_eq!(alone["agent"], Value::Null);
    assert_eq!(alone["map_abi"], bulkhead_abi::VERSION);
    site.start();
    let both = told(&site);
    let commit = both["commit"].as_str().unwrap();
    assert!(commit == "unknown" || commit.len() >= 12, "{both}");
    for field in ["version", "commit", "api"] {
        assert_eq!(both[field], both["agent"][field], "{both}");
    }
    let text = String::from_utf8(site.bulkhead(&["version"]).stdout).unwrap();
    assert!(text.contains("agent: ") && !text.contains("note:"), "{text}");
}
