//! `run --confirm`: what a start enforces for the first time goes back by itself.

use std::time::Duration;

use crate::site::{OTHER, Over, Site, WEB};

#[test]
fn a_first_policy_that_is_not_confirmed_ends() {
    let mut site = Site::new("runconf", Over::Ethernet, &[OTHER]);
    site.launch_with(&["--confirm", "3s"]);
    let status = site.wait_for("it waits", |status| status["agent"]["confirm_within"].is_u64());
    assert!(status["agent"]["warnings"][0].as_str().unwrap().contains("[[management]]"), "{status}");
    assert!(site.is_denied("client", 8080));
    assert_eq!(site.exit_code(), Some(1), "{}", site.log());
    assert!(site.log().contains("not confirmed in time"), "{}", site.log());
    assert_eq!(site.status()["state"], "detached");
    assert!(site.connects("client", 8080) && site.connects("stranger", 8080), "nothing filters");

    // Killed meanwhile: what is enforced stays, until the next agent ends it.
    site.launch_with(&["--confirm", "3s"]);
    site.wait_for("it waits", |status| status["agent"]["confirm_within"].is_u64());
    site.kill();
    std::thread::sleep(Duration::from_secs(3));
    assert!(site.is_denied("client", 8080));
    site.launch();
    assert_eq!(site.exit_code(), Some(1), "{}", site.log());
    assert_eq!(site.status()["state"], "detached");
    assert!(site.connects("client", 8080), "the guard is gone, too");

    // Confirmed, it stays over a restart with the same flag.
    site.launch_with(&["--confirm", "60s"]);
    site.wait_for("it waits", |status| status["agent"]["confirm_within"].is_u64());
    site.done(&["confirm"]);
    site.kill();
    site.launch_with(&["--confirm", "1s"]);
    site.wait_for("the agent answers", |status| status["agent"].is_object());
    std::thread::sleep(Duration::from_millis(1500));
    let status = site.status();
    assert!(status["agent"]["confirm_within"].is_null() && status["state"] == "enforced", "{status}");
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
}

#[test]
fn a_changed_policy_that_is_not_confirmed_goes_back() {
    let mut site = Site::new("changed", Over::Ethernet, &[WEB]);
    site.start();
    site.kill();
    site.write_policy(&[OTHER]);
    site.launch_with(&["--confirm", "3s"]);
    site.wait_for("it waits", |status| status["agent"]["confirm_within"].is_u64());
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));
    site.wait_for("back", |status| {
        status["agent"].is_object() && status["agent"]["confirm_within"].is_null()
    });
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    // A restart names the same files.
    site.kill();
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
}

#[test]
fn a_missing_management_exemption_is_said_and_a_present_one_is_not() {
    let mut site = Site::new("lockout", Over::Ethernet, &[WEB]);
    let check = |site: &Site| {
        let (policy, inventory) = (site.path("policy.hujson"), site.path("inventory.json"));
        let config = site.path("agent.toml");
        let output = site.bulkhead(&["check", &policy, "--inventory", &inventory, "--config", &config]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let apply = |site: &Site| {
        let output = site.bulkhead(&["apply"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let words = "no management exemption";
    site.start();
    assert!(check(&site).contains(words) && apply(&site).contains(words) && site.log().contains(words));
    site.kill();
    let client = site.address("client");
    let config = site.configuration("server", "eth0");
    site.write("agent.toml", &format!("{config}[[management]]\nfrom = [\"{client}\"]\nports = [22]\n"));
    site.start();
    assert!(!check(&site).contains(words) && !apply(&site).contains(words) && !site.log().contains(words));
    let warnings = site.status()["agent"]["warnings"].to_string();
    assert!(!warnings.contains(words), "{warnings}");
}
