//! A staged candidate: it sees every packet, says what it would decide otherwise, and changes nothing.

use std::path::Path;

use serde_json::Value;

use crate::site::account::{drops, number, reports, told};
use crate::site::{OTHER, Over, Site, WEB, policy};

/// The differences that a journal tells of.
fn differences(journal: &Path) -> Vec<Value> {
    reports(journal).into_iter().filter(|report| report["kind"] == "would_differ").collect()
}

/// Those to and from a port of the server.
fn differences_at(journal: &Path, port: u16) -> Vec<Value> {
    differences(journal).into_iter().filter(|report| report["destination_port"] == port).collect()
}

#[test]
fn a_staged_policy_observes_and_is_promoted() {
    for over in [Over::Ethernet, Over::Tunnel] {
        let mut site = Site::new("staged", over, &[WEB]);
        site.start();
        let mut web = site.connect("client", 8080);
        web.goes_on();
        // The staged policy admits 8081 in the place of 8080.
        site.write("candidate.hujson", &policy(&[OTHER]));
        site.done(&["stage", &site.path("candidate.hujson")]);
        let staged = site.status()["agent"]["staged"].clone();
        assert_eq!((&staged["would_drop"], &staged["would_pass"]), (&0.into(), &0.into()), "{staged}");

        // Nothing changes but what is told: of the open connection's segments and replies, of new ones.
        web.goes_on();
        assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
        assert!(site.is_denied("stranger", 8080), "denied by both: no difference");
        site.wait_for("the differences are counted", |status| {
            let staged = &status["agent"]["staged"];
            staged["would_drop"].as_u64() > Some(3) && staged["would_pass"].as_u64() > Some(0)
        });
        let generation = site.status()["agent"]["generation"].clone();
        let journal = site.journal_file();
        site.wait_for("all differences are reported", |status| {
            let staged = &status["agent"]["staged"];
            let reported: u64 = differences(&journal).iter().map(|report| number(&report["count"])).sum();
            reported == number(&staged["would_drop"]) + number(&staged["would_pass"])
        });
        let dropped = differences_at(&journal, 8080);
        let first = dropped.first().unwrap();
        assert_eq!(first["enforced"]["passed"], true, "{first}");
        assert_eq!(first["enforced"]["rule"]["name"], "web");
        assert_eq!(first["generation"], staged["generation"]);
        assert!(first["generation"] != generation);
        assert_eq!(first["source"]["name"], "client");
        assert!(dropped.iter().all(|report| report["source"]["name"] != "stranger"));
        let passed = differences_at(&journal, 8081);
        assert_eq!(passed[0]["enforced"]["passed"], false);
        assert_eq!((&passed[0]["reason"], &passed[0]["rule"]["name"]), (&"rule".into(), &"other".into()));
        // No difference is taken for a drop: what was dropped has been told of exactly.
        site.wait_for("each drop is told of once, and nothing else is", |status| {
            told(status) == drops(status)
        });

        // It outlives an apply and the agent.
        site.done(&["apply"]);
        site.kill();
        site.start();
        assert_eq!(site.status()["agent"]["staged"]["generation"], staged["generation"]);
        assert!(site.connects("client", 8080) && site.is_denied("client", 8081));

        site.done(&["promote"]);
        assert!(site.status()["agent"]["staged"].is_null());
        web.is_cut();
        assert!(site.is_denied("client", 8080) && site.connects("client", 8081));
        assert_eq!(site.bulkhead(&["promote"]).status.code(), Some(1), "nothing is staged");
        site.done(&["rollback"]);
        assert!(site.connects("client", 8080));
        site.done(&["stage", &site.path("candidate.hujson")]);
        site.done(&["unstage"]);
        assert!(site.status()["agent"]["staged"].is_null());
        assert_eq!(site.bulkhead(&["unstage"]).status.code(), Some(1));
        assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    }
}

#[test]
fn a_candidate_that_does_not_hold_is_not_staged() {
    let mut site = Site::new("nostage", Over::Ethernet, &[WEB]);
    site.start();
    let before = site.status()["agent"]["generation"].clone();
    site.write("candidate.hujson", "{\"acls\": [{\"action\": \"accept\", \"src\": [\"tag:nobody\"]}]}");
    let output = site.bulkhead(&["stage", &site.path("candidate.hujson")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(site.status()["agent"]["generation"], before);
    assert_eq!(site.bulkhead(&["stage", "/nowhere"]).status.code(), Some(2));
}
