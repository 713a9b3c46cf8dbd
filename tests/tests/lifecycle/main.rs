//! The agent's life: killed, started again, told to enforce something else, told to cut someone
//! off. What is enforced must follow exactly, and never by way of a gap.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../site/mod.rs"]
mod site;

mod ahead;
mod alarms;
mod alarms_of_rules;
mod allowed;
mod anchored;
mod bound;
mod checked;
mod collected;
mod coming;
mod confirm;
mod containers;
mod content;
mod contested;
mod control;
mod conversations;
mod damaged;
mod deadline;
mod described;
mod descriptors;
mod disk;
mod doctor;
mod elsewhere;
mod endurance;
mod evidence;
mod exchange;
mod exposed;
mod feed;
mod first;
mod fleet;
mod flood;
mod frames;
mod granted;
mod guard;
mod hang;
mod history;
mod hooks;
mod hostile;
mod limits;
mod links;
mod listed;
mod living;
mod many;
mod metrics;
mod migrate;
mod places;
mod probes;
mod read_back;
mod recreated;
mod rejected;
mod remains;
mod review;
mod rights;
mod service;
mod session;
mod silent;
mod slow_log;
mod staged;
mod starting;
mod streams;
mod tls;
mod told;
mod underlay;
mod unseen;
mod uplinks;
mod used;
mod watched;
mod watching;
mod workloads;

use std::time::Duration;

use site::load;
use site::{OTHER, Over, Site, WEB, policy};

#[test]
fn enforcement_goes_on_without_the_agent_and_is_taken_over_without_a_gap() {
    let mut site = Site::new("takeover", Over::Tunnel, &[WEB]);
    site.start();
    let load = load::start(&site, 8080, 8081);
    std::thread::sleep(Duration::from_millis(300));
    site.kill();
    assert_eq!(site.status()["state"], "enforced");
    assert_eq!(site.status()["mode"], "enforce");
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    assert!(site.is_denied("stranger", 8080));
    site.start();
    site.done(&["apply"]);
    site.done(&["apply"]);
    std::thread::sleep(Duration::from_millis(300));
    let counts = load::check(load);
    assert!(counts.sent > 200, "{counts:?}");
    let status = site.status();
    assert_eq!(status["generations"].as_array().unwrap().len(), 1, "old tables are freed: {status}");
}

#[test]
fn a_first_attach_cuts_only_what_the_policy_does_not_admit() {
    for over in [Over::Ethernet, Over::Tunnel] {
        let mut site = Site::new("first", over, &[WEB]);
        let mut admitted = site.connect("client", 8080);
        let mut other = site.connect("client", 8081);
        admitted.goes_on();
        other.goes_on();
        site.start();
        admitted.goes_on();
        other.is_cut();
    }
}

#[test]
fn a_revoked_rule_cuts_its_connection_and_no_other() {
    let mut site = Site::new("revoke", Over::Tunnel, &[OTHER, WEB]);
    site.start();
    let mut kept = site.connect("client", 8080);
    let mut revoked = site.connect("client", 8081);
    kept.goes_on();
    revoked.goes_on();
    let packets = |site: &Site| {
        let status = site.status();
        let rules = status["agent"]["rule_counters"].as_array().unwrap().clone();
        let web = rules.iter().find(|rule| rule["name"] == "web").unwrap().clone();
        (web["number"].as_u64().unwrap(), web["packets"].as_u64().unwrap())
    };
    let (number, before) = packets(&site);
    assert_eq!(number, 2);

    site.write_policy(&[WEB]);
    site.done(&["apply"]);
    revoked.is_cut();
    kept.goes_on();
    let (number, after) = packets(&site);
    assert!(number == 1 && after > before, "the counter follows the rule: {before}, then {after}");

    // What the previous generation admitted is admitted again.
    site.done(&["rollback"]);
    kept.goes_on();
    assert!(site.connects("client", 8081));
}

