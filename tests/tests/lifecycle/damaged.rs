//! Records of what is enforced that are damaged: nothing passes where that is not known, and everything says so.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::site::{Over, Site, WEB};

/// The ledger of what is enforced.
fn ledger(site: &Site) -> PathBuf {
    PathBuf::from(format!("/var/lib/bulkhead/{}/generations.json", site.instance()))
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What status and doctor say of it.
fn is_said(site: &Site, what: &str) {
    let status = site.status();
    let problems = status["problems"].as_array().unwrap();
    let is_about = |text: &str| text.contains(what) && text.contains("generations.json");
    assert!(problems.iter().any(|problem| is_about(problem.as_str().unwrap())), "{status}");
    assert_ne!(status["state"], "enforced");
    let doctor = site.bulkhead(&["doctor", "--config", &site.path("agent.toml")]);
    assert!(doctor.status.code() != Some(0) && is_about(&words(&doctor)), "{doctor:?}");
}

#[test]
fn a_damaged_record_is_said_and_opens_nothing() {
    let mut site = Site::new("record", Over::Ethernet, &[WEB]);
    site.start();
    let good = std::fs::read(ledger(&site)).unwrap();
    let damage = |site: &Site| std::fs::write(ledger(site), &good[..good.len() / 2]).unwrap();

    // An agent that runs knows what is enforced, and writes it anew with the next change.
    damage(&site);
    is_said(&site, "apply");
    assert!(words(&site.bulkhead(&["history"])).contains(", enforced"));
    site.done(&["apply"]);
    assert_eq!(site.status()["state"], "enforced");

    // Without one, what is enforced stays so, and the next one does not start.
    let good = std::fs::read(ledger(&site)).unwrap();
    damage(&site);
    site.kill();
    site.launch();
    assert_eq!(site.exit_code(), Some(3), "{}", site.log());
    assert!(site.log().contains("what is enforced stays enforced"), "{}", site.log());
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    is_said(&site, "no agent starts");
    let history = site.bulkhead(&["history"]);
    assert!(history.status.code() == Some(3) && words(&history).contains("move it away"), "{history:?}");
    site.done(&["flows"]);
    site.done(&["detach"]);
    assert!(site.connects("stranger", 8080), "nothing filters");

    // As while a host starts: before networks, and by an agent that finds no guard.
    let closed = site.bulkhead(&["guard", "--config", &site.path("agent.toml")]);
    assert!(closed.status.code() == Some(1) && words(&closed).contains("move it away"), "{closed:?}");
    assert!(site.is_denied("client", 8080) && site.is_denied("stranger", 8080));
    let mut nft = Command::new("nft");
    nft.args(["delete", "table", "inet", &format!("bulkhead-{}", site.instance())]);
    site.namespace("server").prepare(&mut nft).unwrap();
    assert!(nft.status().unwrap().success());
    assert!(site.connects("client", 8080));
    site.launch();
    assert_eq!(site.exit_code(), Some(3), "{}", site.log());
    assert!(site.log().contains("the guard closes every managed interface"), "{}", site.log());
    assert!(site.is_denied("client", 8080) && site.is_denied("stranger", 8080));
    is_said(&site, "no agent starts");

    std::fs::write(ledger(&site), good).unwrap();
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("stranger", 8080));
    assert_eq!(site.status()["state"], "enforced");
}

#[test]
fn detach_has_ended_the_agent_once_it_says_so() {
    let mut site = Site::new("ended", Over::Ethernet, &[WEB]);
    site.start();
    let pid = site.agent_pid();
    site.done(&["detach"]);
    // Nobody has waited for it yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[test]
fn detach_needs_no_record_of_where_the_instance_is() {
    let mut site = Site::new("where", Over::Ethernet, &[WEB]);
    site.start();
    site.kill();
    std::fs::write(ledger(&site).with_file_name("residence.json"), "{").unwrap();
    assert_eq!(site.status()["state"], "enforced");
    site.done(&["detach"]);
    assert!(site.connects("stranger", 8080) && !site.has_guard());
}
