//! Policies and inventories as people bring them from Tailscale: what is not understood admits nothing,
//! refuses no file, and never makes a deny vanish.

#![allow(clippy::unwrap_used)] // helpers of a test are a test

use std::net::IpAddr;

use bulkhead_policy::Dialect;
use bulkhead_policy::check::{Answers, Loaded, Scope};
use bulkhead_policy::diagnostic::Severity;
use bulkhead_policy::reference::{self, Probe};
use bulkhead_policy::source::Source;

const OURS: Dialect = Dialect::Bulkhead;
const THEIRS: Dialect = Dialect::Tailscale;

const INVENTORY: &str = r#"{"nodes": [
  {"name": "alice-1", "addresses": ["100.64.0.1"], "user": "alice@example.com"},
  {"name": "alice-2", "addresses": ["100.64.0.2"], "user": "alice@example.com"},
  {"name": "srv", "addresses": ["100.64.0.3"], "tags": ["tag:srv"]},
  {"name": "exit", "addresses": ["100.64.0.4"], "tags": ["tag:exit"], "routes": ["0.0.0.0/0", "::/0"]},
  {"name": "carol-1", "addresses": ["100.90.0.1"], "user": "carol@other.example"},
  {"name": "carol-2", "addresses": ["100.90.0.2"], "user": "carol@other.example"}],
 "users": [{"login": "alice@example.com"}, {"login": "carol@other.example", "roles": ["Shared", "admin"]}]}"#;

const TAGS: &str = r#""tagOwners": {"tag:srv": [], "tag:exit": []}"#;

fn check(policy: &str, dialect: Dialect) -> (Loaded, Answers) {
    let policy = Source::new("p", &format!("{{{TAGS},\n{policy}}}"));
    let scope = Scope { dialect, ..Scope::default() };
    let mut loaded = Loaded::new(policy, Some(Source::new("i", INVENTORY)), &scope);
    let answers = loaded.check(0);
    (loaded, answers)
}

fn told(policy: &str, dialect: Dialect) -> Vec<(Severity, String)> {
    let (loaded, _) = check(policy, dialect);
    loaded.findings.0.iter().map(|finding| (finding.severity, finding.to_string())).collect()
}

fn errors(policy: &str, dialect: Dialect) -> Vec<String> {
    let errors = told(policy, dialect).into_iter().filter(|(severity, _)| *severity == Severity::Error);
    errors.map(|(_, text)| text).collect()
}

fn admits(loaded: &Loaded, from: &str, to: &str, port: u16) -> bool {
    let (source, destination): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let probe = Probe { source, destination, protocol: 6, port };
    reference::admitted(loaded.ruleset.as_ref().unwrap(), &probe, 0)
}

#[test]
fn members_without_a_device_are_one_note() {
    let policy = r#""groups": {"group:ops": ["alice@example.com", "bob@example.com"], "group:hr": ["dave@example.com"]},
        "acls": [{"action": "accept", "src": ["group:ops", "erin@example.com"], "dst": ["tag:srv:22"]}]"#;
    for dialect in [OURS, THEIRS] {
        let (loaded, _) = check(policy, dialect);
        let [note] = &loaded.findings.0[..] else { panic!("{}", loaded.findings) };
        assert_eq!(note.severity, Severity::Note);
        assert!(note.message.ends_with("bob@example.com, dave@example.com, erin@example.com"), "{note}");
        assert!(admits(&loaded, "100.64.0.1", "100.64.0.3", 22));
    }
}

#[test]
fn a_deny_of_nobody_is_warned_of_and_a_misspelt_one_refused() {
    let deny = |who: &str| {
        format!(
            r#""groups": {{"group:out": ["{who}"]}},
            "acls": [{{"action": "deny", "src": ["group:out"], "dst": ["*:*"]}},
                     {{"action": "accept", "src": ["*"], "dst": ["*:*"]}}]"#
        )
    };
    let warned = told(&deny("zoe@example.com"), OURS);
    let about = |(severity, text): &&(Severity, String)| {
        *severity == Severity::Warning && text.contains("nothing is denied to it")
    };
    assert_eq!(warned.iter().filter(about).count(), 1, "{warned:?}");
    for wrong in ["alicee@example.com", "alice@exmaple.com"] {
        let found = errors(&deny(wrong), OURS);
        assert!(
            matches!(&found[..], [text] if text.contains("did you mean \"alice@example.com\"?")),
            "{found:?}"
        );
    }
    // A side of a boundary denies too.
    let side =
        r#""acls": [], "boundaries": [{"name": "b", "between": [["alicee@example.com"], ["tag:srv"]]}]"#;
    assert_eq!(errors(side, OURS).len(), 1);
}

