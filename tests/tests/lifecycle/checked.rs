//! What enforces asks what `check` asks: a policy whose own tests fail or that crosses a boundary is refused
//! by all of them alike, and what was enforced before still is.

use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab;

use crate::site::{OTHER, Over, Site, WEB, policy};

/// A policy with more sections.
fn with(acls: &[&str], sections: &str) -> String {
    format!("{},\n{sections}}}", policy(acls).strip_suffix('}').unwrap())
}

/// It fails while the client may use port 8080, and holds while it may not.
const NOBODY: &str = r#""tests": [{"src": "tag:client", "deny": ["tag:server:8080"]}]"#;
/// The other way round.
const WANTED: &str = r#""tests": [{"src": "tag:client", "accept": ["tag:server:8080"]}]"#;
/// WEB crosses it.
const BOUNDARY: &str =
    r#""boundaries": [{"name": "apart", "between": [["tag:client"], ["tag:server"]], "only": []}]"#;

#[test]
fn a_policy_that_fails_its_own_tests_is_enforced_by_nobody() {
    let mut site = Site::new("tests", Over::Ethernet, &[WEB]);
    site.start();
    let mut connection = site.connect("client", 8080);
    let before = site.status();
    let candidate = site.path("candidate.hujson");
    let cases = [
        (with(&[WEB], NOBODY), "test failed: client", "candidate.hujson:2:"),
        (with(&[WEB], BOUNDARY), "crosses the boundary \"apart\"", "candidate.hujson:1:"),
    ];
    for (text, words, place) in cases {
        site.write("candidate.hujson", &text);
        for command in [
            &["apply", &candidate][..],
            &["apply", &candidate, "--mode", "audit"],
            &["stage", &candidate],
            &["check", &candidate, "--inventory", &site.path("inventory.json")],
            &["diff", &site.path("policy.hujson"), &candidate, "--inventory", &site.path("inventory.json")],
        ] {
            let output = site.bulkhead(command);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
            assert!(said.contains(words) && said.contains(place), "{command:?}: {said}");
        }
        site.write("policy.hujson", &text);
        site.signal(libc::SIGHUP);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !site.log().contains(words) {
            assert!(Instant::now() < deadline, "{}", site.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(site.log().contains("SIGHUP changes nothing"), "{}", site.log());
        let after = site.status();
        assert_eq!((&after["links"], &after["state"]), (&before["links"], &"enforced".into()));
        assert_eq!(after["agent"]["generation"], before["agent"]["generation"]);
        connection.goes_on();
    }

    // A restart that names such a file goes on with what was kept, and says so until a file that holds is applied.
    site.kill();
    site.start();
    connection.goes_on();
    let status = site.status();
    assert!(status["problems"][0].as_str().unwrap().contains("cannot be enforced"), "{status}");
    assert!(site.log().contains("crosses the boundary"), "{}", site.log());
    site.write("policy.hujson", &with(&[WEB], WANTED));
    site.done(&["apply"]);
    assert_eq!(site.status()["problems"], serde_json::json!([]));
    connection.goes_on();

    // So does one whose file is gone.
    site.kill();
    std::fs::remove_file(site.path("policy.hujson")).unwrap();
    site.start();
    connection.goes_on();
}

#[test]
fn a_first_start_with_a_policy_that_fails_its_own_tests_is_refused() {
    let site = Site::new("firsttest", Over::Ethernet, &[WEB]);
    let config = site.path("agent.toml");
    for (text, words) in [(with(&[WEB], NOBODY), "test failed"), (with(&[WEB], BOUNDARY), "crosses")] {
        site.write("policy.hujson", &text);
        let output = site.bulkhead(&["run", "--config", &config]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.contains("policy.hujson:"), "{said}");
        assert_eq!(site.status()["state"], "detached");
    }
    assert!(site.connects("stranger", 8080), "nothing filters");
}

#[test]
fn time_that_passes_does_not_end_what_is_enforced() {
    let mut site = Site::new("expired", Over::Ethernet, &[WEB]);
    let mut date = Command::new("date");
    date.args(["-u", "-d", "+25 seconds", "+%Y-%m-%dT%H:%M:%SZ"]);
    let end = lab::run_within(&mut date, Duration::from_secs(5)).unwrap().stdout;
    let end = String::from_utf8(end).unwrap().trim().to_owned();
    let short = WEB.replace(r#""name": "web""#, &format!(r#""name": "web", "expires": "{end}""#));
    site.write("policy.hujson", &with(&[&short, OTHER], WANTED));
    site.start();
    assert!(site.connects("client", 8080) && site.connects("client", 8081));
    site.write("other.hujson", &policy(&[OTHER]));
    site.done(&["stage", &site.path("policy.hujson")]);
    site.done(&["apply", &site.path("other.hujson")]);
    std::thread::sleep(Duration::from_secs(26));
    // A staged policy is enforced for the first time: it must hold.
    let output = site.bulkhead(&["promote"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("test failed"), "{output:?}");
    assert!(site.connects("client", 8081));
    // What was enforced before returns all the same, and outlives a restart.
    site.done(&["rollback"]);
    for _ in 0..2 {
        let status = site.status();
        let problems = status["problems"].to_string();
        assert!(problems.contains("test failed") && problems.contains("policy.hujson:2:"), "{status}");
        assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
        assert!(site.is_denied("stranger", 8081));
        site.kill();
        site.start();
    }
}
