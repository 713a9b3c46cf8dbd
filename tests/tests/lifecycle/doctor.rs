//! What `doctor` finds on a host that is well, and on one that is not.

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::site::{OTHER, Over, Site, WEB, policy};

fn examined(site: &Site) -> (Option<i32>, Vec<Value>) {
    let output = site.bulkhead(&["--json", "doctor", "--config", &site.path("agent.toml")]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), answer["findings"].as_array().unwrap().clone())
}

/// What was found by a check, of a level.
fn of<'a>(findings: &'a [Value], check: &str, level: &str) -> Vec<&'a str> {
    let meant = findings.iter().filter(|finding| finding["check"] == check && finding["level"] == level);
    meant.map(|finding| finding["found"].as_str().unwrap()).collect()
}

#[test]
fn a_host_that_is_well_has_no_problem_and_what_is_wrong_is_named() {
    let mut site = Site::new("doctor", Over::Ethernet, &[WEB]);
    site.start();
    let (code, findings) = examined(&site);
    assert_eq!(code, Some(0), "{findings:#?}");
    for check in ["kernel", "nftables", "disk", "agent", "enforcement", "node", "policy"] {
        assert!(!of(&findings, check, "ok").is_empty(), "{check}: {findings:#?}");
    }
    assert!(of(&findings, "interface", "ok")[0].starts_with("eth0: there"), "{findings:#?}");
    assert_eq!(of(&findings, "bypass", "ok")[0], "no packet socket on a managed interface", "{findings:#?}");
    assert!(of(&findings, "lockout", "warning")[0].contains("[[management]]"), "{findings:#?}");

    // A packet socket sees what is dropped at TCX.
    let all = Some(Protocol::from(i32::from(3_u16.to_be())));
    let socket =
        site.namespace("server").run(|| Socket::new(Domain::PACKET, Type::RAW, all)).unwrap().unwrap();
    let (code, findings) = examined(&site);
    let bypass = of(&findings, "bypass", "warning");
    assert!(bypass.len() == 1 && bypass[0].contains(&format!("({})", std::process::id())), "{findings:#?}");
    assert_eq!(code, Some(0));
    drop(socket);

    // A policy that was changed and not applied, and one that does not hold.
    site.write("policy.hujson", &policy(&[OTHER]));
    let (_, findings) = examined(&site);
    assert!(
        of(&findings, "policy", "warning").iter().any(|found| found.contains("has changed")),
        "{findings:#?}"
    );
    site.write("policy.hujson", r#"{"acls": [{"action": "accept", "src": ["tag:nobody"], "dst": ["*:*"]}]}"#);
    let (code, findings) = examined(&site);
    assert!(of(&findings, "policy", "problem")[0].contains("cannot be applied"), "{findings:#?}");
    assert_eq!(code, Some(1));
    site.write("policy.hujson", &policy(&[WEB]));

    site.kill();
    let (code, findings) = examined(&site);
    assert!(of(&findings, "agent", "problem")[0].contains("nobody watches"), "{findings:#?}");
    assert_eq!(code, Some(1));
}
