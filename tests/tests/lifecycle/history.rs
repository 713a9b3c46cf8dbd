//! What was enforced when, by whom, and the way back to any of it.

use bulkhead_testkit::lab;
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{OTHER, Over, Site, WEB};

fn history(site: &Site) -> Vec<Value> {
    let output = site.bulkhead(&["history", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn said(site: &Site, words: &[&str], code: i32) -> String {
    let output = site.bulkhead(words);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    text
}

#[test]
fn every_change_is_listed_and_can_be_returned_to() {
    let mut site = Site::new("history", Over::Ethernet, &[WEB]);
    site.start();
    let first = history(&site);
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!((&first[0]["origin"]["action"], &first[0]["standing"]), (&"start".into(), &"enforced".into()));
    assert_eq!(first[0]["origin"]["by"]["via"], "agent");

    // What would change is said, and nothing has changed: nor is it on record.
    site.write_policy(&[OTHER]);
    let text = said(&site, &["apply", "--dry-run"], 0);
    let lines =
        ["+ client -> server  tcp:8081", "- client -> server  tcp:8080", "dry run: nothing has changed"];
    assert!(lines.iter().all(|line| text.contains(line)), "{text}");
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    assert_eq!(history(&site), first);
    site.write("broken.hujson", "{");
    said(&site, &["apply", "--dry-run", &site.path("broken.hujson")], 1);
    let told = |action: &str| {
        let events = reports(&site.journal_file()).into_iter();
        events.filter(|event| event["kind"] == "control" && event["action"] == action).count()
    };
    assert_eq!(told("apply"), 0);

    // An apply shows the same, and is in the history with who and what.
    let text = said(&site, &["apply"], 0);
    assert!(lines[..2].iter().all(|line| text.contains(line)) && text.contains("generation "), "{text}");
    let second = history(&site);
    assert_eq!((second.len(), &second[1]["standing"]), (2, &"previous".into()), "{second:?}");
    let origin = &second[0]["origin"];
    assert_eq!((&origin["action"], &origin["by"]["uid"]), (&"apply".into(), &0.into()));
    assert_eq!(origin["difference"]["lines"].as_array().unwrap().len(), 2);
    let digest =
        std::process::Command::new("sha256sum").arg(site.path("policy.hujson")).output().unwrap().stdout;
    assert_eq!(second[0]["policy_sha256"].as_str().unwrap().as_bytes(), &digest[..64]);

    // A mode is a change, the same files again change nothing.
    let text = said(&site, &["apply", "--mode", "audit"], 0);
    assert!(text.contains("mode: enforce -> audit"), "{text}");
    said(&site, &["apply", "--mode", "enforce"], 0);
    let text = said(&site, &["apply"], 0);
    assert!(!text.contains("->"), "{text}");

    // Back to the first, by its number; it is a change of its own, and can be confirmed or not.
    let number = first[0]["generation"].as_u64().unwrap().to_string();
    let text = said(&site, &["rollback", &number, "--confirm", "4s"], 0);
    assert!(text.contains("+ client -> server  tcp:8080") && text.contains("bulkhead confirm"), "{text}");
    assert_eq!(history(&site)[0]["standing"], "unconfirmed");
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    site.wait_for("it is not confirmed", |status| status["agent"]["confirm_within"].is_null());
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    said(&site, &["rollback", &number], 0);
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));

    // A generation that is enforced, or not kept, is refused, and said so.
    let now = history(&site)[0]["generation"].as_u64().unwrap();
    assert!(said(&site, &["rollback", &now.to_string()], 2).contains("is enforced"));
    assert!(said(&site, &["rollback", "4000000"], 2).contains("is not kept"));
    assert!(said(&site, &["history", "4000000"], 2).contains("is not kept"));
    assert!(site.connects("client", 8080));

    // The same without an agent, after it, and for what a restart builds again.
    let listed = history(&site);
    site.kill();
    assert_eq!(history(&site), listed);
    let text = said(&site, &["history", "--diff"], 0);
    assert!(text.contains("by root") && text.contains("+ client -> server  tcp:8081"), "{text}");
    site.start();
    let again = history(&site);
    let origins = |list: &[Value]| list.iter().map(|entry| entry["origin"].clone()).collect::<Vec<_>>();
    assert_eq!(origins(&again), origins(&listed));
    assert_eq!(again[0]["standing"], "enforced");
    assert!(again[0]["generation"].as_u64() > listed[0]["generation"].as_u64());
    let number = again[1]["generation"].as_u64().unwrap().to_string();
    said(&site, &["rollback", &number], 0);
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
}

#[test]
fn a_rollback_never_returns_to_what_nobody_confirmed() {
    let mut site = Site::new("lapsed", Over::Ethernet, &[WEB]);
    site.start();
    site.write_policy(&[OTHER]);
    site.done(&["apply"]);
    let not_confirmed = |site: &mut Site| {
        site.write("open.hujson", &crate::site::policy(&[WEB, OTHER]));
        site.done(&["apply", &site.path("open.hujson"), "--confirm", "2s"]);
        assert!(site.connects("client", 8080) && site.connects("client", 8081));
    };
    // It goes back by itself, and the way back from there leads to what was in force before that.
    not_confirmed(&mut site);
    site.wait_for("back", |status| status["agent"]["confirm_within"].is_null());
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    let listed = history(&site);
    let standings: Vec<_> = listed.iter().map(|entry| entry["standing"].as_str().unwrap()).collect();
    assert_eq!(standings, ["enforced", "lapsed", "kept", "previous"], "{listed:?}");
    assert!(said(&site, &["history"], 0).contains(", never confirmed"));
    assert_eq!(site.status()["agent"]["previous"], listed[3]["generation"]);
    said(&site, &["rollback"], 0);
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    // A second one undoes the first.
    said(&site, &["rollback"], 0);
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));

    // The same if the time is over while no agent runs.
    not_confirmed(&mut site);
    site.kill();
    std::thread::sleep(std::time::Duration::from_secs(2));
    site.start();
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    said(&site, &["rollback"], 0);
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));

    // The same again is nothing to return to either, and whoever means what nobody confirmed names it.
    site.write_policy(&[WEB]);
    site.done(&["apply"]);
    said(&site, &["rollback"], 0);
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    let lapsed = history(&site).into_iter().find(|entry| entry["standing"] == "lapsed").unwrap();
    said(&site, &["rollback", &lapsed["generation"].to_string()], 0);
    assert!(site.connects("client", 8080) && site.connects("client", 8081));
}

