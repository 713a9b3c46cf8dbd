//! Who used which rule: what the agent records, `drift` and `suggest` from it, and what becomes of a damaged history.

use std::fs;
use std::time::{Duration, Instant};

use bulkhead_testkit::lab::slower;
use serde_json::Value;

use crate::site::account::reports;
use crate::site::{Over, Site, policy};

/// Lets the client use any port of the server.
const WIDE: &str = r#"{"name": "wide", "action": "accept", "src": ["tag:client"], "dst": ["tag:server:*"]}"#;
/// Nobody uses it.
const UNUSED: &str = r#"{"name": "unused", "action": "accept", "src": ["tag:stranger"], "dst": ["tag:server:22"],
    "owner": "db team", "reviewBy": "2099-12-31"}"#;
/// Staged, it would stop all that the client does.
const STAGED: &str = r#"{"action": "accept", "src": ["tag:client"], "dst": ["tag:server:9"]}"#;

/// How long it is recorded.
const RECORDED: Duration = Duration::from_millis(1500);

fn site(label: &str, acls: &[&str]) -> Site {
    let site = Site::new(label, Over::Ethernet, acls);
    let config = site.configuration("server", site.interface());
    site.write("agent.toml", &format!("{config}[history]\nflows_seconds = 1\n"));
    site
}

/// Ends the agent, which writes what it has.
fn end(site: &mut Site) {
    site.signal(libc::SIGTERM);
    let began = Instant::now();
    while !site.has_ended() {
        assert!(began.elapsed() < slower(Duration::from_secs(20)), "the agent does not end: {}", site.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn asked(site: &Site, words: &[&str]) -> Value {
    let output = site.bulkhead(&[&["--json"], words].concat());
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_wide_rule_is_narrowed_and_what_audit_mode_let_pass_is_suggested() {
    let mut site = site("used", &[WIDE, UNUSED]);
    site.start();
    let mut admitted = site.connect("client", 8080);
    admitted.goes_on();
    // Rules are noted by then.
    std::thread::sleep(Duration::from_secs(1));
    let noted = Instant::now();
    site.write("staged.hujson", &policy(&[STAGED]));
    site.done(&["stage", &site.path("staged.hujson")]);
    admitted.goes_on();
    let journal = site.journal_file();
    site.wait_for("what the staged policy would drop is told of", |_| {
        reports(&journal).iter().any(|report| report["kind"] == "would_differ")
    });
    site.done(&["apply", "--mode", "audit"]);
    let mut audited = site.connect("stranger", 8080);
    audited.goes_on();
    std::thread::sleep(RECORDED);
    admitted.goes_on();
    audited.goes_on();
    end(&mut site);

    let drift = asked(&site, &["drift", "--since", &format!("{}s", noted.elapsed().as_secs())]);
    assert_eq!((&drift["rules"], &drift["hosts"][0]["node"]), (&2.into(), &"server".into()), "{drift}");
    assert_eq!(
        (drift["unused"].as_array().unwrap().len(), &drift["unused"][0]["name"]),
        (1, &"unused".into()),
        "{drift}"
    );
    let wider = drift["wider"].as_array().unwrap();
    assert_eq!((wider.len(), &wider[0]["name"]), (1, &"wide".into()), "{drift}");
    let narrower =
        r#"{"name": "wide", "action": "accept", "src": ["tag:client"], "dst": ["tag:server:8080"]}"#;
    assert_eq!(wider[0]["narrower"], narrower, "{drift}");

    assert_eq!(
        drift["unused"][0]["record"],
        serde_json::json!({"owner": "db team", "reviewBy": "2099-12-31"})
    );
    let staged = drift["staged"].as_array().unwrap();
    assert_eq!(staged.len(), 1, "replies are of the conversation that they answer: {drift}");
    let ends = (&staged[0]["source"], &staged[0]["destination"], &staged[0]["port"]);
    assert_eq!(ends, (&"client".into(), &"server".into(), &8080.into()), "{drift}");

    // What was observed is admitted, and nothing else.
    let suggested = asked(&site, &["suggest", "--since", "1d"]);
    assert_eq!((&suggested["valid"], &suggested["observed"]), (&true.into(), &2.into()), "{suggested}");
    let text = suggested["policy"].as_str().unwrap();
    assert!(text.contains("would be dropped") && text.contains("admitted, seen in"), "{text}");
    site.write("policy.hujson", text);
    let [policy, inventory] = ["policy.hujson", "inventory.json"].map(|name| site.path(name));
    site.done(&["check", &policy, "--inventory", &inventory]);
    site.start();
    assert_eq!(site.status()["agent"]["mode"], "enforce");
    admitted.goes_on();
    audited.goes_on();
    assert!(site.connects("client", 8080) && site.connects("stranger", 8080));
    assert!(site.is_denied("client", 8081) && site.is_denied("stranger", 8081));
}

#[test]
fn a_damaged_history_is_set_aside_and_told_and_nothing_is_recorded_where_it_is_turned_off() {
    let mut site = site("damaged", &[WIDE]);
    let recorded = fs::read_to_string(site.path("agent.toml")).unwrap();
    site.write("agent.toml", &format!("{recorded}enabled = false\n"));
    site.start();
    let mut admitted = site.connect("client", 8080);
    admitted.goes_on();
    end(&mut site);
    let output = site.bulkhead(&["drift"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no history"), "{output:?}");

    let path = format!("/var/lib/bulkhead/{}/history.db", site.instance());
    fs::write(&path, "no database".repeat(1000)).unwrap();
    let output = site.bulkhead(&["drift"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    site.write("agent.toml", &recorded);
    site.start();
    admitted.goes_on();
    let began = Instant::now();
    while !site.log().contains("history was damaged") {
        assert!(began.elapsed() < slower(Duration::from_secs(20)), "{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    end(&mut site);
    assert_eq!(asked(&site, &["drift", "--since", "1d"])["rules"], 1);
}