#[test]
fn a_file_that_does_not_hold_changes_nothing() {
    let mut site = Site::new("broken", Over::Ethernet, &[WEB]);
    site.start();
    let before = site.status();
    let mut connection = site.connect("client", 8080);
    site.write_policy(&[WEB, r#"{"action": "accept", "src": ["tag:clinet"], "dst": ["tag:server:1"]}"#]);
    let output = site.bulkhead(&["apply"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("tag:clinet") && said.contains("policy.hujson:1:"), "{said}");
    assert_eq!(site.bulkhead(&["apply", "/nowhere/p"]).status.code(), Some(2));
    site.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    let after = site.status();
    assert_eq!(after["agent"]["generation"], before["agent"]["generation"]);
    assert_eq!(after["links"], before["links"]);
    connection.goes_on();

    // SIGHUP enforces a file that holds.
    site.write_policy(&[OTHER]);
    site.signal(libc::SIGHUP);
    let old = before["agent"]["generation"].clone();
    site.wait_for("another generation", |status| status["agent"]["generation"] != old);
    connection.is_cut();
}

#[test]
fn quarantine_cuts_at_the_next_packet_and_release_restores() {
    let mut site = Site::new("cutoff", Over::Ethernet, &[WEB]);
    site.start();
    let mut connection = site.connect("client", 8080);
    site.done(&["quarantine", "client", "--reason", "seen scanning"]);
    connection.is_cut();
    // Soon: what cannot leave a host, its TCP gives up after 15 probes, one each half second
    // (`tcp_probe_timer`, net/ipv4/tcp_timer.c).
    site.done(&["release", &site.address("client").to_string()]);
    connection.is_restored();

    // In audit mode, through an apply and a restart.
    site.done(&["apply", "--mode", "audit"]);
    site.done(&["quarantine", "client", "--reason", "seen scanning"]);
    let status = site.status();
    assert_eq!(status["quarantined"][0]["reason"], "seen scanning");
    assert_eq!(status["quarantined"][0]["node"], "client");
    assert!(site.connects("stranger", 8080), "audit mode lets strangers pass");
    site.done(&["apply"]);
    connection.is_cut();
    site.kill();
    site.start();
    assert_eq!(site.status()["agent"]["mode"], "audit", "a restart keeps the mode");
    assert!(site.is_denied("client", 8080));
    site.done(&["release", "client"]);
    assert!(site.connects("client", 8080));

    // It ends by itself, also if nobody was there at that moment.
    site.done(&["quarantine", "client", "--for", "1s"]);
    assert!(site.is_denied("client", 8080));
    site.wait_for("released", |status| status["quarantined"].as_array().unwrap().is_empty());
    assert!(site.connects("client", 8080));
    site.done(&["quarantine", "client", "--for", "1s"]);
    site.kill();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(site.is_denied("client", 8080), "nobody releases without an agent");
    site.start();
    assert!(site.connects("client", 8080));

    site.kill();
    let output = site.bulkhead(&["quarantine", "client"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no agent listens"), "{output:?}");
}

#[test]
fn what_is_not_confirmed_goes_back_whatever_becomes_of_the_agent() {
    let mut site = Site::new("confirm", Over::Ethernet, &[WEB]);
    site.start();
    let mut connection = site.connect("client", 8080);
    site.write_policy(&[OTHER]);
    site.done(&["apply", "--confirm", "3s"]);
    connection.is_cut();
    site.wait_for("back", |status| status["agent"]["confirm_within"].is_null());
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));

    // The agent dies before the time is over; the file is still the one that locked us out.
    site.done(&["apply", "--confirm", "1s"]);
    site.kill();
    std::thread::sleep(Duration::from_millis(1100));
    assert!(site.is_denied("client", 8080));
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    site.kill();
    site.start();
    assert!(site.connects("client", 8080), "a further restart does not take it up again either");

    site.done(&["apply", "--confirm", "60s"]);
    site.done(&["confirm"]);
    assert_eq!(site.bulkhead(&["confirm"]).status.code(), Some(1), "there is nothing left to confirm");
    site.kill();
    site.start();
    assert!(site.connects("client", 8081) && site.is_denied("client", 8080));

    // An apply of another file outlives a restart; a changed file is what counts.
    site.write("candidate.hujson", &policy(&[WEB]));
    site.done(&["apply", &site.path("candidate.hujson")]);
    site.kill();
    site.start();
    assert!(site.connects("client", 8080) && site.is_denied("client", 8081));
    site.kill();
    site.write_policy(&[OTHER, WEB]);
    site.start();
    assert!(site.connects("client", 8080) && site.connects("client", 8081));
}

#[test]
fn an_interface_that_comes_back_is_enforced_again() {
    let mut site = Site::new("back", Over::Ethernet, &[WEB]);
    site.start();
    site.namespace("server").ip("link del eth0").unwrap();
    site.wait_for("degraded", |status| status["state"] == "degraded");
    site.replace_interface();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("client", 8081) && site.is_denied("stranger", 8080));
}

#[test]
fn a_tunnel_that_comes_back_is_enforced_again() {
    let mut site = Site::new("greets", Over::Tunnel, &[WEB]);
    site.start();
    assert!(site.connects("client", 8080));
    let index = |site: &Site| site.namespace("server").ip("-oneline link show wg0").unwrap();
    let before = index(&site);
    site.replace_tunnel();
    assert_ne!(index(&site).split(':').next(), before.split(':').next(), "another interface");
    site.wait_for("enforced", |status| status["state"] == "enforced");
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("client", 8081) && site.is_denied("stranger", 8080));
}

#[test]
fn the_guard_holds_where_no_program_is() {
    let mut site = Site::new("guard", Over::Ethernet, &[WEB]);
    site.start();
    let address = site.address("server");
    let server = |words: &str| site.namespace("server").ip(words).unwrap();
    let client = |words: &str| site.namespace("client").ip(words).unwrap();

    // To the node's address, but past the interface that is enforced on.
    server(&format!("link add side type veth peer name side netns {}", site.namespace("client").name()));
    server("link set side up");
    client("link set side up");
    std::thread::sleep(Duration::from_millis(500));
    client(&format!("route add {address}/32 dev side"));
    assert!(site.is_denied("client", 8080), "by another interface");
    client(&format!("route del {address}/32 dev side"));
    assert!(site.connects("client", 8080));

    // The interface comes back under its name, and nobody is there to attach a program.
    site.kill();
    site.replace_interface();
    // It has another hardware address now.
    site.namespace("client").ip("neigh flush all").unwrap();
    assert!(site.is_denied("client", 8080), "without a program");
    site.start();
    site.wait_for("enforced", |status| status["state"] == "enforced");
    std::thread::sleep(Duration::from_millis(500));
    assert!(site.connects("client", 8080));
    assert!(site.is_denied("stranger", 8080));
    site.done(&["detach"]);
    assert!(site.connects("stranger", 8080), "the guard is gone with the programs");
}

#[test]
fn an_agent_killed_during_a_change_is_repaired_by_the_next() {
    let mut site = Site::new("crash", Over::Ethernet, &[WEB]);
    let second = "link add eth1 type veth peer name eth2";
    site.namespace("server").ip(second).unwrap();
    let config = site.configuration("server", "eth0") + "[[interface]]\nname = \"eth1\"\n";
    site.write("agent.toml", &config);
    site.start();
    let load = load::start(&site, 8080, 8081);
    for delay in [0, 40, 90, 150, 230] {
        std::thread::scope(|scope| {
            let applying = &site;
            let apply = scope.spawn(move || applying.bulkhead(&["apply"]).status.code());
            std::thread::sleep(Duration::from_millis(delay));
            site.signal(libc::SIGKILL);
            let code = apply.join().unwrap();
            assert!(matches!(code, Some(0 | 3)), "{code:?}");
        });
        site.kill();
        site.start();
        let status = site.status();
        assert_eq!((&status["state"], &status["problems"]), (&"enforced".into(), &serde_json::json!([])));
        assert_eq!(status["generations"].as_array().unwrap().len(), 1, "{status}");
    }
    load::check(load);
}

#[test]
fn bad_inputs_have_their_exit_codes_and_leave_nothing_attached() {
    let mut site = Site::new("bad", Over::Ethernet, &[WEB]);
    let config = site.path("agent.toml");
    let run = |site: &Site, more: &[&str]| {
        let output = site.bulkhead(&[&["run", "--config", &config], more].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    site.write("broken.hujson", "{\"acls\": [}");
    site.write("broken.toml", "node = \"server\"\nmodes = 1\n");
    let (broken, broken_config) = (site.path("broken.hujson"), site.path("broken.toml"));
    for (more, code, words) in [
        (&["--interface", "eth7"][..], 3, "interface eth7: not found"),
        (&["--node", "nobody"], 2, "no node \"nobody\""),
        (&[&broken], 1, "HuJSON"),
        (&["/nowhere/p"], 2, "cannot read /nowhere/p"),
        (&["--interface", "lo"], 3, "role = \"local\""),
    ] {
        let (answer, said) = run(&site, more);
        assert_eq!(answer, Some(code), "{more:?}: {said}");
        assert!(said.contains(words), "{more:?}: {said}");
    }
    let output = site.bulkhead(&["run", "--config", &broken_config]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("broken.toml:2:1: "), "{said}");
    let output = site.bulkhead(&["run"]);
    assert_eq!(output.status.code(), Some(2), "neither node nor interface: {output:?}");
    let status = site.status();
    assert_eq!(status["state"], "detached");
    assert_eq!(status["generations"], serde_json::json!([]));
    assert!(site.connects("stranger", 8080), "nothing filters");

    site.start();
    let before = site.status();
    let (answer, said) = run(&site, &[]);
    assert!(answer == Some(3) && said.contains("already"), "{said}");
    assert_eq!(site.status()["links"], before["links"]);
    site.done(&["detach"]);
    assert_eq!(site.status()["state"], "detached");
    assert!(site.connects("stranger", 8080));
}