#[test]
fn an_unconfirmed_policy_that_nothing_can_be_put_in_the_place_of_is_said_to_be_so() {
    let mut site = Site::new("nowayback", Over::Ethernet, &[WEB]);
    site.start();
    let first = site.status()["agent"]["generation"].to_string();
    site.write_policy(&[OTHER]);
    site.done(&["apply", "--confirm", "2s"]);
    site.kill();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let state = site.journal_file().with_file_name(format!("generation-{first}"));
    std::fs::remove_dir_all(state).unwrap();
    site.start();
    let status = site.status();
    let problems = status["problems"].to_string();
    assert_eq!(status["state"], "degraded", "{status}");
    assert!(problems.contains(&format!("generation {first} cannot be returned to")), "{problems}");
    let listed = history(&site);
    assert_eq!(listed[0]["origin"]["action"], "start", "nothing is returned to: {listed:?}");
    // Whoever says what is to be enforced ends it.
    site.write_policy(&[WEB]);
    site.done(&["apply"]);
    assert_eq!(site.status()["state"], "enforced");
}

#[test]
fn a_history_that_somebody_has_damaged_keeps_nothing_from_going_on() {
    let mut site = Site::new("damaged", Over::Ethernet, &[WEB]);
    site.start();
    site.write_policy(&[OTHER]);
    site.done(&["apply"]);
    let state = std::path::PathBuf::from(format!("/var/lib/bulkhead/{}", site.instance()));
    for entry in std::fs::read_dir(&state).unwrap().flatten() {
        let origin = entry.path().join("origin.json");
        if origin.exists() {
            std::fs::write(origin, "{\"action\": 7").unwrap();
        }
    }
    let enforced = history(&site);
    assert_eq!((enforced.len(), &enforced[0]["standing"]), (1, &"enforced".into()), "{enforced:?}");
    assert_eq!(enforced[0]["generation"], site.status()["agent"]["generation"]);
    assert!(said(&site, &["history", "--diff"], 0).contains("how it came to be in force is not known"));
    site.done(&["rollback"]);
    let listed = history(&site);
    assert_eq!((listed.len(), &listed[0]["origin"]["action"]), (1, &"rollback".into()), "{listed:?}");
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
}

#[test]
fn files_that_change_are_enforced_if_that_is_asked_for() {
    let mut site = Site::new("watch", Over::Ethernet, &[WEB]);
    site.write("agent.toml", &("watch = true\n".to_owned() + &site.configuration("server", "eth0")));
    site.start();
    let applies = |site: &Site| {
        let events = reports(&site.journal_file()).into_iter();
        let applies = events.filter(|event| event["kind"] == "control" && event["action"] == "apply");
        applies.map(|event| (event["by"]["via"].clone(), event["outcome"].clone())).collect::<Vec<_>>()
    };
    let generation = site.status()["agent"]["generation"].as_u64().unwrap();

    // In place, and by a rename, as editors and configuration management do.
    site.write_policy(&[OTHER]);
    let next = |site: &mut Site, number: u64| {
        site.wait_for("the change is enforced", |status| status["agent"]["generation"] == number)
    };
    next(&mut site, generation + 1);
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    site.write("new", &crate::site::policy(&[WEB, OTHER]));
    std::fs::rename(site.path("new"), site.path("policy.hujson")).unwrap();
    next(&mut site, generation + 2);
    assert!(site.connects("client", 8081) && site.connects("client", 8080));
    assert_eq!(history(&site)[0]["origin"]["by"]["via"], "file");

    // What is invalid, half there or gone changes nothing, and is tried once; nor does what says the same.
    site.write("policy.hujson", "{\"acls\": [");
    let deadline = std::time::Instant::now() + lab::slower(std::time::Duration::from_secs(20));
    while applies(&site).len() < 3 {
        assert!(std::time::Instant::now() < deadline, "{}", site.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    std::fs::remove_file(site.path("policy.hujson")).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    site.write_policy(&[WEB, OTHER]);
    std::thread::sleep(std::time::Duration::from_secs(4));
    let by = |outcome: &str| ("file".into(), outcome.into());
    assert_eq!(applies(&site), [by("done"), by("done"), by("refused")]);
    assert_eq!(site.status()["agent"]["generation"], generation + 2);

    // A command that was first leaves nothing to do.
    site.write_policy(&[WEB]);
    site.done(&["apply"]);
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(applies(&site)[3..], [("socket".into(), "done".into())]);
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
}