#[test]
fn outsiders_are_no_members() {
    let policy = r#""acls": [
        {"action": "accept", "src": ["autogroup:member"], "dst": ["tag:srv:22"]},
        {"action": "accept", "src": ["autogroup:admin"], "dst": ["tag:srv:23"]},
        {"action": "accept", "src": ["autogroup:shared"], "dst": ["tag:srv:443"]},
        {"action": "accept", "src": ["autogroup:member", "carol@other.example"], "dst": ["autogroup:self:80"]}]"#;
    for dialect in [OURS, THEIRS] {
        let (loaded, _) = check(policy, dialect);
        assert!(!loaded.findings.has_errors(), "{}", loaded.findings);
        let to = |from, port| admits(&loaded, from, "100.64.0.3", port);
        assert!(to("100.64.0.1", 22) && to("100.90.0.1", 443));
        assert!(!to("100.90.0.1", 22) && !to("100.90.0.1", 23) && !to("100.64.0.1", 443));
        assert!(admits(&loaded, "100.64.0.1", "100.64.0.2", 80));
        assert!(!admits(&loaded, "100.90.0.1", "100.90.0.2", 80), "no device of its own here");
    }
}

#[test]
fn services_and_synchronised_groups_admit_nothing() {
    let policy = r#""grants": [
        {"src": ["autogroup:member"], "dst": ["svc:db", "tag:srv"], "ip": ["tcp:5432"]},
        {"src": ["group:ops@example.com"], "dst": ["*"], "ip": ["*"]},
        {"src": ["group:ops@example.com"], "dst": ["svc:db"], "ip": ["*"]}],
        "tests": [{"src": "alice@example.com", "accept": ["svc:db:5432", "tag:srv:5432"], "deny": ["svc:db:80"]},
                  {"src": "group:ops@example.com", "accept": ["tag:srv:22"]}]"#;
    for dialect in [OURS, THEIRS] {
        let (loaded, answers) = check(policy, dialect);
        assert!(!loaded.findings.has_errors(), "{}", loaded.findings);
        assert_eq!((answers.tally.tested, answers.tally.failed), (1, 0), "{}", loaded.findings);
        let count = |severity, word: &str| {
            let all = loaded.findings.0.iter();
            all.filter(|finding| finding.severity == severity && finding.message.contains(word)).count()
        };
        assert_eq!(count(Severity::Warning, "admits nothing here"), 2, "once each: {}", loaded.findings);
        assert_eq!(count(Severity::Note, "are not run"), 2, "{}", loaded.findings);
        assert!(admits(&loaded, "100.64.0.1", "100.64.0.3", 5432));
        assert!(!admits(&loaded, "100.64.0.1", "100.64.0.3", 22));
    }
    for name in ["svc:db", "group:ops@example.com"] {
        let deny = format!(r#""acls": [{{"action": "deny", "src": ["*"], "dst": ["{name}:*"]}}]"#);
        assert!(errors(&deny, OURS)[0].contains("cannot be denied"), "{name}");
        let side =
            format!(r#""acls": [], "boundaries": [{{"name": "b", "between": [["{name}"], ["tag:srv"]]}}]"#);
        assert!(errors(&side, OURS)[0].contains("kept apart"), "{name}");
    }
    // A group of the policy's own that is written so is one.
    let own = r#""groups": {"group:ops@example.com": ["alice@example.com"]},
        "acls": [{"action": "accept", "src": ["group:ops@example.com"], "dst": ["tag:srv:22"]}]"#;
    assert!(admits(&check(own, OURS).0, "100.64.0.1", "100.64.0.3", 22));
}

#[test]
fn unknown_capabilities_are_warned_of() {
    let grant = |name: &str| {
        format!(
            r#""grants": [{{"src": ["*"], "dst": ["tag:srv"], "app": {{"tailscale.com/cap/{name}": [{{}}]}}}}]"#
        )
    };
    for dialect in [OURS, THEIRS] {
        let warned = told(&grant("next-thing"), dialect);
        assert!(warned.iter().all(|(severity, _)| *severity != Severity::Error), "{warned:?}");
        assert!(warned[0].1.starts_with("p:2:") && warned[0].1.contains("admits nothing here"), "{warned:?}");
        assert_eq!(errors(&grant("golink"), dialect), [""; 0]);
    }
    assert_eq!(errors(&grant("funnel"), THEIRS).len(), 1, "Tailscale sets it itself");
    assert_eq!(errors(&grant("funnel"), OURS), [""; 0]);
}

#[test]
fn unknown_sections_are_passed_over_unless_they_may_deny() {
    let with = |section: &str| format!(r#""acls": [], {section}"#);
    let (loaded, _) = check(&with(r#""attrConfig": {"custom:x": {"type": "string"}}"#), OURS);
    let warned = loaded.findings.to_string();
    assert!(!loaded.findings.has_errors() && warned.contains("unknown section \"attrConfig\""), "{warned}");
    assert_eq!(loaded.policy.unwrap().not_enforced[0].value, "attrConfig");
    for section in [
        r#""ackls": []"#,
        r#""rules": [{"action": "deny", "src": ["*"], "dst": ["*"]}]"#,
        r#""rules": [{"Action": "Accept"}]"#,
        r#""rules": {"x": [{"action": 7}]}"#,
        r#""rules": [], "rules": [{"action": "deny", "src": ["*"], "dst": ["*"]}]"#,
        r#""limits": [{"deny": ["*"]}]"#,
        r#""blocked": ["tag:srv"]"#,
        r#""firewall": [{"verdict": "DENY", "from": "*", "to": "tag:srv"}]"#,
        r#""rules": [{"policy": "drop"}]"#,
        r#""rules": {"default": ["Reject"]}"#,
        r#""rules": {"mode": "deny-all"}"#,
        r#""rules": {"mode": "blocklist"}"#,
        r#""rules": [{"accept": false, "dst": ["*"]}]"#,
        r#""quarantined": ["tag:srv"]"#,
        r#""exclude": ["tag:srv"]"#,
        r#""rules": [{"src": ["*"], "except": ["tag:srv"]}]"#,
        r#""restrictions": []"#,
        r#""x": {"forbidden": ["*"]}"#,
        r#""x": {"revoked": ["*"]}"#,
        r#""x": {"disabledUsers": ["*"]}"#,
        r#""x": {"users": {"bob@x.y": "disabled"}}"#,
    ] {
        for dialect in [OURS, THEIRS] {
            assert!(errors(&with(section), dialect)[0].contains("unknown field"), "{section}");
        }
    }
    // A sentence about it, and words that have one in them, deny nothing.
    for section in [
        r#""attrConfig": {"custom:x": {"type": "string", "help": "set it where nothing is to be dropped"}}"#,
        r#""drive": {"share": "taildrop", "name": "airdrop"}"#,
        r#""x": {"accept": true, "mode": "allow", "enabled": false}"#,
    ] {
        for dialect in [OURS, THEIRS] {
            assert_eq!(errors(&with(section), dialect), [""; 0], "{section}");
        }
    }
    // Tailscale's default is to allow: not beside a section that nobody knows.
    let only = r#""rules": [{"action": "accept", "src": ["*"], "dst": ["*"]}]"#;
    assert!(!errors(only, THEIRS).is_empty() && !errors(only, OURS).is_empty());
}

#[test]
fn tests_count_via_and_ping_on_port_0() {
    let via = r#""grants": [{"src": ["tag:srv"], "dst": ["autogroup:internet"], "via": ["tag:exit"], "ip": ["*"]}],
        "tests": [{"src": "tag:srv", "accept": ["1.1.1.1:53"]}]"#;
    let ping = r#""grants": [{"src": ["alice@example.com"], "dst": ["tag:srv"], "ip": ["*"]}],
        "tests": [{"src": "alice@example.com", "proto": "icmp", "accept": ["tag:srv:0"]}]"#;
    for (policy, dialect) in [(via, OURS), (via, THEIRS), (ping, OURS), (ping, THEIRS)] {
        let (loaded, answers) = check(policy, dialect);
        assert_eq!((answers.tally.tested, answers.tally.failed), (1, 0), "{}", loaded.findings);
    }
    // What is not admitted still fails, and a fault is told of once.
    for policy in [
        via.replace("\"accept\"", "\"deny\""),
        ping.replace("\"accept\"", "\"deny\""),
        ping.replace("\"*\"", "\"tcp:80\""),
        ping.replace("tag:srv:0", "tag:srv:80"),
        ping.replace("tag:srv:0", "tag:srv:*"),
    ] {
        let found = errors(&policy, THEIRS);
        assert!(matches!(&found[..], [text] if text.contains("test(s) failed")), "{policy}: {found:?}");
    }
}

#[test]
fn ssh_has_no_star_in_tailscales_dialect() {
    let ssh = |src: &str, dst: &str| {
        format!(
            r#""acls": [], "ssh": [{{"action": "accept", "src": ["{src}"], "dst": ["{dst}"], "users": ["root"]}}]"#
        )
    };
    assert_eq!(errors(&ssh("tag:srv", "tag:srv"), THEIRS), [""; 0]);
    for wrong in [ssh("tag:srv", "*"), ssh("*", "tag:srv")] {
        assert!(matches!(&errors(&wrong, THEIRS)[..], [text] if text.contains("wildcard (*)")));
        assert_eq!(errors(&wrong, OURS), [""; 0]);
    }
}

#[test]
fn roles_are_read_in_any_case_and_unknown_ones_told_of() {
    let inventory = r#"{"nodes": [], "users": [{"login": "a@x.y", "roles": ["Admin", "audtor"]}]}"#;
    let mut findings = bulkhead_policy::diagnostic::Findings::default();
    let read = bulkhead_policy::inventory::parse(&Source::new("i", inventory), &mut findings).unwrap();
    assert_eq!(read.users.unwrap()[0].roles, ["admin", "audtor"]);
    assert!(!findings.has_errors());
    assert_eq!(
        findings.to_string(),
        "i:1:63: unknown role \"audtor\": no autogroup has it (did you mean \"auditor\"?)"
    );
}

/// Checked without an inventory.
fn without_inventory(policy: &str, dialect: Dialect) -> (Loaded, Answers) {
    let policy = Source::new("p", &format!("{{{TAGS},\n{policy}}}"));
    let mut loaded = Loaded::new(policy, None, &Scope { dialect, ..Scope::default() });
    let answers = loaded.check(0);
    (loaded, answers)
}

#[test]
fn without_an_inventory_autogroups_have_placeholders() {
    let policy = r#""grants": [
        {"src": ["autogroup:member"], "dst": ["tag:srv"], "ip": ["tcp:443"]},
        {"src": ["autogroup:admin"], "dst": ["tag:srv"], "ip": ["*"]},
        {"src": ["autogroup:shared"], "dst": ["tag:srv"], "ip": ["tcp:80"]},
        {"src": ["user:*@other.example"], "dst": ["tag:srv"], "ip": ["tcp:81"]},
        {"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["tcp:22"]},
        {"src": ["autogroup:tagged"], "dst": ["autogroup:internet"], "ip": ["*"]},
        {"src": ["tag:srv"], "dst": ["autogroup:internet", "10.9.0.0/16"], "via": ["tag:exit"], "ip": ["*"]}],
        "tests": [{"src": "alice@example.com", "accept": ["tag:srv:22", "tag:srv:443"]},
                  {"src": "bob@example.com", "accept": ["tag:srv:443"], "deny": ["tag:srv:22"]},
                  {"src": "tag:srv", "accept": ["1.1.1.1:53", "10.9.1.1:53"]}]"#;
    for dialect in [OURS, THEIRS] {
        let (loaded, answers) = without_inventory(policy, dialect);
        let wrong = loaded.findings.0.iter().filter(|finding| finding.severity != Severity::Note).count();
        assert_eq!(wrong, 0, "{}", loaded.findings);
        assert_eq!((answers.tally.tested, answers.tally.failed), (6, 0));
    }
    // What fails whatever roles they have, fails.
    let denied = r#""acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:srv:22"]}],
        "tests": [{"src": "alice@example.com", "accept": ["tag:srv:23"]}]"#;
    for dialect in [OURS, THEIRS] {
        let (loaded, answers) = without_inventory(denied, dialect);
        assert_eq!((answers.tally.failed, loaded.findings.has_errors()), (1, true));
    }
}
